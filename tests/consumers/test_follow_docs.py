"""Each block of docs/follow.md runs, on real servers, and all ways give the same answer."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from cli_scenes import COMMAND, environment
from confluent_kafka.admin import AdminClient
from following import made
from projecting import publish as put

from jobtrail import events as e
from jobtrail.consumers.projector import project_until_caught_up
from jobtrail.producers.publisher import Publisher
from jobtrail.settings import Settings

PAGE = (Path(__file__).parent.parent.parent / "docs" / "follow.md").read_text()
ANSWER = Counter({("source", "system_error"): 3, ("destination", "config_error"): 2, (None, None): 1})


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def command(block: str, name: str) -> list[str]:
    """What stands behind the prompt."""
    (line,) = [line for line in block.splitlines() if line.startswith("$ ")]
    found = shlex.split(line.removeprefix("$ "))
    assert found[0] == name
    return found[1:]


@pytest.fixture
def asked(settings: Settings) -> Settings:
    """Failures, one of them sent three times, other events, and messages that are none."""
    failures = [
        made(e.Failure, job_id=job, attempt_number=0, failure_origin=origin, failure_type=kind)
        for job, (origin, kind) in enumerate(ANSWER.elements())
    ]
    others = [made(e.JobFailed, job_id=failure.job_id) for failure in failures]
    with Publisher(settings) as publisher:
        publisher.publish_all([*failures, *others, failures[0], failures[0]])
    put(settings, [(b"1", b"garbage"), (b"1", None)])
    return settings


def ran(settings: Settings, program: str) -> Counter[tuple[str | None, str | None]]:
    """What the program prints, as an answer."""
    told = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        env=environment(settings),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert told.returncode == 0, told.stderr
    return read(told.stdout.splitlines())


def read(lines: list[str]) -> Counter[tuple[str | None, str | None]]:
    """Of several lines about the same the last is valid."""
    found = Counter[tuple[str | None, str | None]]()
    for line in lines:
        origin, kind, count = (None if word == "None" else word for word in line.split())
        found[origin, kind] = int(str(count))
    return found


def test_follow(asked: Settings) -> None:
    assert ran(asked, blocks("python")[0]) == ANSWER


def test_tail(asked: Settings) -> None:
    told = subprocess.run(
        [*COMMAND, *command(blocks("console")[0], "jobtrail")],
        env=environment(asked),
        capture_output=True,
        text=True,
        check=True,
    )
    assert len(told.stdout.splitlines()) == ANSWER.total() + 2  # one was sent three times


def test_a_group(asked: Settings) -> None:
    program = blocks("python")[1].replace('"pager"', f'"pager-{uuid.uuid4().hex[:8]}"')
    process = subprocess.Popen(
        [sys.executable, "-u", "-W", "error", "-c", program],
        env=environment(asked),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        told = [process.stdout.readline() for _ in range(ANSWER.total())]
    finally:
        process.kill()
        process.communicate()
    assert sorted(told) == [f"job {job} failed for good\n" for job in range(ANSWER.total())]


def test_polars(asked: Settings) -> None:
    assert ran(asked, blocks("python")[2]) == ANSWER


def test_sql(asked: Settings) -> None:
    project_until_caught_up(asked)
    (statement,) = blocks("sql")
    assert asked.database_url is not None
    with psycopg.connect(asked.database_url) as connection:
        rows = connection.execute(statement.encode()).fetchall()
    assert {(origin, kind): count for origin, kind, count in rows} == ANSWER


@pytest.fixture
def app(kafka_admin: AdminClient) -> Iterator[str]:
    """The name of a Faust application, whose topics are deleted after the test."""
    name = f"failures-{uuid.uuid4().hex[:8]}"
    yield name
    if made_by_it := [
        topic for topic in kafka_admin.list_topics(timeout=10).topics if topic.startswith(name)
    ]:
        kafka_admin.delete_topics(made_by_it)


def logged(file: Path) -> list[str]:
    """What the worker printed, without what Faust puts before each line and its banner."""
    lines = file.read_text().rpartition("\n")[0].splitlines()
    return [found[1] for line in lines if (found := re.search(r"WARNING\] (\w+ \w+ \d+) *$", line))]


def test_faust(asked: Settings, app: str, tmp_path: Path) -> None:
    pytest.importorskip("faust", reason="faust-streaming has no wheel for this platform")
    program = blocks("python")[3]
    assert "failures-by-origin" in program
    (tmp_path / "failures.py").write_text(program.replace("failures-by-origin", app))
    printed, said = tmp_path / "printed", tmp_path / "said"
    with printed.open("w") as out, said.open("w") as err:
        process = subprocess.Popen(
            [sys.executable, *command(blocks("console")[1], "python")],
            env=environment(asked),
            stdout=out,
            stderr=err,
            cwd=tmp_path,
        )
    try:
        deadline = time.monotonic() + 90
        while read(logged(said)) != ANSWER:
            assert process.poll() is None, said.read_text()
            assert time.monotonic() < deadline, (printed.read_text(), said.read_text())
            time.sleep(0.2)
    finally:
        process.kill()
        process.wait(10)


def test_every_block_is_tried() -> None:
    assert (len(blocks("python")), len(blocks("console")), len(blocks("sql"))) == (4, 2, 1)
    assert PAGE.count("```") == 2 * 7
