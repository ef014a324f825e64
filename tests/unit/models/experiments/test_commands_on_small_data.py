"""`share` and `evaluate` by their public path on small files: a result, or an error that says what to do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from typer.testing import CliRunner, Result

from anabranch.cli.main import app
from anabranch.release import open_release
from tests.support.data_folders import write_folder
from tests.support.input_files import write
from tests.support.text_models import write_text_model

MINUTE_MS = 60_000
START = 1_600_000_000_000
ITEMS = "item_id,title\n" + "".join(f"i{n},thing {n}\n" for n in range(12))


def rows(count: int, users: int = 4, step_ms: int = MINUTE_MS, item: str = "i{}") -> str:
    """Users by turns go through the items in order."""
    events = (f"u{n % users},{item.format(n // users % 12)},view,{START + n * step_ms}\n" for n in range(count))
    return "user_id,item_id,type,ts\n" + "".join(events)


@pytest.fixture(scope="module")
def text_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_text_model(tmp_path_factory.mktemp("text"), ["thing", *map(str, range(12))])


class Workplace:
    """A folder with files, in which commands run."""

    def __init__(self, folder: Path, text_model: Path) -> None:
        self.folder = folder
        self.release = folder / "release"
        self.kind: tuple[str, ...] = ("--kind", "sessions")
        self._text_model = text_model

    def share(self, *options: str | Path) -> Result:
        return self._run("share", "--out", self.release, "--protocol", "time-split", *options)

    def evaluate(self, *options: str | Path) -> Result:
        return self._run("evaluate", "--json", self.folder / "figures.json", *options)

    def files(self, events: str, items: str = ITEMS) -> tuple[str | Path, ...]:
        data, catalogue = write(self.folder, "events.csv", events), write(self.folder, "items.csv", items)
        return "--data", data, "--items", catalogue

    def _run(self, command: str, *options: str | Path) -> Result:
        common = ("--text-model", self._text_model, "--threads", "1", "--strategies", "none", *self.kind)
        arguments: Sequence[str | Path] = ("--data-dir", self.folder / "work", command, *common, *options)
        return CliRunner().invoke(app, list(map(str, arguments)))


@pytest.fixture
def workplace(tmp_path: Path, text_model: Path) -> Workplace:
    return Workplace(tmp_path, text_model)


# --- results ----------------------------------------------------------------------------------------------------------


def test_the_kind_of_a_file_of_events_is_found_and_decides_how_the_release_serves(workplace: Workplace) -> None:
    workplace.kind = ()
    done = workplace.share(*workplace.files(rows(400)))
    assert done.exit_code == 0, done.output
    assert "kind of data: sessions (" in done.output
    assert open_release(workplace.release).manifest.policy.allow_session_repeats


def test_a_release_is_made_from_files_of_other_columns_types_and_encoding(workplace: Workplace) -> None:
    events = rows(240).replace("user_id", "wer").replace("item_id", "was").replace("view", "gesehen")
    items = ITEMS.replace("title", "benennung").replace("thing", "käse")
    data, catalogue = write(workplace.folder, "e.csv", events), workplace.folder / "i.csv"
    catalogue.write_bytes(items.encode("cp1252"))
    columns = ("--columns", "user_id=wer,item_id=was,title=benennung")
    files = ("--data", data, "--items", catalogue, *columns, "--types", "gesehen=view")
    unread = workplace.share(*files)
    assert unread.exit_code == 2
    assert "--encoding cp1252" in unread.output
    done = workplace.share(*files, "--encoding", "cp1252")
    assert done.exit_code == 0, done.output
    open_release(workplace.release).verify()


def test_what_was_read_and_how_is_said(workplace: Workplace) -> None:
    events = rows(240).replace("user_id", "visitorid").replace("view", "gesehen")
    events += f"u1,elsewhere,gesehen,{START}\n"
    done = workplace.share(*workplace.files(events), "--types", "gesehen=view", "--columns", "user_id=visitorid")
    assert done.exit_code == 0, done.output
    lines = [line.strip() for line in done.output.splitlines()]
    assert "user_id is read from the column visitorid" in lines
    assert "type gesehen: read as view (241 rows)" in lines
    assert f"{workplace.folder / 'events.csv'}: 1 of 241 events name an item that is not in the catalogue" in lines
    open_release(workplace.release).verify()


def test_a_folder_of_parts_is_a_file_of_events(workplace: Workplace) -> None:
    header, *lines = rows(240).splitlines(keepends=True)
    write(workplace.folder, "events/part-0.csv", header + "".join(lines[:100]))
    write(workplace.folder, "events/part-1.csv", header + "".join(lines[100:]))
    _, _, *items = workplace.files("")
    done = workplace.evaluate("--data", workplace.folder / "events", *items)
    assert done.exit_code == 0, done.output
    figures = msgspec.json.decode((workplace.folder / "figures.json").read_bytes())
    assert figures["prequential"]["served"]["events"] == 48


def test_an_evaluation_says_which_sources_propose_the_next_items(workplace: Workplace) -> None:
    """Users go through twelve items in a circle: after the first round all of them are the user's own."""
    done = workplace.evaluate("--protocol", "time-split", "--share", "0.8", *workplace.files(rows(400)))
    assert done.exit_code == 0, done.output
    figures = msgspec.json.decode((workplace.folder / "figures.json").read_bytes())
    candidates = figures["candidates"]
    assert candidates["all"]["events"] == figures["all"]["events"] == candidates["repeat"]["events"]
    assert candidates["all"]["share"] == candidates["all"]["sources"]["own_events"]["share"] == 1
    assert candidates["all"]["share"] >= figures["all"]["recall"]["20"]
    assert "Next items among the candidates" in done.output


