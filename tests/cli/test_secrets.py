"""A worker whose stack trace holds a password, a token and an escape sequence tells nobody any of them."""

from __future__ import annotations

import json
import os
import pty
import shlex
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from cli_scenes import COMMAND, environment, jobtrail
from psycopg import sql
from running_service import becomes, running
from sdk_reading import messages, of_type, published

from jobtrail import Job, events, failures, hide_secrets
from jobtrail.producers.facts import make
from jobtrail.producers.publisher import Publisher
from jobtrail.settings import Settings

#: Has what JSON, URLs and shells spell otherwise.
PASSWORD = 'hun"ter2/ü'
MARKED = "correct horse battery"
TOKEN = "ghp_16C7e42F292c6912E7710c838347Ae178B4a"
KEY_LINE = "MIIEowIBAAKCAQEA75lvq3xQ"
ESCAPE = "\x1b]0;owned\x07\x1b[31m\u202e"
CONNECTION = "9924bcd0-99be-453d-ba47-c2c9766f7da5"
#: A piece of each secret: none of it may be found anywhere.
SECRETS = ("ter2", "horse", "16C7e42F", KEY_LINE)
SPEC = {
    "type": "SPEC",
    "spec": {"connectionSpecification": {"properties": {"phrase": {"airbyte_secret": True}}}},
}

CONNECTOR = f"""
import base64, json, sys, traceback
from urllib.parse import quote
config = json.load(open(sys.argv[sys.argv.index("--config") + 1]))
password, phrase = config["credentials"]["password"], config["phrase"]
escape = {ESCAPE!r}
def say(message):
    print(json.dumps(message), flush=True)
line = "login with " + password + " and {TOKEN} " + escape
say({{"type": "LOG", "log": {{"level": "ERROR", "message": line}}}})
print("printed outside of the protocol:", password, "{TOKEN}", escape, flush=True)
sys.stderr.write("stderr: " + password + " {TOKEN} " + phrase + escape + chr(10))
sys.stderr.write(chr(10).join(["-----BEGIN PRIVATE KEY-----", "{KEY_LINE}", "-----END PRIVATE KEY-----", ""]))
sys.stderr.write(base64.b64encode(password.encode()).decode() + " " + quote(password, safe="") + chr(10))
try:
    address = "postgres://etl:" + quote(password) + "@db"
    raise ConnectionError(address + " refused " + phrase + " {TOKEN} " + escape)
except ConnectionError:
    trace = traceback.format_exc() + json.dumps(config) + escape
if sys.argv[1] == "trace":
    say({{"type": "TRACE", "trace": {{"type": "ERROR", "emitted_at": 1, "error": {{
        "message": "cannot log in with " + password + escape, "internal_message": trace, "stack_trace": trace,
        "failure_type": "config_error"}}}}}})
sys.exit(1)
"""


@pytest.fixture
def source(tmp_path: Path) -> str:
    """The connector's command, but for how it tells of its failure, which is a word to fill in."""
    (tmp_path / "connector.py").write_text(CONNECTOR)
    (tmp_path / "spec.json").write_text(json.dumps(SPEC))
    (tmp_path / "config.json").write_text(
        json.dumps({"host": "db", "credentials": {"password": PASSWORD}, "phrase": MARKED})
    )
    script, config = tmp_path / "connector.py", tmp_path / "config.json"
    return f"{shlex.quote(sys.executable)} {script} %s read --config {config}"


def on_a_terminal(settings: Settings, *arguments: str) -> str:
    """What a command shows on a terminal, and its exit status does not matter."""
    ours, theirs = pty.openpty()
    shown = bytearray()

    def read() -> None:
        try:
            while part := os.read(ours, 65_536):
                shown.extend(part)
        except OSError:  # the other end is closed
            return

    reader = threading.Thread(target=read)
    reader.start()
    with subprocess.Popen(
        [*COMMAND, *arguments],
        env=environment(settings, COLUMNS="200", TERM="xterm"),
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
    ) as process:
        os.close(theirs)
        process.wait(120)
    reader.join(30)
    os.close(ours)
    return shown.decode()


