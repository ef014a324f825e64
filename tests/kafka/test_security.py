"""TLS and SASL/SCRAM on a real broker: who is let in, who is not and is told so, and that the password stays unseen."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from kafka.admin import NewTopic
from kafka.errors import SaslAuthenticationFailedError

from anabranch.cli import main
from anabranch.errors import BrokerRefused
from anabranch.kafka import clients
from anabranch.settings import Secret, Settings
from tests.kafka.secured import OTHER_CA, PASSWORD, Secured, start_secured
from tests.kafka.world import Process, World, purchases, variables

WRONG = "incorrect, zebra"
PATIENCE_S = 60.0
"""What a command may take to give up, the start of Python and torch on a busy machine included."""


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    with start_secured(tmp_path_factory.mktemp("secured")) as started:
        yield started


@pytest.fixture
def settings(secured: Secured, topic_prefix: str, tmp_path: Path) -> Settings:
    """Let in by password, with topics, groups and folders of this test's own."""
    return changed(secured.scram, topic_prefix=topic_prefix, data_dir=tmp_path, partitions=2)


def test_topics_are_provisioned_and_every_event_is_ranked_and_the_password_is_in_no_log(settings: Settings) -> None:
    assert anabranch(settings, "topics", "provision").returncode == 0
    world = World(settings)
    world.go_live("r1")

    with Process(changed(settings, log_level="DEBUG"), "rank", "--start", "earliest") as ranker:
        world.publish(purchases(100))
        rankings = world.await_rankings(100)
        assert ranker.terminate() == 0

    assert len({ranking.cause.event_id for ranking in rankings}) == 100
    assert "is live with" in ranker.log.read_text()
    assert PASSWORD not in ranker.log.read_text()


COMMANDS = (
    ("topics", "provision"),
    ("topics", "check"),
    ("catalogue", "items.jsonl"),
    ("replay", "events.jsonl"),
    ("collect", "--port", "0"),
    ("serve", "--port", "0"),
    ("index",),
    ("neighbours",),
    ("rank",),
    ("reshare", "--once"),
    ("rules", "list"),
    ("releases", "list"),
    ("releases", "show", "r1"),
    ("dead-letters", "show"),
    ("dead-letters", "replay"),
    ("inspect", "topic", "rankings"),
    ("inspect", "event", "e1"),
    ("inspect", "user", "u1"),
    ("demo", "--data-dir", "demo"),
    ("standalone",),
)
WITHOUT_THIS_BROKER = {"share", "evaluate", "results", "schema", "chaos", "bench", "broker", "check", "keys"}
"""They need none, or start their own."""


def test_no_command_is_forgotten_here() -> None:
    assert {arguments[0] for arguments in COMMANDS} == main.COMMANDS.keys() - WITHOUT_THIS_BROKER


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_a_wrong_password_ends_every_command_with_a_line_that_names_the_remedy(
    arguments: tuple[str, ...], settings: Settings
) -> None:
    (settings.data_dir / "items.jsonl").write_text('{"item_id": "i1", "title": "One"}\n')
    (settings.data_dir / "events.jsonl").write_text('{"user_id": "u1", "item_id": "i1", "ts": 1500000000000}\n')

    ended = anabranch(changed(settings, sasl_password=Secret(WRONG), live_neighbours=True), *arguments)

    assert ended.returncode == 1
    assert last_line(ended) == (
        f"anabranch: {settings.bootstrap_servers} refused user 'anabranch' by SCRAM-SHA-512. Correct sasl_username and "
        "sasl_password (ANABRANCH_SASL_USERNAME, ANABRANCH_SASL_PASSWORD)"
    )
    assert "Traceback" not in ended.stderr
    assert WRONG not in ended.stdout + ended.stderr


def test_a_broker_whose_certificate_is_of_an_unknown_ca_is_refused(secured: Secured, settings: Settings) -> None:
    ended = anabranch(changed(settings, ssl_cafile=secured.folder / OTHER_CA), "rank")

    assert ended.returncode == 1
    assert last_line(ended).startswith(
        f"anabranch: the certificate of {settings.bootstrap_servers} is not trusted: unable to get local issuer "
        "certificate. Set ssl_cafile"
    )
    assert "Traceback" not in ended.stderr


