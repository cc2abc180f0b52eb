from __future__ import annotations

import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from cli_scenes import jobtrail, succeeded_job
from cli_service import PATIENCE, Door, exists, memory, started

from jobtrail import embedded
from jobtrail.embedded import running
from jobtrail.producers.publisher import Publisher
from jobtrail.settings import Settings

MOST_MEMORY = 1_200_000_000


@pytest.fixture
def home() -> Iterator[Path]:
    """A home that the account which runs the servers can enter."""
    folder = Path(tempfile.mkdtemp(prefix="jobtrail up "))
    folder.chmod(0o755)
    yield folder / "home"
    embedded.stop(folder / "home", on_progress=lambda _: None)
    shutil.rmtree(folder)


def eventually(url: str, status: int) -> httpx.Response:
    """The first answer with that status."""
    until = time.monotonic() + PATIENCE
    while True:
        answer = httpx.get(url, timeout=30)
        if answer.status_code == status or time.monotonic() > until:
            assert answer.status_code == status, answer.text
            return answer
        time.sleep(0.2)


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
@pytest.mark.timeout(300)
def test_up_runs_everything_in_little_memory_and_stops_cleanly(home: Path, settings: Settings) -> None:
    """One command; a second one says where the first answers; SIGTERM leaves nothing behind."""
    mine = Settings(home=home, cache=settings.cache)
    with started(mine, "up") as up:
        url = up.url()
        up.await_line("stop ")
        assert any(f"export JOBTRAIL_HOME='{home}'" in line for line in up.lines)
        eventually(f"{url}/ready", 200)
        with Publisher(mine) as publisher:
            publisher.publish_all(succeeded_job(7))
        watched = jobtrail(mine, "jobs", "watch", "7")
        assert (watched.returncode, watched.stderr) == (0, "")
        light = httpx.post(f"{url}/api/v1/jobs/get_light", json={"id": 7}).json()
        assert light["job"]["status"] == "succeeded"

        second = jobtrail(mine, "up")
        assert (second.returncode, second.stderr.count("\n")) == (1, 1)
        assert url in second.stderr
        assert "jobtrail down" in second.stderr
        checked = jobtrail(mine, "doctor")
        assert (checked.returncode, [line[:4] for line in checked.stdout.splitlines()]) == (0, ["ok  "] * 9)

        pids = [int((home / "run" / f"{name}.pid").read_text()) for name in ("kafka", "postgres")]
        time.sleep(3)
        used = memory([up.process.pid, *pids])
        assert 0 < used < MOST_MEMORY
        assert up.end(signal.SIGTERM) == 0
    assert running(home) is None
    assert not any(exists(pid) for pid in pids)
    assert "Traceback" not in "\n".join(up.lines)


@pytest.mark.timeout(300)
def test_down_stops_what_a_killed_up_left_and_data_stay(home: Path, settings: Settings) -> None:
    """After kill -9 the servers stay; `down` ends them; the next `up` has the jobs."""
    mine = Settings(home=home, cache=settings.cache)
    with started(mine, "up") as up:
        up.url()
        with Publisher(mine) as publisher:
            publisher.publish_all(succeeded_job(7))
        until = time.monotonic() + PATIENCE
        while jobtrail(mine, "jobs", "watch", "7").returncode:  # the projector may still join its group
            assert time.monotonic() < until
        assert up.end(signal.SIGKILL) == -signal.SIGKILL
    assert running(home) is not None
    stopped = jobtrail(mine, "down")
    assert (stopped.returncode, stopped.stdout) == (0, f"stopped what ran under {home}\n")
    assert running(home) is None
    with started(mine, "up") as again:
        again.url()
        assert "succeeded" in jobtrail(mine, "jobs", "list").stdout
        # down ends a running service as well
        assert jobtrail(mine, "down").returncode == 0
        assert again.process.wait(PATIENCE) == 0
    assert jobtrail(mine, "down").stdout == f"nothing runs under {home}\n"


def test_a_taken_port_is_one_line_and_nothing_starts(home: Path, settings: Settings) -> None:
    mine = Settings(home=home, cache=settings.cache)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        found = jobtrail(mine, "up", JOBTRAIL_API_PORT=str(taken.getsockname()[1]))
    assert (found.returncode, found.stderr.count("\n")) == (2, 1)
    assert "JOBTRAIL_API_PORT" in found.stderr
    assert running(home) is None


def test_other_machines_need_tokens(home: Path, settings: Settings) -> None:
    mine = Settings(home=home, cache=settings.cache)
    found = jobtrail(mine, "up", JOBTRAIL_API_HOST="0.0.0.0")  # noqa: S104  # refused
    assert (found.returncode, found.stderr.count("\n")) == (2, 1)
    assert "JOBTRAIL_API_TOKENS" in found.stderr


@pytest.mark.timeout(300)
def test_up_waits_for_its_servers_and_goes_on_when_they_are_back(settings: Settings) -> None:
    """One line names the address and the setting; what comes while Postgres is away is not lost."""
    assert settings.database_url
    assert settings.kafka_bootstrap_servers
    database = urlsplit(settings.database_url)
    postgres = Door((database.hostname or "", database.port or 5432))
    host, _, port = settings.kafka_bootstrap_servers.partition(":")
    kafka = Door((host, int(port)))
    address = database._replace(netloc=f"{database.username}:{database.password}@127.0.0.1:{postgres.port}")
    mine = settings.model_copy(
        update={
            "database_url": address.geturl(),
            "kafka_bootstrap_servers": f"127.0.0.1:{kafka.port}",
        }
    )
    try:
        with started(mine, "up") as up:
            away = up.await_line(f"127.0.0.1:{kafka.port}")
            assert "JOBTRAIL_KAFKA_BOOTSTRAP_SERVERS" in away
            kafka.open()
            away = up.await_line(f"127.0.0.1:{postgres.port}")
            assert "JOBTRAIL_DATABASE_URL" in away
            assert (database.password or "-") not in away
            postgres.open()
            url = up.url()
            eventually(f"{url}/ready", 200)

            postgres.close()
            reasons = eventually(f"{url}/ready", 503).json()["reasons"]
            assert "JOBTRAIL_DATABASE_URL" in reasons[0]
            with Publisher(settings) as publisher:
                publisher.publish_all(succeeded_job(7))
            postgres.open()
            eventually(f"{url}/ready", 200)
            assert jobtrail(settings, "jobs", "watch", "7").returncode == 0
            assert up.end(signal.SIGINT) == 0
        assert "Traceback" not in "\n".join(up.lines)
    finally:
        kafka.close()
        postgres.close()


@pytest.mark.timeout(300)
def test_the_roles_run_apart(settings: Settings) -> None:
    """migrate, projector and api, each by itself, and each ends on a signal with status 0."""
    again = jobtrail(settings, "migrate", "--json")
    assert (again.returncode, again.stdout) == (0, "[]\n")
    with started(settings, "projector") as projector, started(settings, "api") as api:
        projector.await_line("folding")
        url = api.url()
        with Publisher(settings) as publisher:
            publisher.publish_all(succeeded_job(7))
        assert jobtrail(settings, "jobs", "list").returncode == 0
        until = time.monotonic() + PATIENCE
        while httpx.post(f"{url}/v1/jobs/get_light", json={"id": 7}).status_code != 200:
            assert time.monotonic() < until
            time.sleep(0.1)
        assert (projector.end(signal.SIGTERM), api.end(signal.SIGINT)) == (0, 0)
