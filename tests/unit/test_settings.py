from __future__ import annotations

import re
from pathlib import Path

import pytest

from anabranch.errors import SettingsError
from anabranch.placements import FOR_YOU, Placement
from anabranch.settings import Settings
from anabranch.settings_loader import FIELDS, RENAMED, as_text, load


def problems_of(env: dict[str, str], path: Path | None = None, **overrides: object) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as raised:
        load(path, env, overrides)
    return raised.value.problems


def test_the_command_line_beats_the_environment_beats_the_file_beats_the_default(tmp_path: Path) -> None:
    path = tmp_path / "anabranch.toml"
    path.write_text("linger_ms = 1\nbatch_max = 1\nslate_size = 1\n")
    settings = load(path, {"ANABRANCH_BATCH_MAX": "2", "ANABRANCH_SLATE_SIZE": "2"}, {"slate_size": 3})
    assert (settings.linger_ms, settings.batch_max, settings.slate_size) == (1, 2, 3)
    assert settings.history_length == Settings().history_length


def test_an_option_that_was_not_given_changes_nothing() -> None:
    assert load(None, {}, {"linger_ms": None}) == Settings()


def test_text_from_the_environment_becomes_the_fields_type() -> None:
    settings = load(None, {"ANABRANCH_EXCLUDE_SEEN": "true", "ANABRANCH_LINGER_MS": "5", "ANABRANCH_DATA_DIR": "/d"})
    assert settings.exclude_seen is True
    assert settings.linger_ms == 5
    assert settings.data_dir == Path("/d")


def test_every_problem_is_reported_at_once(tmp_path: Path) -> None:
    path = tmp_path / "anabranch.toml"
    path.write_text('linger_ms = "soon"\ncolour = "red"\n')
    problems = problems_of({"ANABRANCH_PARTITIONS": "0", "ANABRANCH_BATCH_MAXX": "1"}, path, start="now")
    assert len(problems) == 5


def test_a_problem_names_field_value_and_remedy() -> None:
    (problem,) = problems_of({"ANABRANCH_LINGER_MS": "soon"})
    assert "ANABRANCH_LINGER_MS" in problem
    assert "'soon'" in problem
    assert "leave it out for 20" in problem


def test_an_unknown_variable_is_an_error_with_a_suggestion() -> None:
    (problem,) = problems_of({"ANABRANCH_BOOTSTRAP_SERVER": "h:1"})
    assert "did you mean ANABRANCH_BOOTSTRAP_SERVERS?" in problem


def test_an_unknown_key_is_an_error_with_a_suggestion(tmp_path: Path) -> None:
    path = tmp_path / "anabranch.toml"
    path.write_text("slatesize = 3\n")
    (problem,) = problems_of({}, path)
    assert "did you mean slate_size?" in problem


def test_variables_that_mean_something_elsewhere_are_no_errors() -> None:
    load(None, {"ANABRANCH_BENCHMARK_DATA": "/data", "ANABRANCH_CONFIG": "/x.toml", "HOME": "/root"})


def test_a_file_that_is_no_toml_is_a_problem_not_a_traceback(tmp_path: Path) -> None:
    path = tmp_path / "anabranch.toml"
    path.write_text("= =")
    assert "cannot be read as TOML" in problems_of({}, path)[0]
    assert "cannot be read as TOML" in problems_of({}, tmp_path / "nowhere.toml")[0]


def test_a_secret_shows_nowhere() -> None:
    env = {
        "ANABRANCH_SECURITY_PROTOCOL": "SASL_SSL",
        "ANABRANCH_SASL_MECHANISM": "PLAIN",
        "ANABRANCH_SASL_USERNAME": "me",
        "ANABRANCH_SASL_PASSWORD": "hush",
    }
    settings = load(None, env)
    assert settings.sasl_password is not None
    assert settings.sasl_password.reveal() == "hush"
    assert "hush" not in repr(settings)
    assert "hush" not in str(settings.public())
    with pytest.raises(SettingsError) as raised:
        load(None, env | {"ANABRANCH_LINGER_MS": "x"}, {"sasl_password": "hush2"})
    assert "hush" not in str(raised.value)


