"""Schema ids are resolved by a schema registry: asked once, waited for, and told apart from a wrong id."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from wire import AT, ID, encoded, newest, records

from jobtrail.consumers import registry_schemas
from jobtrail.consumers.decode import Decoder
from jobtrail.consumers.registry_schemas import RegistrySchemas, registry_of
from jobtrail.errors import BadMessageError, ServerAwayError, SettingError
from jobtrail.events import StreamStats
from jobtrail.schemas import rendered
from jobtrail.settings import Settings
from jobtrail.wire import HEADER_SIZE

STATS = {"event_id": ID, "occurred_at": AT, "job_id": 7, "attempt_number": 0, "stream_name": "users"}
VALUE = encoded(newest(StreamStats), {**STATS, "reporter": "source", "sequence": 1})


def confluent(schema_id: int) -> bytes:
    return b"\0" + schema_id.to_bytes(4, "big") + VALUE[HEADER_SIZE:]


@dataclass
class Registry:
    """What a registry answers, and what it was asked."""

    port: int = 0
    answers: dict[str, tuple[int, str]] = field(default_factory=dict)
    asked: list[tuple[str, str | None]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://user:p%40ss@127.0.0.1:{self.port}/sr/"


@pytest.fixture
def registry() -> Iterator[Registry]:
    known = Registry(
        answers={
            "/sr/schemas/ids/5": (200, json.dumps({"schema": rendered(StreamStats)})),
            "/sr/schemas/ids/6": (200, json.dumps({"schema": '{"type": "object"}', "schemaType": "JSON"})),
            "/sr/schemas/ids/7": (200, json.dumps({"schema": '"string"'})),
            "/sr/schemas/ids/8": (500, "{}"),
            "/sr/schemas/ids/9": (200, "<html>"),
        }
    )

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known.asked.append((self.path, self.headers["Authorization"]))
            status, text = known.answers.get(self.path, (404, '{"error_code": 40403}'))
            self.send_response(status)
            self.send_header("Content-Length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        known.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield known
        server.shutdown()
        thread.join()


def test_messages_are_decoded_and_each_id_is_asked_for_once(registry: Registry) -> None:
    decoder = Decoder(schema_by_id=RegistrySchemas(registry.url))
    for _ in range(2):
        got = decoder.decode(records([(b"7", confluent(5))] * 100 + [(b"7", VALUE)]))
        assert got.frames[StreamStats].height == 101
        assert not got.bad
    secret = "Basic " + base64.b64encode(b"user:p@ss").decode()
    assert registry.asked == [("/sr/schemas/ids/5", secret)]


@pytest.mark.parametrize(
    ("schema_id", "said"), [(1, "knows no schema 1"), (6, "no Avro"), (7, "no released")]
)
def test_an_id_of_no_released_schema_is_a_dead_letter_and_is_asked_for_once(
    registry: Registry, schema_id: int, said: str
) -> None:
    decoder = Decoder(schema_by_id=RegistrySchemas(registry.url))
    value = confluent(schema_id)
    for _ in range(2):
        got = decoder.decode(records([(b"7", value)] * 3 + [(b"7", confluent(5))]))
        assert got.frames[StreamStats].height == 1
        assert [(letter.reason, letter.value) for letter in got.bad] == [("unknown_schema", value)] * 3
        assert said in got.bad[0].detail
    assert len(registry.asked) == 2


def test_an_unknown_id_is_asked_for_again_later(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry_schemas, "REFUSAL_HOLDS", 0.0)
    resolve = RegistrySchemas(registry.url)
    with pytest.raises(BadMessageError):
        resolve(1)
    registry.answers["/sr/schemas/ids/1"] = registry.answers["/sr/schemas/ids/5"]
    assert resolve(1) == rendered(StreamStats)


@pytest.mark.parametrize("schema_id", [8, 9])
def test_a_registry_that_does_not_answer_as_one_is_away_and_its_password_is_not_said(
    registry: Registry, schema_id: int
) -> None:
    with pytest.raises(ServerAwayError, match="JOBTRAIL_SCHEMA_REGISTRY_URL") as raised:
        RegistrySchemas(registry.url)(schema_id)
    assert "p@ss" not in str(raised.value)
    assert "p%40ss" not in str(raised.value)


def test_a_registry_that_is_not_there_is_away() -> None:
    decoder = Decoder(schema_by_id=RegistrySchemas("http://127.0.0.1:1"))
    with pytest.raises(ServerAwayError, match=r"127\.0\.0\.1:1"):
        decoder.decode(records([(b"7", confluent(5))]))


def test_the_setting_is_optional_and_checked() -> None:
    assert registry_of(Settings()) is None
    with pytest.raises(SettingError, match="JOBTRAIL_SCHEMA_REGISTRY_URL"):
        registry_of(Settings(schema_registry_url="file:///etc/passwd"))