def test_a_broker_under_another_name_than_its_certificates_is_refused(secured: Secured) -> None:
    elsewhere = changed(secured.scram, bootstrap_servers=f"localhost:{secured.scram_port}")

    with pytest.raises(BrokerRefused, match=r"not valid for 'localhost'.*use the broker's name in its certificate"):
        clients.admin(elsewhere)


def test_a_mechanism_that_is_not_offered_is_named(secured: Secured) -> None:
    with pytest.raises(BrokerRefused, match="does not offer sasl_mechanism SCRAM-SHA-256"):
        clients.admin(changed(secured.scram, sasl_mechanism="SCRAM-SHA-256"))


def test_a_client_is_let_in_by_its_certificate(secured: Secured) -> None:
    with closing(clients.admin(secured.mutual)) as admin:
        assert admin.describe_cluster()["brokers"]


def test_a_client_without_the_certificate_that_is_asked_for_is_told_so(secured: Secured) -> None:
    with pytest.raises(BrokerRefused, match="If it needs a client certificate, set ssl_certfile"):
        clients.admin(changed(secured.mutual, ssl_certfile=None))


def test_a_password_that_changes_in_its_file_counts_from_the_next_connection_on(
    secured: Secured, tmp_path: Path
) -> None:
    path = tmp_path / "password"
    path.write_text(f"{PASSWORD}\n")
    settings = changed(secured.scram, sasl_password=None, sasl_password_file=path)
    with closing(clients.admin(settings)) as admin:  # connected to the bootstrap address, not yet to the controller
        path.write_text(WRONG)
        with pytest.raises(SaslAuthenticationFailedError):
            admin.create_topics([NewTopic("a", 1, 1)])
    path.write_text(PASSWORD)
    with closing(clients.admin(settings)) as admin:
        path.unlink()
        assert admin.create_topics([NewTopic("a", 1, 1)]), "the password read before"


def test_kafka_python_logs_no_password_even_at_debug(secured: Secured, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        for make in (clients.admin, clients.producer, lambda settings: clients.group_consumer(settings, "g")):
            make(secured.scram).close()

    assert "Starting KafkaAdminClient with configuration" in caplog.text
    assert "sasl_plain_password" in caplog.text
    assert PASSWORD not in caplog.text


@pytest.mark.parametrize(
    "arguments",
    [
        ("inspect", "settings"),
        ("--help",),
        ("rank", "--help"),
        ("--set", "partitions=many", "--set", "linger=1", "inspect", "settings"),
        ("--set", f"sasl_password {PASSWORD}", "inspect", "settings"),
        ("--set", f"sasl_pasword={PASSWORD}", "inspect", "settings"),
        ("--set", "security_protocol=SSL", "inspect", "settings"),
    ],
    ids=" ".join,
)
def test_the_password_shows_neither_in_settings_nor_help_nor_errors(
    arguments: tuple[str, ...], settings: Settings
) -> None:
    ended = anabranch(settings, *arguments)

    assert ended.stdout + ended.stderr
    assert PASSWORD not in ended.stdout + ended.stderr
    assert PASSWORD not in repr(settings)


# --- what the tests do ------------------------------------------------------------------------------------------------


def changed(settings: Settings, **changes: Any) -> Settings:
    if "data_dir" in changes:
        changes["releases_dir"] = changes["data_dir"] / "releases"
    return msgspec.structs.replace(settings, **changes)


def anabranch(settings: Settings, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command, to its end, in the folder of the settings' data."""
    return subprocess.run(
        [sys.executable, "-m", "anabranch", *arguments],
        env=os.environ | variables(settings) | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])},
        cwd=settings.data_dir,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )


def last_line(ended: subprocess.CompletedProcess[str]) -> str:
    return ended.stderr.splitlines()[-1]
