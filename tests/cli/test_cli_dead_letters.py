"""`jobtrail dead-letters`, as an operator types it, after a projector that could not read all."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from cli_scenes import jobtrail
from confluent_kafka import Producer

from jobtrail import codec
from jobtrail import events as e
from jobtrail.consumers.projector import project_until_caught_up
from jobtrail.projections.letters import DeadLetter
from jobtrail.projections.store import Store
from jobtrail.settings import Settings

#: Moves a terminal's cursor, turns text red and turns its direction; and bytes that are no text.
NASTY = "no event\x1b[31m\r\x07\u202e".encode() + b"\xff"
JOB = e.JobCreated(job_id=7, config_type="sync", config_id="c")
UNKNOWN = b"\xc3\x01" + bytes(8) + b"of a release to come"


@pytest.fixture
def letters(settings: Settings) -> Settings:
    """One event, and in partition 0: one of an unknown schema at 1, one of none at 2, a cut one at 3."""
    assert settings.kafka_bootstrap_servers
    producer = Producer({"bootstrap.servers": settings.kafka_bootstrap_servers})
    whole = codec.encode(JOB)
    for value in (whole, UNKNOWN, NASTY, whole[:-2]):
        producer.produce(settings.events_topic, value, JOB.key, partition=0)
        producer.flush(30)
    assert project_until_caught_up(settings).dead_letters == 3
    return settings


def place(settings: Settings, offset: int) -> str:
    return f"{settings.events_topic}:0:{offset}"


def told(settings: Settings, *arguments: str) -> Any:
    """What a command says as JSON, and that it is done."""
    found = jobtrail(settings, "dead-letters", *arguments, "--json")
    assert (found.returncode, found.stderr) == (0, "")
    return json.loads(found.stdout)


def refused(settings: Settings, status: int, *arguments: str) -> str:
    """The one line that a command ends with."""
    found = jobtrail(settings, "dead-letters", *arguments)
    assert (found.returncode, found.stderr.count("\n")) == (status, 1), found.stderr + found.stdout
    return found.stderr


def open_places(settings: Settings) -> set[str]:
    return {one["place"] for one in told(settings, "list", "--all")["deadLetters"]}


def now_understood(settings: Settings, offset: int) -> None:
    """As if the letter had been an event all along, that an older release did not know."""
    with psycopg.connect(settings.database_url or "") as connection:
        connection.execute(
            'UPDATE jobtrail.dead_letters SET value = %s WHERE "offset" = %s',
            (codec.encode(e.JobFailed(job_id=7)), offset),
        )


def test_they_are_grouped_by_reason_with_an_example(letters: Settings) -> None:
    """Most first; the example is a place that show takes."""
    found = told(letters, "list")
    assert found["totalCount"] == 3
    reasons = [(one["reason"], one["count"]) for one in found["reasons"]]
    assert reasons == [("unknown_schema", 2), ("truncated", 1)]
    unknown = found["reasons"][0]
    assert unknown["example"] == place(letters, 2)
    assert unknown["firstAt"] <= unknown["lastAt"]
    table = jobtrail(letters, "dead-letters").stdout
    assert [line.split()[:2] for line in table.splitlines()] == [
        ["reason", "letters"],
        ["unknown_schema", "2"],
        ["truncated", "1"],
    ]
    assert place(letters, 2) in table


def test_they_are_listed_one_by_one(letters: Settings) -> None:
    """Of a reason, or since an instant, or the newest few."""
    assert open_places(letters) == {place(letters, offset) for offset in (1, 2, 3)}
    (cut,) = told(letters, "list", "--reason", "truncated")["deadLetters"]
    assert (cut["place"], cut["valueBytes"]) == (place(letters, 3), len(codec.encode(JOB)) - 2)
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    assert told(letters, "list", "--all", "--since", later) == {"deadLetters": [], "totalCount": 0}
    assert told(letters, "list", "--since", later)["reasons"] == []
    few = jobtrail(letters, "dead-letters", "list", "--all", "--limit", "1").stdout
    assert place(letters, 3) in few
    assert "1 of 3 dead letters" in few


def test_without_any_it_says_so(settings: Settings) -> None:
    for arguments in (["list"], ["list", "--all"], ["list", "--reason", "malformed"]):
        found = jobtrail(settings, "dead-letters", *arguments)
        assert (found.returncode, found.stderr) == (0, "")
        assert found.stdout.startswith("no open dead letters")
    for action in ("retry", "drop"):
        found = jobtrail(settings, "dead-letters", action, "--all", "--yes")
        assert (found.returncode, found.stdout, found.stderr) == (0, f"nothing to {action}\n", "")


def test_one_is_shown_with_nothing_that_moves_the_terminal(letters: Settings) -> None:
    """Bytes as hex and as text; why it is none, and whether it can be read by now."""
    found = jobtrail(letters, "dead-letters", "show", place(letters, 2))
    assert (found.returncode, found.stderr) == (0, "")
    assert not {"\x1b", "\r", "\x07", "\u202e"} & set(found.stdout)
    assert r"no event\x1b[31m\r\x07\u202e\xff" in found.stdout
    assert "6e 6f 20 65 76 65 6e 74 1b 5b 33 31 6d 0d 07 e2" in found.stdout
    assert "now        not readable: unknown_schema" in found.stdout
    assert "key        7 (1 B)" in found.stdout
    shown = told(letters, "show", place(letters, 1))
    assert base64.b64decode(shown["valueBase64"]) == UNKNOWN
    assert base64.b64decode(shown["keyBase64"]) == b"7"
    assert "of no released schema" in shown["schema"]
    assert (shown["readableNow"], shown["fields"]) == (False, None)
    cut = told(letters, "show", place(letters, 3))
    assert cut["schema"] == "JobCreated, version 1"
    assert cut["whyNot"].startswith("truncated")


def test_what_could_be_decoded_is_shown_though_the_gate_refuses_it(settings: Settings) -> None:
    """Such as an event under another job's key."""
    at = datetime(2026, 3, 1, tzinfo=UTC)
    store = Store.open(settings.database_url or "")
    with store.transaction() as tx:
        tx.dead_letters([DeadLetter("t", "id", 0, 5, at, b"8", codec.encode(JOB), "wrong_key", "why")])
    store.close()
    shown = told(settings, "show", "t:0:5")
    assert (shown["eventType"], shown["fields"]["config_id"]) == ("JobCreated", "c")
    assert shown["whyNot"].startswith("wrong_key")