def test_an_evaluation_says_how_varied_slates_are_and_what_a_varied_placement_costs(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twelve items of two categories, one of which has ten."""
    placements = (
        '[{"name": "first"}, {"name": "varied", "at_most": {"category": 1}}, {"name": "new", "repeats": "never"}]'
    )
    monkeypatch.setenv("ANABRANCH_PLACEMENTS", placements)
    items = "item_id,title,category\n" + "".join(f"i{n},thing {n},kind {n // 10}\n" for n in range(12))
    options = ("--protocol", "time-split", "--share", "0.8")
    done = workplace.evaluate(*options, *workplace.files(rows(400), items))
    assert done.exit_code == 0, done.output
    figures = msgspec.json.decode((workplace.folder / "figures.json").read_bytes())
    variety, cost = figures["variety"], figures["cost_of_variety"]
    assert (variety["first"]["categories"], variety["varied"]["categories"]) == (2, 2)
    assert variety["first"]["largest"] == pytest.approx(10 / 12)
    assert variety["varied"]["largest"] == pytest.approx(1 / 2)
    assert list(cost) == ["varied"], "the placement of new items shows others"
    lost = figures["placements"]["varied"]["recall"]["20"] - figures["all"]["recall"]["20"]
    assert cost["varied"]["recall_at_20"]["difference"] == pytest.approx(lost)
    assert cost["varied"]["recall_at_20"]["low"] <= lost <= 0, "the next item is always the best one"
    assert "Categories of slates" in done.output
    titles = [line.split(":")[0] for line in done.output.splitlines() if ": finished" in line]
    assert titles[-2:] == ["Rank the test", "Candidates of the test"], "candidates and slates are measured together"
    assert "divergence from the user's" in done.output, "a table is not cut where the output is no terminal"


def test_of_items_with_one_id_the_last_row_counts(workplace: Workplace) -> None:
    done = workplace.share(*workplace.files(rows(240), ITEMS + "i3,thing 4\ni3,thing 5\n"))
    assert done.exit_code == 0, done.output
    assert "  12 items" in done.output.splitlines()


def test_a_catalogue_of_equal_texts_makes_a_release(workplace: Workplace) -> None:
    items = "item_id,title\n" + "".join(f"i{n},thing\n" for n in range(12))
    done = workplace.share(*workplace.files(rows(240), items))
    assert done.exit_code == 0, done.output
    measured = open_release(workplace.release).manifest.strategy["measured"]
    assert all(value == value for value in measured.values()), "none is NaN"


def test_the_test_is_ranked_again_without_each_named_part_on_the_same_events(workplace: Workplace) -> None:
    parts = ("encoder", "neighbours", "learned_order", "texts")
    options = ("--protocol", "time-split", "--without", ",".join(parts), "--ranks", workplace.folder / "ranks.npz")
    done = workplace.evaluate(*workplace.files(rows(400)), *options)
    assert done.exit_code == 0, done.output
    figures = msgspec.json.decode((workplace.folder / "figures.json").read_bytes())
    assert tuple(figures["without"]) == parts
    assert {rest["all"]["events"] for rest in figures["without"].values()} == {figures["all"]["events"]}
    trained_again = [rest["trained_again"] for rest in figures["without"].values()]
    assert trained_again == ["list ranker", "list ranker", "nothing", "release"]
    with np.load(workplace.folder / "ranks.npz") as ranks:
        assert tuple(ranks["without"]) == parts
        assert ranks["without_rank"].shape == (len(parts), len(ranks["rank"]))
        assert (ranks["without_rank"] != ranks["rank"]).any()
    assert "without learned_order" in done.output


def test_the_events_before_the_test_are_divided_again_for_validation(workplace: Workplace) -> None:
    files = workplace.files(rows(400))
    events = []
    for options in ((), ("--validation",)):
        done = workplace.evaluate(*files, "--protocol", "time-split", *options)
        assert done.exit_code == 0, done.output
        events.append(msgspec.json.decode((workplace.folder / "figures.json").read_bytes())["all"]["events"])
    assert events == [80, 32], "of the 320 events before the test, the last tenth, which trained the list ranker"


def test_the_weeks_of_a_file_are_predicted_one_by_one_and_by_stale_releases(workplace: Workplace) -> None:
    """Of 50 days the first half is learned before the first of three weeks."""
    files = workplace.files(rows(400, step_ms=3 * 60 * MINUTE_MS))
    done = workplace.evaluate(*files, "--protocol", "weekly", "--way", "shared", "--share", "0.5")
    assert done.exit_code == 0, done.output
    periods = msgspec.json.decode((workplace.folder / "figures.json").read_bytes())["ways"]["shared"]["periods"]
    assert [period["all"]["events"] for period in periods] == [56, 56, 56]
    assert [list(period["stale"]) for period in periods] == [[], ["1"], ["1", "2"]]
    assert "shared - 2 weeks old" in done.output


# --- errors -----------------------------------------------------------------------------------------------------------

TOO_LITTLE = {
    "no rows": ("user_id,item_id,ts\n", ITEMS, "events.csv holds no rows"),
    "no catalogue": (rows(60), "item_id,title\n", "items.csv holds no rows"),
    "only removed items": (rows(60), "item_id,title,deleted\ni1,thing,yes\n", "the catalogue has no items"),
    "ids that join with nothing": (
        rows(60, item="{}.0x"),
        ITEMS,
        "none of the 60 events is about an item of the catalogue. The events have '0.0x'",
    ),
    "searches alone": (
        "user_id,query,type,ts\nu,soup,search,1600000000000\nu,bread,search,1600000001000\n",
        ITEMS,
        "The events have no item ids",
    ),
    "all at one instant": (rows(60, step_ms=0), ITEMS, "at too few different times to be divided"),
    "one day of dates": (
        "user_id,item_id,ts\n" + "".join(f"u{n},i{n % 12},2020-09-22\n" for n in range(60)),
        ITEMS,
        "the 60 events lie from 2020-09-22T00:00:00Z to 2020-09-22T00:00:00Z",
    ),
    "one event": (rows(1), ITEMS, "at too few different times to be divided"),
    "users who never come back": (rows(60, users=60), ITEMS, "there is nothing to learn the order of candidates from"),
}


@pytest.mark.parametrize("case", TOO_LITTLE)
def test_too_little_to_train_on_is_an_error_that_leaves_nothing_behind(case: str, workplace: Workplace) -> None:
    events, items, problem = TOO_LITTLE[case]
    failed = workplace.share(*workplace.files(events, items))
    assert isinstance(failed.exception, SystemExit)
    assert failed.exit_code in (1, 2)
    assert problem in failed.output
    assert not workplace.release.exists()


@pytest.mark.parametrize("case", TOO_LITTLE)
def test_too_little_to_evaluate_is_an_error(case: str, workplace: Workplace) -> None:
    events, items, _ = TOO_LITTLE[case]
    failed = workplace.evaluate(*workplace.files(events, items))
    assert isinstance(failed.exception, SystemExit)
    assert failed.exit_code in (1, 2)
    assert list((workplace.folder / "work").glob("tmp*")) == [], "the scratch folder of the release is removed"


def test_a_test_without_an_event_that_can_be_predicted_is_an_error(workplace: Workplace) -> None:
    strangers = "".join(f"new{n},i{n % 12},view,{START + (240 + n) * MINUTE_MS}\n" for n in range(60))
    failed = workplace.evaluate(*workplace.files(rows(240) + strangers), "--protocol", "time-split", "--share", "0.85")
    assert failed.exit_code == 1
    assert "events: none of the 45 test events has an earlier event of its user" in failed.output


def test_a_search_without_anything_to_score_its_trials_on_is_an_error(workplace: Workplace) -> None:
    failed = workplace.share(*workplace.files(rows(60, users=60)), "--search-seconds", "1")
    assert failed.exit_code == 1
    assert "trials of the search cannot be scored: leave out --search-seconds" in failed.output
    assert not workplace.release.exists()


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (
            ("--without", "magic"),
            "has no part 'magic'; it has encoder, neighbours, own_items, learned_order, texts, or",
        ),
        (("--without", "own_items", "--kind", "histories"), "has no part 'own_items'"),
        (("--without", "texts", "--protocol", "prequential"), "--without is for protocols with one test"),
        (("--without", "texts", "--release", "elsewhere"), "leave --release out"),
        (("--without", "texts", "--search-seconds", "1"), "leave --search-seconds out"),
        (("--train-on", "train"), "--train-on is for protocol leave-one-out, not for time-split"),
        (("--validation", "--protocol", "weekly"), "--validation is for protocols with one test"),
    ],
)
def test_options_of_an_evaluation_that_do_not_fit_are_refused(
    options: tuple[str, ...], problem: str, workplace: Workplace
) -> None:
    failed = workplace.evaluate(*workplace.files(rows(400)), "--protocol", "time-split", *options)
    assert failed.exit_code == 2
    assert problem in failed.output


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--protocol", "sessions"), "is a file. For a file of events pass --protocol time-split"),
        (("--protocol", "weekly"), "protocol weekly compares releases of several periods: run it with"),
        (("--type", "sold"), "--type: 'sold' is none of view, cart, purchase"),
        (("--columns", "who=user_id"), "there is no field who"),
        (("--columns", "user_id=who"), "there is no column who; "),
    ],
)
def test_options_that_do_not_fit_are_refused(options: tuple[str, ...], problem: str, workplace: Workplace) -> None:
    failed = workplace.share(*workplace.files(rows(60)), *options)
    assert failed.exit_code == 2
    assert problem in failed.output


def test_a_folder_of_benchmark_data_takes_no_options_of_files(workplace: Workplace) -> None:
    sessions = {"train": [(1, 0, 1), (1, 1, 2)], "test": [(2, 0, 1), (2, 1, 2)]}
    folder = write_folder(workplace.folder / "data", sessions)
    for options in (("--items", "items.csv"), ("--types", "a=view"), ("--encoding", "cp1252")):
        failed = workplace.share("--data", folder, "--protocol", "sessions", *options)
        assert failed.exit_code == 2
        assert "reads folders of parquet files: --items, --columns, --types" in failed.output
    failed = workplace.share("--data", folder, "--protocol", "weekly")
    assert failed.exit_code == 2
    assert "protocol weekly compares releases of several periods: run it with `anabranch evaluate`" in failed.output


def test_a_file_of_events_needs_its_catalogue(workplace: Workplace) -> None:
    data, path, *_ = workplace.files(rows(60))
    failed = workplace.share(data, path)
    assert failed.exit_code == 2
    assert "reads a file of events and its catalogue: give it as --items" in failed.output


def test_a_part_of_benchmark_data_without_rows_is_named(workplace: Workplace) -> None:
    folder = write_folder(workplace.folder / "data", {"train": [(1, 0, 1), (1, 1, 2)]})
    parquet.write_table(
        pa.table({name: pa.array([], pa.int64()) for name in ("user_id", "position", "item_id")}),
        folder / "test.parquet",
    )
    failed = workplace.evaluate("--data", folder, "--protocol", "sessions")
    assert failed.exit_code == 1
    assert "test.parquet holds no rows" in failed.output


def test_names_are_ids_of_benchmark_data(workplace: Workplace) -> None:
    """`(user, position, item)` with text as ids, and a catalogue of such ids."""
    folder = workplace.folder / "data"
    folder.mkdir()
    for part, users in (("train", range(40)), ("test", range(40, 44))):
        rows = [(f"u{user}", place, f"sku-{(user + place) % 12}") for user in users for place in range(5)]
        columns = zip(*rows, strict=True)
        table = dict(zip(("user_id", "position", "item_id"), columns, strict=True))
        parquet.write_table(
            pa.table({name: list(column) for name, column in table.items()}), folder / f"{part}.parquet"
        )
    items = {"item_id": [f"sku-{n}" for n in range(12)], "title": [f"thing {n}" for n in range(12)]}
    parquet.write_table(pa.table(items), folder / "items.parquet")
    done = workplace.evaluate("--data", folder, "--protocol", "sessions")
    assert done.exit_code == 0, done.output
    assert msgspec.json.decode((workplace.folder / "figures.json").read_bytes())["all"]["events"] == 16
