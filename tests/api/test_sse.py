"""The changes of one job as server-sent events, on real servers."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import httpx
import psycopg
import pytest
from api_scenes import created, failed_job, made, project, stats
from cli_service import Door
from psycopg.conninfo import conninfo_to_dict

from jobtrail import events as e
from jobtrail.api.models import JobInfoLightRead
from jobtrail.api.serve import bind, serving, url
from jobtrail.api.watcher import LOOK, State, Watcher, news
from jobtrail.settings import Settings

pytest_plugins = ["api_client"]
JOB = 7
ABOUT = {"job_id": JOB, "attempt_number": 0}


class Told(NamedTuple):
    """One event of a stream."""

    event: str
    id: str
    data: Any


class Stream:
    """Reads a stream as an EventSource does."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self.comments: list[str] = []
        self._lines = response.iter_lines()

    def __iter__(self) -> Iterator[Told]:
        fields: dict[str, str] = {}
        for line in self._lines:
            name, _, value = line.partition(": ")
            if line.startswith(":"):
                self.comments.append(line)
            elif name:
                fields[name] = value
            elif "event" in fields:
                yield Told(fields["event"], fields["id"], json.loads(fields["data"]))
                fields = {}

    def next(self) -> Told:
        return next(iter(self))

    def comment(self) -> str:
        """The next line that is a comment."""
        return next(line for line in self._lines if line.startswith(":"))


@contextmanager
def stream(client: httpx.Client, job_id: int = JOB, seen: str | None = None) -> Iterator[Stream]:
    headers = {} if seen is None else {"Last-Event-ID": seen}
    with client.stream("GET", f"/v1/jobs/{job_id}/events", headers=headers) as response:
        assert response.status_code == 200, response.read()
        yield Stream(response)


def light(status: str) -> State:
    job = {"id": 1, "configType": "sync", "configId": "c", "createdAt": 1, "updatedAt": 1, "status": status}
    return State.of(JobInfoLightRead.model_validate({"job": job}))


def test_news_are_what_was_not_seen() -> None:
    """Pure: by the id of the last event that somebody has."""
    running, failed = light("running"), light("failed")
    assert [event.event for event in news(None, running)] == ["job"]
    assert news(running.id, running) == []
    assert [event.event for event in news(running.id, failed)] == ["job", "end"]
    assert [event.event for event in news(failed.id, failed)] == ["end"]
    end = news(failed.id, failed)[0].id
    assert news(end, failed) == []
    assert [event.event for event in news("of another server", failed)] == ["job", "end"]


def test_each_change_is_told_until_the_job_is_decided(http: Any, database: str) -> None:
    """The state at once, then status, totals and failure as they change; `end`, and the stream is over."""
    about = {"id": JOB}
    project(database, [created(JOB)])
    with stream(http.client) as told:
        assert told.response.headers["content-type"].startswith("text/event-stream")
        first = told.next()
        assert (first.event, first.data) == ("job", http.asked("get_light", about))
        project(database, [made(e.AttemptStarted, 1, **ABOUT)])
        assert told.next().data["job"]["status"] == "running"
        project(database, [stats(JOB, 0, "users", 2, records_emitted=5)])
        assert told.next().data["job"]["aggregatedStats"]["recordsEmitted"] == 5
        project(database, failed_job(JOB)[-3:])
        last, end = told
        assert (last.event, last.data) == ("job", http.asked("get_light", about))
        assert last.data["job"]["failureReason"]["failureOrigin"] == "source"
        assert (last.data["job"]["status"], end.event, end.data) == ("failed", "end", {})


def test_a_decided_job_is_told_once(http: Any, database: str) -> None:
    """And to whom it was told, there is nothing to tell: 204 keeps an EventSource away."""
    project(database, failed_job(JOB))
    with stream(http.client) as told:
        job, end = told
    assert (job.event, end.event) == ("job", "end")
    with stream(http.client, seen=job.id) as told:
        assert list(told) == [end]
    again = http.client.get(f"/api/v1/jobs/{JOB}/events", headers={"Last-Event-ID": end.id})
    assert (again.status_code, again.content) == (204, b"")


def test_who_comes_back_is_told_only_what_is_new(http: Any, database: str) -> None:
    project(database, [created(JOB)])
    with stream(http.client) as told:
        seen = told.next().id
    with stream(http.client, seen=seen) as told:
        project(database, [made(e.AttemptStarted, 1, **ABOUT)])
        assert told.next().data["job"]["status"] == "running"


def test_an_unknown_job_is_404_and_no_stream(http: Any) -> None:
    answer = http.client.get("/v1/jobs/8/events")
    assert (answer.status_code, answer.json()) == (404, {"message": "there is no job 8", "id": 8})
    assert http.client.get("/v1/jobs/-1/events").status_code == 422