def test_a_long_value_is_cut_and_shown_whole_on_demand(settings: Settings) -> None:
    store = Store.open(settings.database_url or "")
    with store.transaction() as tx:
        tx.dead_letters(
            [DeadLetter("t", "id", 0, 5, datetime.now(UTC), None, b"x" * 3_000, "unknown_schema", "why")]
        )
    store.close()
    cut, whole = (jobtrail(settings, "dead-letters", "show", "t:0:5", *more) for more in ([], ["--whole"]))
    assert "1,976 bytes more" in cut.stdout
    assert "x" * 3_000 in whole.stdout
    assert "key        none" in whole.stdout


def test_a_retry_takes_what_can_be_read_and_says_why_the_rest_stays(letters: Settings) -> None:
    """Status 1 while something stays; what went leaves the lists and can be found among the resolved."""
    now_understood(letters, 1)
    found = jobtrail(letters, "dead-letters", "retry", "--all", "--yes", "--by", "ada")
    assert found.returncode == 1
    assert found.stdout == "retried 1 dead letter; 2 stay open\n"
    said = [line for line in found.stderr.splitlines() if " stays: " in line]
    assert [line.split(" stays: ")[0] for line in said] == [
        f"jobtrail: {place(letters, offset)}" for offset in (2, 3)
    ]
    assert "truncated" in said[1]
    assert open_places(letters) == {place(letters, 2), place(letters, 3)}
    job = jobtrail(letters, "jobs", "show", "7", "--json")
    assert json.loads(job.stdout)["job"]["status"] == "failed"
    (gone,) = told(letters, "list", "--all", "--resolved")["deadLetters"]
    assert (gone["place"], gone["resolution"], gone["resolvedBy"]) == (place(letters, 1), "retried", "ada")
    assert gone["retriedAs"].startswith(f"{letters.events_topic}:")
    assert project_until_caught_up(letters).dead_letters == 0
    assert "was retried" in refused(letters, 1, "retry", place(letters, 1))


def test_a_named_one_is_retried_without_asking(letters: Settings) -> None:
    """Status 0, for nothing of what was named stays."""
    now_understood(letters, 2)
    done = told(letters, "retry", place(letters, 2))
    assert [one["place"] for one in done["retried"]] == [place(letters, 2)]
    assert done["stay"] == []
    assert open_places(letters) == {place(letters, 1), place(letters, 3)}


def test_many_are_retried_or_dropped_only_where_somebody_says_yes(letters: Settings) -> None:
    for action in ("retry", "drop"):
        assert "--yes" in refused(letters, 2, action, "--all")
        assert "--yes" in refused(letters, 2, action, "--reason", "truncated", "--json")
    assert "Drop 1 dead letter?" in refused(letters, 2, "drop", place(letters, 1))
    assert len(open_places(letters)) == 3