@pytest.mark.parametrize("name", ["sasl_password", "ssl_key_password"])
def test_a_secret_on_the_command_line_is_refused_for_all_of_the_machine_can_read_it(name: str) -> None:
    with pytest.raises(SettingsError, match=f"set ANABRANCH_{name.upper()}, or {name}_file to a file"):
        load(None, {}, {name: "hush"})


def test_a_password_may_be_in_a_file_but_not_in_two_places(tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_text("hush\n")
    env = {
        "ANABRANCH_SECURITY_PROTOCOL": "SASL_SSL",
        "ANABRANCH_SASL_MECHANISM": "PLAIN",
        "ANABRANCH_SASL_USERNAME": "me",
        "ANABRANCH_SASL_PASSWORD_FILE": str(path),
    }
    assert load(None, env).sasl_password_file == path
    assert "give one" in problems_of(env | {"ANABRANCH_SASL_PASSWORD": "hush"})[0]
    path.unlink()
    assert "there is no such file" in problems_of(env)[0]


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ({"ANABRANCH_SECURITY_PROTOCOL": "SASL_SSL"}, "needs sasl_mechanism, sasl_username and sasl_password"),
        ({"ANABRANCH_SASL_PASSWORD": "hush"}, "set security_protocol to SASL_SSL"),
        ({"ANABRANCH_SSL_CAFILE": "/nowhere.pem"}, "there is no such file"),
        ({"ANABRANCH_SSL_KEYFILE": __file__}, "without ssl_certfile"),
        ({"ANABRANCH_BOOTSTRAP_SERVERS": "localhost"}, "ANABRANCH_BOOTSTRAP_SERVERS"),
        ({"ANABRANCH_COLLECT_ITEM_KEY": "product_id, sku"}, "ANABRANCH_COLLECT_ITEM_KEY"),
        ({"ANABRANCH_COLLECT_ITEM_KEY": ""}, "ANABRANCH_COLLECT_ITEM_KEY"),
        ({"ANABRANCH_TOPIC_PREFIX": "a b"}, "ANABRANCH_TOPIC_PREFIX"),
        ({"ANABRANCH_EXPLORE_NEW_ITEMS": "5"}, "without explore_places would explore nothing; set explore_places"),
        (
            {"ANABRANCH_PLACEMENTS": '[{"name": "home", "rotation": {}}]', "ANABRANCH_IMPRESSION_ITEMS": "19"},
            "impression_items 19 is less than the places of all slates, so that items would be forgotten",
        ),
        ({"ANABRANCH_EXPLORE_PLACES": "6"}, "more than a quarter of slate_size 20; lower it to 5, or raise slate_size"),
        ({"ANABRANCH_EXPLORE_PLACES": "1", "ANABRANCH_SLATE_SIZE": "3"}, "lower it to 0, or raise slate_size"),
        (
            {"ANABRANCH_NEIGHBOURS_SHARD": "2", "ANABRANCH_NEIGHBOURS_SHARDS": "2"},
            "neighbours_shard 2 is none of the 2 of neighbours_shards, which count from 0; set it to 1 or less",
        ),
        ({"ANABRANCH_EXPLORE_PLACES": "-1"}, "ANABRANCH_EXPLORE_PLACES"),
        (
            {"ANABRANCH_PLACEMENTS": "for_you"},
            "malformed JSON: invalid character (byte 5); leave",
        ),
        ({"ANABRANCH_PLACEMENTS": "[]"}, "of length >= 1"),
        ({"ANABRANCH_PLACEMENTS": '[{"name": "For you"}]'}, "matching regex"),
        ({"ANABRANCH_PLACEMENTS": '[{"name": "a", "repeat": "only"}]'}, "unknown field `repeat`"),
        ({"ANABRANCH_PLACEMENTS": '[{"name": "a"}, {"name": "a"}]'}, "name one of them differently"),
        ({"ANABRANCH_PLACEMENTS": '[{"name": "a", "without": ["b"]}, {"name": "b"}]'}, "no placement before it"),
        ({"ANABRANCH_EVENT_TYPES": '{"wishlist": "wish"}'}, "invalid enum value 'wish'"),
        ({"ANABRANCH_EVENT_TYPES": '{"": "like"}'}, "length >= 1"),
        ({"ANABRANCH_EVENT_TYPES": '{"View ": "click"}'}, "'View ' is an event type of Anabranch already"),
        ({"ANABRANCH_EVENT_TYPES": '{"wish": "like", "Wish": "view"}'}, "'wish' and 'Wish' differ in case alone"),
        ({"ANABRANCH_EVENT_TYPES": '{"stars": "rating"}'}, "'stars' cannot be a rating"),
    ],
)
def test_settings_that_cannot_work_are_refused(env: dict[str, str], expected: str) -> None:
    assert expected in problems_of(env)[0]