def test_all_watchers_share_one_look(http: Any, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty watch two jobs for a second: a handful of looks at both; each client is told of its own."""
    project(database, [created(JOB), created(8)])
    looks: list[set[int]] = []
    look = Watcher._look

    def counted(self: Watcher, job_ids: Collection[int]) -> Any:
        looks.append(set(job_ids))
        return look(self, job_ids)

    monkeypatch.setattr(Watcher, "_look", counted)
    told: dict[int, list[str]] = {}

    def watch(number: int) -> None:
        with stream(http.client, JOB + number % 2) as mine:
            told[number] = [entry.data["job"]["status"] for entry in mine if entry.event == "job"]

    threads = [threading.Thread(target=watch, args=(number,)) for number in range(20)]
    since = time.monotonic()
    for thread in threads:
        thread.start()
    time.sleep(1)
    project(database, [made(e.Cancelled, 5, job_id=JOB)])
    project(database, [made(e.JobFailed, 5, job_id=8)])
    for thread in threads:
        thread.join(30)
    assert [told[number][-1] for number in range(20)] == 10 * ["cancelled", "failed"]
    assert {JOB, 8} in looks
    assert len(looks) <= (time.monotonic() - since) / LOOK + 1


def test_no_look_is_taken_while_nobody_watches(http: Any, database: str) -> None:
    """Clients come and go in the middle of a stream; then Postgres is left alone."""
    asked = "SELECT max(query_start) FROM pg_stat_activity WHERE application_name = 'jobtrail-api'"
    project(database, [created(JOB)])
    with psycopg.connect(database, autocommit=True) as connection:

        def last() -> Any:
            return connection.execute(f"{asked} AND datname = current_database()").fetchall()

        for _ in range(5):
            with stream(http.client) as told:
                told.next()
                before = last()
                time.sleep(2 * LOOK)
                assert last() > before
        time.sleep(4 * LOOK)
        before = last()
        time.sleep(4 * LOOK)
        assert last() == before


def test_streams_are_bounded(http: Any, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One more is 503 with when to come back; there is room again once one has left."""
    monkeypatch.setattr("jobtrail.api.events.MOST_STREAMS", 1)
    project(database, [created(JOB)])
    with stream(http.client) as told:
        told.next()
        refused = http.client.get(f"/v1/jobs/{JOB}/events")
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "10")
        assert "streams are open" in refused.json()["message"]
    deadline = time.monotonic() + 10
    while True:
        with http.client.stream("GET", f"/v1/jobs/{JOB}/events") as response:
            if response.status_code == 200:
                break
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_comments_keep_a_quiet_stream_open(http: Any, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobtrail.api.events.PING", 0.2)
    project(database, [created(JOB)])
    with stream(http.client) as told:
        told.next()
        assert told.comment().startswith(": ping")
        assert told.comment().startswith(": ping")


def test_the_stream_outlives_a_postgres_that_goes_away(settings: Settings, database: str) -> None:
    """A comment says so, without the password; what happened meanwhile is told when it is back."""
    project(database, [created(JOB)])
    parts = conninfo_to_dict(database)
    door = Door((str(parts["host"]), int(str(parts["port"]))))
    door.open()
    through = database.replace(f":{parts['port']}/", f":{door.port}/")
    behind = settings.model_copy(update={"database_url": through})
    taken = bind(settings.model_copy(update={"api_port": 0}))
    client = httpx.Client(base_url=url(taken), timeout=60)
    with serving(behind, taken), client, stream(client) as told:
        told.next()
        door.close()
        comment = told.comment()
        assert "Postgres at" in comment
        assert str(parts["password"]) not in comment
        door.open()
        project(database, [made(e.Cancelled, 5, job_id=JOB)])
        job, end = told
        assert (job.data["job"]["status"], end.event) == ("cancelled", "end")
    door.close()


def test_a_stop_of_the_server_ends_streams_at_once(settings: Settings, database: str) -> None:
    """It does not wait out its grace, and the client sees an end, not a break."""
    project(database, [created(JOB)])
    taken = bind(settings.model_copy(update={"api_port": 0}))
    with httpx.Client(base_url=url(taken), timeout=60) as client:
        with serving(settings, taken):
            opened = client.stream("GET", f"/v1/jobs/{JOB}/events")
            told = Stream(opened.__enter__())
            told.next()
            since = time.monotonic()
        assert time.monotonic() - since < 3
        assert list(told) == []
        opened.__exit__(None, None, None)


def test_a_job_that_is_gone_ends_its_stream(http: Any, database: str) -> None:
    """As after a rebuild without it: the client comes back and finds 404."""
    project(database, [created(JOB)])
    with stream(http.client) as told:
        told.next()
        with psycopg.connect(database) as connection:
            connection.execute("DELETE FROM jobtrail_g1.jobs")
        assert list(told) == []


def test_a_slow_reader_is_told_the_newest(http: Any, database: str) -> None:
    """States in between are passed over, so that nothing is kept for those who do not read."""
    project(database, [created(JOB)])
    with stream(http.client) as told:
        told.next()
        for count in range(20):
            project(database, [stats(JOB, 0, "users", 2 + count, records_emitted=count)])
        project(database, [made(e.JobFailed, 50, job_id=JOB)])
        entries = list(told)
    assert entries[-1].event == "end"
    assert entries[-2].data["job"]["aggregatedStats"]["recordsEmitted"] == 19


def test_the_document_describes_the_stream(http: Any) -> None:
    """text/event-stream with an example, and every status it can answer."""
    operation = http.client.get("/openapi.json").json()["paths"]["/v1/jobs/{jobId}/events"]["get"]
    assert set(operation["responses"]) == {"200", "204", "401", "403", "404", "422", "503"}
    assert list(operation["responses"]["200"]["content"]) == ["text/event-stream"]