def test_a_drop_leaves_a_trace_and_can_be_undone(letters: Settings) -> None:
    """Who dropped it, and when; a dropped one is retried by its place."""
    before = datetime.now(UTC)
    assert told(letters, "drop", "--reason", "unknown_schema", "--yes", "--by", "bob") == {"dropped": 2}
    assert open_places(letters) == {place(letters, 3)}
    gone = told(letters, "list", "--all", "--resolved")["deadLetters"]
    assert {(one["resolution"], one["resolvedBy"], one["retriedAs"]) for one in gone} == {
        ("dropped", "bob", None)
    }
    assert all(datetime.fromisoformat(one["resolvedAt"]) >= before - timedelta(seconds=5) for one in gone)
    assert "dropped" in jobtrail(letters, "dead-letters", "show", place(letters, 1)).stdout
    assert "by bob; nothing was done" in refused(letters, 1, "drop", place(letters, 1), "--yes")
    now_understood(letters, 1)
    assert len(told(letters, "retry", place(letters, 1))["retried"]) == 1


def test_an_export_has_every_byte_and_goes_on_behind_a_place(letters: Settings, tmp_path: Path) -> None:
    """A line for each, in the order of the log; a file that is there is not touched."""
    file = tmp_path / "letters.jsonl"
    found = jobtrail(letters, "dead-letters", "export", str(file))
    assert (found.returncode, found.stderr) == (0, "")
    assert found.stdout == f"exported 3 dead letters to {file}\n"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [one["offset"] for one in lines] == [1, 2, 3]
    values = [base64.b64decode(one["valueBase64"]) for one in lines]
    assert values == [UNKNOWN, NASTY, codec.encode(JOB)[:-2]]
    assert {base64.b64decode(one["keyBase64"]) for one in lines} == {b"7"}
    assert "is there already" in refused(letters, 2, "export", str(file))
    assert len(file.read_text().splitlines()) == 3
    assert "cannot be written" in refused(letters, 2, "export", str(tmp_path / "none" / "file"))
    rest = jobtrail(letters, "dead-letters", "export", "-", "--after", place(letters, 1))
    assert [json.loads(line) for line in rest.stdout.splitlines()] == lines[1:]
    some = jobtrail(letters, "dead-letters", "export", "-", "--reason", "truncated")
    assert [json.loads(line) for line in some.stdout.splitlines()] == lines[2:]


def test_places_and_reasons_that_are_none_are_named(letters: Settings) -> None:
    for action in (["show"], ["retry"], ["drop", "--yes"]):
        name, *options = action
        assert "no dead letter is at" in refused(letters, 1, name, place(letters, 99), *options)
        for wrong in ("events", "events:0", "events:0:x", "events:0:-1", "a:1:2:3", f"events:0:{2**63}"):
            assert "is no place" in refused(letters, 2, name, wrong, *options)
    for action in (["list"], ["retry", "--yes"], ["drop", "--yes"], ["export", "-"]):
        assert "did you mean 'unknown_schema'?" in refused(letters, 2, *action, "--reason", "unknown_shema")
    for action in (["retry"], ["drop"], ["retry", "--all", "--reason", "truncated"]):
        assert "say which" in refused(letters, 2, *action)


def test_one_place_in_two_topics_of_a_name_is_told_apart_by_their_ids(settings: Settings) -> None:
    store = Store.open(settings.database_url or "")
    with store.transaction() as tx:
        tx.dead_letters(
            [
                DeadLetter("t", topic_id, 0, 5, datetime.now(UTC), None, None, "null_value", topic_id)
                for topic_id in ("first", "second")
            ]
        )
    store.close()
    assert "say first:0:5 or second:0:5" in refused(settings, 2, "show", "t:0:5")
    assert told(settings, "show", "second:0:5")["detail"] == "second"
    assert told(settings, "drop", "first:0:5", "--yes") == {"dropped": 1}
    assert told(settings, "list")["totalCount"] == 1


def test_a_kafka_that_is_away_is_status_3_and_nothing_is_done(letters: Settings) -> None:
    now_understood(letters, 1)
    away = letters.model_copy(update={"kafka_bootstrap_servers": "127.0.0.1:9", "flush_timeout": 1.0})
    found = jobtrail(away, "dead-letters", "retry", place(letters, 1))
    assert (found.returncode, found.stdout) == (3, "")
    assert "JOBTRAIL_KAFKA_BOOTSTRAP_SERVERS" in found.stderr
    assert len(open_places(letters)) == 3


def test_the_doctor_tells_of_them(letters: Settings) -> None:
    found = jobtrail(letters, "doctor", "--json")
    (check,) = (one for one in json.loads(found.stdout) if one["what"] == "dead letters")
    assert check["level"] == "warn"
    assert "1 truncated, 2 unknown_schema; 3 of them new in the last hour" in check["found"]
    assert "jobtrail dead-letters list" in check["remedy"]