def topic_bytes(settings: Settings) -> str:
    """All that is in the three topics: values, keys and headers."""
    found = bytearray()
    for topic in (settings.events_topic, settings.registry_topic, settings.dead_letters_topic):
        for message in messages(settings, topic):
            found += (message.value() or b"") + (message.key() or b"")
            found += repr(message.headers()).encode()
    return found.decode(errors="replace")


def every_table(settings: Settings) -> str:
    """All rows of all tables and views, as text."""
    said = []
    with psycopg.connect(settings.database_url or "") as connection:
        tables = connection.execute(
            "SELECT table_schema, table_name FROM information_schema.tables"
            " WHERE table_schema LIKE 'jobtrail%'"
        ).fetchall()
        assert len(tables) > 10
        for schema, name in tables:
            query = sql.SQL("SELECT t::text FROM {} t").format(sql.Identifier(schema, name))
            said += [row[0] for row in connection.execute(query)]
    return "\n".join(said)


def answers(address: str, job_id: int) -> str:
    """What HTTP says of the job, in all the ways."""
    said = []
    with httpx.Client(base_url=address, timeout=120) as client:
        one, attempt = {"id": job_id}, {"jobId": job_id, "attemptNumber": 0}
        asked: list[tuple[str, str, dict[str, Any] | None]] = [
            ("POST", "/api/v1/jobs/get", one),
            ("POST", "/api/v1/jobs/get_without_logs", one),
            ("POST", "/api/v1/jobs/get_light", one),
            ("POST", "/api/v1/jobs/list", {"configTypes": ["sync"], "configId": "c-1"}),
            ("POST", "/api/v1/attempt/get_for_job", attempt),
            ("GET", f"/v1/jobs/{job_id}", None),
            ("GET", f"/v1/jobs/{job_id}/history", None),
        ]
        for method, path, body in asked:
            answer = client.request(method, path, json=body)
            assert answer.status_code == 200, (path, answer.text)
            said.append(answer.text)
            said.append(json.dumps(answer.json(), ensure_ascii=False))
    return "\n".join(said)


def files(home: Path) -> str:
    """All that was written below the home."""
    found = [path.read_text("utf-8", "replace") for path in home.rglob("*") if path.is_file()]
    assert found
    return "\n".join(found)


def holds(text: str) -> list[str]:
    """The secrets in a text, also where JSON spells it."""
    return [secret for secret in SECRETS if secret in text]


@pytest.mark.parametrize("way", ["trace", "exit"])
def test_what_a_connector_tells_of_secrets_is_nowhere(
    settings: Settings, source: str, tmp_path: Path, way: str
) -> None:
    """By a TRACE ERROR, and by its last lines where it just ends."""
    options = ("--connection", "c-1", "--source", source % way, "--spec", str(tmp_path / "spec.json"))
    with running(settings) as address:
        seen = on_a_terminal(settings, "run", *options)
        piped = jobtrail(settings, "run", *options, "--json")
        assert piped.returncode == 1, piped.stderr
        job_id = json.loads(piped.stdout)["jobId"]
        with httpx.Client(base_url=address, timeout=120) as client:
            becomes(client, job_id, "failed")
        said = {
            "http": answers(address, job_id),
            "kafka": topic_bytes(settings),
            "postgres": every_table(settings),
            "files": files(settings.home),
            "stderr": piped.stderr + piped.stdout,
            "on a terminal": seen,
        }
        commands = [
            f"show {job_id} --stacktrace --logs",
            f"show {job_id} --json",
            f"history {job_id}",
            f"history {job_id} --json",
            "list",
        ]
        shown = {command: on_a_terminal(settings, "jobs", *command.split()) for command in commands}
    for where, text in {**said, **{f"jobs {command}": text for command, text in shown.items()}}.items():
        found = [text[max(0, text.find(secret) - 200) : text.find(secret) + 80] for secret in holds(text)]
        assert not found, (where, found)
        assert "\u202e" not in text, where
        assert where == "kafka" or "\x07" not in text, where  # in binary it is a number
        assert "\x1b]0;" not in text, where
    for text in (
        said["http"],
        said["kafka"],
        said["postgres"],
        said["files"],
        shown[f"show {job_id} --json"],
    ):
        assert "***token***" in text
        assert "***password***" in text
    assert "source is at fault" in said["on a terminal"]
    assert r"\x1b]0;owned\x07" in said["files"]
    assert r"\x1b]0;owned\x07" in shown[f"show {job_id} --stacktrace --logs"]