def test_placements_are_tables_in_the_file_and_json_elsewhere(tmp_path: Path) -> None:
    expected = (FOR_YOU, Placement(name="more", repeats="never", without=("for_you",)))
    path = tmp_path / "anabranch.toml"
    path.write_text(
        '[[placements]]\nname = "for_you"\n\n[[placements]]\nname = "more"\nrepeats = "never"\nwithout = ["for_you"]\n'
    )
    assert load(path, {}).placements == expected
    assert load(None, {"ANABRANCH_PLACEMENTS": as_text(expected)}).placements == expected
    assert load(None, {}, {"placements": as_text(expected)}).placements == expected


def test_event_types_of_the_shops_own_are_a_table_in_the_file_and_json_elsewhere(tmp_path: Path) -> None:
    path = tmp_path / "anabranch.toml"
    path.write_text('[event_types]\nwishlist = "like"\n"Cart Viewed" = "view"\n')
    expected = {"wishlist": "like", "Cart Viewed": "view"}
    assert load(path, {}).event_types == expected
    assert load(None, {"ANABRANCH_EVENT_TYPES": as_text(expected)}).event_types == expected
    assert load(None, {}).event_types == {}


@pytest.mark.parametrize("value", [True, False, 3, 0.5, "a", (FOR_YOU,)])
def test_the_text_of_a_value_is_read_as_that_value(value: object) -> None:
    name = {bool: "publish_purchase", int: "linger_ms", float: "retention_days", str: "client_id", tuple: "placements"}
    setting = name[type(value)]
    assert getattr(load(None, {f"ANABRANCH_{setting.upper()}": as_text(value)}), setting) == value


def test_releases_live_under_the_data_folder_unless_told_otherwise() -> None:
    assert load(None, {"ANABRANCH_DATA_DIR": "/d"}).releases_dir == Path("/d/releases")
    assert load(None, {"ANABRANCH_DATA_DIR": "/d", "ANABRANCH_RELEASES_DIR": "/r"}).releases_dir == Path("/r")


def test_groups_carry_the_topic_prefix() -> None:
    assert Settings(topic_prefix="shop.").group("ranker") == "shop.anabranch-ranker"


@pytest.mark.parametrize(("old", "name"), RENAMED.items())
def test_a_setting_is_read_by_its_old_name_from_every_source(old: str, name: str, tmp_path: Path) -> None:
    path = tmp_path / "anabranch.toml"
    path.write_text(f"{old} = {1 if name == 'retrieval_k' else 'true'}\n")
    for settings in (
        load(path, {}),
        load(None, {f"ANABRANCH_{old.upper()}": "1"}),
        load(None, {}, {old: "1"}),
    ):
        assert getattr(settings, name) == 1


def test_the_name_of_today_beats_the_old_one_in_the_same_source_and_a_later_source_beats_both() -> None:
    env = {"ANABRANCH_RETRIEVAL_K": "7", "ANABRANCH_RETRIEVE": "5"}
    assert load(None, env).retrieval_k == 7
    assert load(None, env, {"retrieve": 3}).retrieval_k == 3


NUMBERS = [name for name, kind in FIELDS.items() if any(number in str(kind) for number in ("<class 'int'>", "float"))]


@pytest.mark.parametrize("name", NUMBERS)
def test_every_number_has_an_upper_bound_and_the_error_names_setting_bound_and_remedy(name: str) -> None:
    (problem,) = problems_of({f"ANABRANCH_{name.upper()}": str(10**12)})
    assert f"ANABRANCH_{name.upper()} = '{10**12}'" in problem
    assert re.search(r"expected `(int|float)( \| null)?` <= \d+", problem)
    assert "leave it out" in problem


def test_users_and_events_that_together_have_more_blocks_than_numbers_are_refused() -> None:
    problems = problems_of({}, max_users=50_000_000, history_length=4096, own_items=128)
    assert [problem.split(" needs ")[0] for problem in problems] == ["max_users 50000000 with history_length 4096"]
