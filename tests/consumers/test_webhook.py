"""What a webhook's receiver gets, from a real server: signed, again after trouble, never twice by its key."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from alert_scenes import Scene, rule, run_at
from projecting import query
from webhook_receiver import HOOK, SECRET, Receiver, receiving

from jobtrail.consumers.alerts.outbox import Outbox, delivering
from jobtrail.consumers.alerts.rules import RuleKind
from jobtrail.consumers.alerts.webhook import WebhookError, post, target
from jobtrail.errors import SettingError
from jobtrail.settings import Settings

DOCUMENT = {"alertId": "a", "detail": "é"}


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A server that takes webhooks."""
    with receiving() as found:
        yield found


def test_the_signature_verifies_as_standard_webhooks_says(receiver: Receiver) -> None:
    """By the receiver's own means: id, time and body, under the key that stands behind whsec_."""
    before = int(time.time())
    post(receiver.target, "alert-1", DOCUMENT)
    ((headers, body),) = receiver.heard
    assert json.loads(body) == DOCUMENT
    assert headers["webhook-id"] == headers["idempotency-key"] == "alert-1"
    assert before <= int(headers["webhook-timestamp"]) <= time.time()
    signed = f"alert-1.{headers['webhook-timestamp']}.".encode() + body
    expected = base64.b64encode(hmac.new(b"a key of the receiver", signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"
    assert headers["content-type"] == "application/json"


def test_the_signature_is_that_of_the_specifications_example() -> None:
    """The vector that the reference libraries of Standard Webhooks are tested with."""
    from jobtrail.consumers.alerts.webhook import signature

    key = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    found = signature(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", b'{"test": 2432232314}')
    assert found == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_redirects_are_not_followed(receiver: Receiver) -> None:
    receiver.answers = [302]
    with pytest.raises(WebhookError, match="answered 302; redirects are not followed"):
        post(receiver.target, "a", DOCUMENT)
    assert len(receiver.heard) == 1


def _drip(handler: BaseHTTPRequestHandler) -> None:
    """A byte of an endless header, again and again: no single wait is long."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nx: ")
    try:
        for _ in range(100):
            handler.wfile.write(b"x")
            handler.wfile.flush()
            time.sleep(0.1)
    except OSError:
        pass  # whoever asked has had enough
    handler.close_connection = True


def _silent(handler: BaseHTTPRequestHandler) -> None:
    time.sleep(2)
    handler.close_connection = True


@pytest.mark.parametrize("answer", [_drip, _silent])
def test_an_answer_that_never_ends_is_not_waited_for(answer: Callable[..., None], receiver: Receiver) -> None:
    receiver.answers = [answer]
    begun = time.monotonic()
    with pytest.raises(WebhookError, match=r"within 0\.5 s"):
        post(receiver.target, "a", DOCUMENT, timeout=0.5)
    assert time.monotonic() - begun < 1.9


def test_what_goes_wrong_is_told_without_address_and_key(receiver: Receiver) -> None:
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/hidden"
        with pytest.raises(WebhookError) as refused:
            post(target(HOOK, {"OPS_URL": url, "OPS_SECRET": SECRET}), "a", DOCUMENT)
    with pytest.raises(WebhookError) as unknown:
        post(target(HOOK, {"OPS_URL": "http://no.such.host.invalid/hidden", "OPS_SECRET": "k"}), "a", {})
    tls = receiver.url.replace("http:", "https:")
    with pytest.raises(WebhookError) as plain:
        post(target(HOOK, {"OPS_URL": tls, "OPS_SECRET": "k"}), "a", {})
    for error in (refused, unknown, plain):
        assert "hidden" not in str(error.value)
        assert "127.0.0.1" not in str(error.value)
    assert "refused" in str(refused.value)
    assert "no TLS" in str(plain.value)
    assert "hidden" not in repr(receiver.target)
    assert "key of" not in repr(receiver.target)


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({}, "OPS_URL: is not set; webhook ops needs the address"),
        ({"OPS_URL": "hidden"}, "OPS_URL: is no address of a webhook; write https"),
        ({"OPS_URL": "file:///etc/hidden"}, "OPS_URL: is no address of a webhook"),
        ({"OPS_URL": "https://user:hidden@host/"}, "without a user"),
        ({"OPS_URL": "https://host:hidden/"}, "OPS_URL: is no address"),
        ({"OPS_URL": "https://host/hidden here"}, "OPS_URL: has spaces"),
        ({"OPS_URL": "https://host/"}, "OPS_SECRET: is not set; webhook ops needs the key"),
        (
            {"OPS_URL": "https://host/", "OPS_SECRET": "whsec_hidden!"},
            "OPS_SECRET: is no base64 after whsec_",
        ),
    ],
)
def test_a_wrong_address_or_key_is_one_error_that_shows_neither(environ: dict[str, str], said: str) -> None:
    with pytest.raises(SettingError) as raised:
        target(HOOK, environ)
    assert said in str(raised.value)
    assert "hidden" not in str(raised.value)


@pytest.fixture
def scene(settings: Settings) -> Iterator[Scene]:
    """A connection that has begun to succeed without a record, which is to be posted."""
    with Scene(settings, rules=(rule(RuleKind.ZERO_RECORD_SUCCESS, "ops"),)) as found:
        found.happen(run_at(-24 * 9), run_at(-1))
        found.look(0)
        found.happen(run_at(1, records=0))
        assert found.look(1) == 1
        yield found


def posted(outbox: Outbox, receiver: Receiver, count: int) -> None:
    until = time.monotonic() + 20
    while len(receiver.heard) < count:
        assert time.monotonic() < until
        if not outbox.post():
            time.sleep(0.01)


def test_it_is_posted_again_after_trouble_under_the_same_key(
    scene: Scene, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    """Later each time; the resolution waits for it, and has a key of its own."""
    receiver.answers = [500, 503, 429]
    outbox = Outbox(scene.settings, {"ops": receiver.target}, pause=0.1)
    scene.happen(run_at(2))
    assert scene.look(2) == 1
    with caplog.at_level(logging.DEBUG, "jobtrail"):
        posted(outbox, receiver, 5)
    assert not outbox.post()
    ((alert_id,),) = query(scene.settings, "SELECT alert_id::text FROM jobtrail.alerts")
    assert receiver.keys == [alert_id] * 4 + [f"{alert_id}:resolved"]
    bodies = [json.loads(body) for _, body in receiver.heard]
    assert [body["status"] for body in bodies] == ["triggered"] * 4 + ["resolved"]
    assert bodies[0] == bodies[3]
    page = (Path(__file__).parents[2] / "docs" / "alerts.md").read_text("utf-8")
    listed = page.partition("A POST of JSON: ")[2].partition(". It is signed")[0]
    assert {*re.findall(r"`(\w+)`", listed)} - {"triggered", "resolved"} == set(bodies[0]) == set(bodies[4])
    assert {body["alertId"] for body in bodies} == {alert_id}
    assert scene.waiting() == [("topic", "triggered"), ("topic", "resolved")]
    said = "\n".join(record.getMessage() for record in caplog.records)
    assert "webhook ops did not take" in said
    assert "hidden" not in said
    assert SECRET not in said


def test_one_that_never_takes_it_is_given_up_and_seen(
    scene: Scene, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.answers = [500] * 100
    outbox = Outbox(scene.settings, {"ops": receiver.target}, pause=0.05, patience=0.5)
    until = time.monotonic() + 20
    given_up = (
        "SELECT given_up_at IS NOT NULL, problem FROM jobtrail.alert_outbox WHERE channel = 'webhook:ops'"
    )
    with caplog.at_level(logging.ERROR, "jobtrail"):
        while query(scene.settings, given_up) != [(True, "it answered 500")]:
            assert time.monotonic() < until
            outbox.post()
            time.sleep(0.01)
    assert not outbox.post()
    assert len({*receiver.keys}) == 1
    assert any("given up" in record.getMessage() for record in caplog.records)


def test_what_was_for_a_webhook_that_is_no_more_is_said(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "jobtrail"):
        Outbox(scene.settings, {}).forget_orphans()
    assert "the rules have no webhook ops any more" in caplog.text
    given_up = "SELECT channel, problem FROM jobtrail.alert_outbox WHERE given_up_at IS NOT NULL"
    assert query(scene.settings, given_up) == [("webhook:ops", "the rules have no such webhook any more")]


def test_one_that_hangs_holds_up_no_other(scene: Scene, receiver: Receiver) -> None:
    """However much waits for it, and however long that has waited."""
    released = threading.Event()
    more = (
        "INSERT INTO jobtrail.alert_outbox (event_id, channel, alert_id, status, body, next_try_at)"
        " SELECT gen_random_uuid(), 'webhook:slow', gen_random_uuid(), status, body, kept_at - interval '1 h'"
        " FROM jobtrail.alert_outbox, generate_series(1, 20) WHERE channel = 'webhook:ops' RETURNING 1"
    )
    with receiving() as slow:
        slow.answers = [lambda _: released.wait(30)] * 20
        assert len(query(scene.settings, more)) == 20
        with delivering(scene.settings, {"slow": slow.target, "ops": receiver.target}):
            until = time.monotonic() + 5
            while not receiver.heard and time.monotonic() < until:
                time.sleep(0.05)
            heard, hung = len(receiver.heard), len(slow.heard)
            released.set()
    assert (heard, hung) == (1, 1)


def test_each_webhook_has_its_turn(scene: Scene, receiver: Receiver) -> None:
    """Where there are more of them than threads."""
    more = (
        "INSERT INTO jobtrail.alert_outbox (event_id, channel, alert_id, status, body)"
        " SELECT gen_random_uuid(), 'webhook:' || number % 3, gen_random_uuid(), status, body"
        " FROM jobtrail.alert_outbox, generate_series(0, 8) number WHERE channel = 'webhook:ops' RETURNING 1"
    )
    assert len(query(scene.settings, more)) == 9
    outbox = Outbox(scene.settings, {str(number): receiver.target for number in range(3)})
    left = (
        "SELECT channel, count(*) FROM jobtrail.alert_outbox WHERE delivered_at IS NULL AND channel ~ '[0-9]'"
        " GROUP BY channel ORDER BY channel"
    )
    assert outbox.post()
    assert query(scene.settings, left) == [(f"webhook:{number}", 2) for number in range(3)]
    assert outbox.post(0, 2)
    assert query(scene.settings, left) == [("webhook:0", 1), ("webhook:1", 2), ("webhook:2", 1)]