def test_what_an_sdk_is_told_of_is_in_none_of_its_failures(settings: Settings) -> None:
    """However the failure comes about: raised, reported, or published as an event by hand."""
    hide_secrets(
        {"api": {"phrase": MARKED}},
        {"properties": {"api": {"properties": {"phrase": {"airbyte_secret": True}}}}},
    )
    hide_secrets({"password": PASSWORD})
    told = f"{MARKED}, {PASSWORD} and {TOKEN}"
    with Publisher(settings) as publisher:
        with (
            pytest.raises(RuntimeError),
            Job.start(connection_id="c", publisher=publisher) as job,
            job.attempt() as attempt,
        ):
            attempt.failure(failures.destination(told, metadata={"said": [told], "deep": {PASSWORD: told}}))
            raise RuntimeError(told)
        by_hand = {"job_id": 7, "attempt_number": 0, "internal_message": told}
        publisher.publish(make(events.Failure, **by_hand, metadata=json.dumps({"a": told})))
        publisher.emit(events.Failure, **by_hand, stacktrace=told)
    assert len(of_type(published(settings), events.Failure)) == 4
    assert holds(topic_bytes(settings)) == []


def test_tap_passes_what_it_does_not_tell(settings: Settings, tmp_path: Path) -> None:
    """The pipe is the connectors' own; what is published of it is scrubbed."""
    config, spec = tmp_path / "config.json", tmp_path / "spec.json"
    config.write_text(json.dumps({"phrase": MARKED, "password": PASSWORD}))
    spec.write_text(json.dumps(SPEC))
    error = {"message": f"no {MARKED}", "stack_trace": f"{PASSWORD}\n{TOKEN}\n{ESCAPE}"}
    line = json.dumps({"type": "TRACE", "trace": {"type": "ERROR", "emitted_at": 1, "error": error}}) + "\n"
    passed = subprocess.run(
        [*COMMAND, "tap", "--connection", "c-1", "--config", str(config), "--spec", str(spec)],
        env=environment(settings),
        input=line,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert passed.stdout == line
    (failure,) = of_type(published(settings), events.Failure)
    assert failure.external_message == "no ***phrase***"
    assert failure.stacktrace == "***password***\n***token***\n" + r"\x1b]0;owned\x07\x1b[31m\u202e"
    assert holds(topic_bytes(settings)) == holds(passed.stderr) == []


def test_what_is_told_over_http_is_scrubbed_before_kafka(settings: Settings) -> None:
    """By its shape: the server knows no configurations."""
    with running(settings) as address, httpx.Client(base_url=address, timeout=120) as client:
        job = client.post("/v1/jobs", json={"connectionId": CONNECTION, "jobType": "sync"}).json()["jobId"]
        attempt = {"jobId": job, "attemptNumber": 0}
        assert client.post("/api/v1/attempt/create_new_attempt_number", json={"jobId": job}).is_success
        reason = {
            "timestamp": 1_760_000_000_000,
            "internalMessage": f"{TOKEN} {ESCAPE}",
            "stacktrace": f"password={PASSWORD}",
        }
        told = client.post("/api/v1/attempt/fail", json={**attempt, "failureSummary": {"failures": [reason]}})
        assert told.is_success, told.text
    (failure,) = of_type(published(settings), events.Failure)
    assert failure.internal_message == r"***token*** \x1b]0;owned\x07\x1b[31m\u202e"
    assert "16C7e42F" not in topic_bytes(settings) + every_table(settings)


def test_a_config_that_cannot_be_read_here_is_said(settings: Settings) -> None:
    """Its path may be one within a container: then only what looks like a secret is hidden."""
    found = jobtrail(settings, "run", "--connection", "c-1", "--source", "false read --config /none/c.json")
    assert found.returncode == 1
    assert "the configuration '/none/c.json' cannot be read" in found.stderr
    found = jobtrail(settings, "run", "--connection", "c-1", "--source", "false", "--config", "/none/c.json")
    assert found.returncode == 2
    assert found.stderr.count("\n") == 1
