from __future__ import annotations

import re
import socket
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import psycopg
import pytest
from api_scenes import failed_job, project

from jobtrail import events as e
from jobtrail.api.access import BODY_LIMIT, check_listen, tokens_from
from jobtrail.api.serve import bind, serving, url
from jobtrail.consumers.projector import project_until_caught_up
from jobtrail.errors import SettingError, UsageError
from jobtrail.producers.publisher import Publisher
from jobtrail.settings import Settings

pytest_plugins = ["api_client"]
TOKEN = "a-token-of-sixteen-or-more"


def test_ready_once_the_projector_has_caught_up(http: Any, settings: Settings) -> None:
    """Alive at once, ready when the read models hold what is in the log."""
    assert http.client.get("/health").json() == {"available": True}
    with Publisher(settings) as publisher:
        publisher.publish_all(failed_job(7))
    project_until_caught_up(settings)
    answer = http.client.get("/ready")
    assert (answer.status_code, answer.json()) == (
        200,
        {"ready": True, "reasons": [], "degraded": False, "warnings": [], "behind": 0, "deadLetters": 0},
    )
    assert http.asked("get_light", {"id": 7})["job"]["status"] == "failed"


def test_not_ready_while_behind(http: Any, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """503 with the reason, so that a load balancer sends nobody here."""
    monkeypatch.setattr("jobtrail.api.readiness.READY_WITHIN", 5)
    with Publisher(settings) as publisher:
        publisher.publish_all(e.JobCreated(job_id=n, config_type="sync", config_id="c") for n in range(6))
    answer = http.client.get("/ready")
    assert answer.status_code == 503
    assert answer.json()["behind"] == 6
    assert "6 messages behind" in answer.json()["reasons"][0]


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port where nobody listens, and nobody else can."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


def test_servers_that_are_away_are_named_with_their_settings(settings: Settings, closed_port: int) -> None:
    """Alive, not ready, and each request says why, without the password."""
    away = settings.model_copy(
        update={
            "database_url": f"postgresql://somebody:secret@127.0.0.1:{closed_port}/jobtrail",
            "kafka_bootstrap_servers": f"127.0.0.1:{closed_port}",
        }
    )
    taken = bind(away.model_copy(update={"api_port": 0}))
    with serving(away, taken), httpx.Client(base_url=url(taken), timeout=60) as client:
        assert client.get("/health").status_code == 200
        job = client.post("/api/v1/jobs/get", json={"id": 1})
        ready = client.get("/ready")
    assert (job.status_code, ready.status_code) == (503, 503)
    assert f"127.0.0.1:{closed_port}/jobtrail" in job.json()["message"]
    assert "JOBTRAIL_DATABASE_URL" in job.json()["message"]
    kafka, postgres = ready.json()["reasons"]
    assert "JOBTRAIL_KAFKA_BOOTSTRAP_SERVERS" in kafka
    assert "JOBTRAIL_DATABASE_URL" in postgres
    assert "secret" not in job.text + ready.text


def test_a_mistake_of_ours_is_told_in_json_without_its_inside(
    http: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """500 in the shape of all other errors; what broke is for the log alone."""

    def breaks(*_: object) -> None:
        raise RuntimeError("column secret_of_ours")

    monkeypatch.setattr("jobtrail.api.reads.job_info", breaks)
    answer = http.post("get", {"id": 7})
    assert answer.status_code == 500
    assert answer.json().keys() == {"message"}
    assert "secret_of_ours" not in answer.text


def test_a_request_that_is_too_large_is_refused(http: Any) -> None:
    """Announced or not, no more than the limit is read."""
    announced = http.client.post("/api/v1/jobs/get", content=b" " * (BODY_LIMIT + 1))

    def pieces() -> Iterator[bytes]:
        for _ in range(BODY_LIMIT // 100_000 + 1):
            yield b" " * 100_000

    chunked = http.client.post(
        "/api/v1/jobs/get", content=pieces(), headers={"content-type": "application/json"}
    )
    assert (announced.status_code, chunked.status_code) == (413, 413)


def test_with_tokens_only_probes_are_open(settings: Settings, database: str) -> None:
    """A bearer token lets in, any other text does not."""
    project(database, failed_job(7))
    taken = bind(settings.model_copy(update={"api_port": 0}))
    tokens = ["another-long-enough-token", TOKEN]
    with serving(settings, taken, tokens), httpx.Client(base_url=url(taken), timeout=60) as client:

        def status(authorization: str | None) -> int:
            headers = {"authorization": authorization} if authorization else {}
            return client.post("/v1/jobs/get_light", json={"id": 7}, headers=headers).status_code

        assert status(f"Bearer {TOKEN}") == 200
        assert [status(text) for text in (None, "Bearer", f"Bearer {TOKEN}x", f"Basic {TOKEN}")] == [401] * 4
        assert client.get("/health").status_code == 200
        none, wrong = (client.get("/v1/jobs", headers=shown) for shown in ({}, {"authorization": "Bearer x"}))
        assert none.json() == {"message": "a bearer token is needed"}
        assert wrong.json() == {"message": "the bearer token is none of this server's tokens"}


def test_the_description_can_be_read_without_a_token(settings: Settings) -> None:
    """By a browser, with what its page loads; data cannot."""
    taken = bind(settings.model_copy(update={"api_port": 0}))
    with serving(settings, taken, [TOKEN]), httpx.Client(base_url=url(taken), timeout=60) as client:
        page = client.get("/docs")
        loaded = re.findall(r"""(?:src|href)=["']([^"']+)""", page.text)
        assert {client.get(path).status_code for path in ("/docs", "/openapi.json", *loaded)} == {200}
        for path in ("/docs/../v1/jobs", "/static-offline-docs/../v1/jobs", "/openapi.jsonx", "/v1/jobs"):
            assert client.get(path).status_code == 401, path


def test_without_tokens_only_this_machines_own_names_are_answered(settings: Settings, database: str) -> None:
    """A page in a browser here must not read by a name of its own; with tokens, or on purpose, any does."""
    project(database, failed_job(7))
    own = ["localhost", "LOCALHOST:8700", "127.0.0.1:1", "127.8.9.1", "[::1]", "[::1]:8700"]
    other = [
        "evil.example",
        "evil.example:8700",
        "localhost.evil.example",
        "192.0.2.1",
        "127.0.0.1.evil.example",
    ]

    def answers(tokens: list[str], *, insecure: bool = False) -> list[int]:
        taken = bind(settings.model_copy(update={"api_port": 0}))
        bearer = {"authorization": f"Bearer {TOKEN}"}
        with serving(settings, taken, tokens, insecure=insecure), httpx.Client(base_url=url(taken)) as client:
            return [
                client.get("/v1/jobs/7", headers={"host": host, **bearer}).status_code for host in own + other
            ]

    assert answers([]) == [200] * len(own) + [403] * len(other)
    assert answers([TOKEN]) == answers([], insecure=True) == [200] * len(own + other)


def test_health_and_reads_are_answered_while_kafka_hangs(settings: Settings) -> None:
    """Writes that are more than may wait are refused, so that others find a thread."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(200)  # takes connections, and never says a word
        hanging = settings.model_copy(
            update={"kafka_bootstrap_servers": f"127.0.0.1:{silent.getsockname()[1]}"}
        )
        taken = bind(hanging.model_copy(update={"api_port": 0}))
        with serving(hanging, taken), httpx.Client(base_url=url(taken), timeout=60) as client:
            client.get("/v1/jobs")
            with ThreadPoolExecutor(60) as pool:
                body = {"workspaceId": "w"}
                asked = [
                    pool.submit(httpx.post, f"{url(taken)}/v1/workspaces/register", json=body, timeout=60)
                    for _ in range(60)
                ]
                until = time.monotonic() + 30
                while not any(one.done() for one in asked):
                    assert time.monotonic() < until
                    time.sleep(0.01)
                waits = sum(not one.done() for one in asked)
                health, read = client.get("/health"), client.get("/v1/jobs")
                assert sum(not one.done() for one in asked) > 0, "they were asked while others waited"
                said = Counter("too many writes" in one.result().text for one in asked)
                codes = {one.result().status_code for one in asked}
    assert (health.status_code, read.status_code, codes) == (200, 200, {503})
    assert waits
    assert said[True]


def test_health_is_answered_while_every_thread_waits(http: Any, database: str) -> None:
    """It needs none: a probe must not end a server that is only busy."""
    with psycopg.connect(database) as connection, ThreadPoolExecutor(60) as pool:
        connection.execute("LOCK TABLE jobtrail_g1.jobs IN ACCESS EXCLUSIVE MODE")
        with httpx.Client(base_url=http.client.base_url, timeout=60) as many:
            asked = [pool.submit(many.get, "/v1/jobs") for _ in range(60)]
            time.sleep(0.5)
            began = time.monotonic()
            for path in ("/health", "/v1/health"):
                assert http.client.get(path).status_code == 200
            took = time.monotonic() - began
            assert not any(one.done() for one in asked)
            connection.rollback()
            assert {one.result().status_code for one in asked} <= {200, 503}
    assert took < 1


def test_listens_elsewhere_only_with_tokens_or_on_purpose() -> None:
    """Read models name failures and connectors: not for everybody on the network by mistake."""
    for host in ("127.0.0.1", "::1", "localhost"):
        check_listen(host, [], insecure=False)
    check_listen("0.0.0.0", [TOKEN], insecure=False)  # noqa: S104  # not listened on
    check_listen("0.0.0.0", [], insecure=True)  # noqa: S104
    with pytest.raises(UsageError, match="JOBTRAIL_API_TOKENS"):
        check_listen("0.0.0.0", [], insecure=False)  # noqa: S104
    assert tokens_from({"JOBTRAIL_API_TOKENS": f" {TOKEN}, {TOKEN}2 "}) == (TOKEN, f"{TOKEN}2")
    with pytest.raises(UsageError, match="fewer than 16"):
        tokens_from({"JOBTRAIL_API_TOKENS": "short"})


def test_serves_on_a_socket_and_gives_the_port_back(settings: Settings, database: str) -> None:
    """A taken port is one clear error; once the server has stopped, the port is free again."""
    project(database, failed_job(7))
    taken = bind(settings.model_copy(update={"api_port": 0}))
    port = taken.getsockname()[1]
    same = settings.model_copy(update={"api_port": port})
    with serving(settings, taken):
        answer = httpx.post(f"{url(taken)}/api/v1/jobs/get_light", json={"id": 7})
        assert answer.json()["job"]["id"] == 7
        with pytest.raises(SettingError, match="JOBTRAIL_API_PORT"):
            bind(same)
    bind(same).close()


def test_the_interface_is_described(http: Any) -> None:
    """OpenAPI has every path, with the old counters marked deprecated."""
    described = http.client.get("/openapi.json").json()
    paths = {
        f"{prefix}/jobs/{name}" for prefix in ("/api/v1", "/v1") for name in ("get", "get_light", "list")
    }
    assert paths | {"/health", "/ready", "/metrics"} <= described["paths"].keys()
    attempt = described["components"]["schemas"]["AttemptRead"]["properties"]
    assert attempt["bytesSynced"]["deprecated"] is True
    assert attempt["recordsSynced"]["deprecated"] is True
    assert described["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"
    create, health = described["paths"]["/v1/jobs/create"]["post"], described["paths"]["/health"]["get"]
    assert {"401", "413"} <= create["responses"].keys()
    assert "security" in create
    assert not {"401", "413"} & health["responses"].keys()
    assert "security" not in health
    page = http.client.get("/docs")
    loaded = re.findall(r"""(?:src|href)=["']([^"']+)""", page.text)
    assert loaded
    for address in loaded:
        assert address.startswith("/"), "the page needs another host"
        assert http.client.get(address).status_code == 200
