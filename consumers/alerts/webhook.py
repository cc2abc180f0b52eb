"""Posts alerts to a web address, signed as Standard Webhooks says (standardwebhooks.com, version 1.0.0).

`webhook-signature` is "v1," and the base64 of HMAC-SHA256 over "ID.TIMESTAMP.BODY", by the key. `webhook-id`
and `Idempotency-Key` are the alert's id (of a resolution, with ":resolved" behind it), the same at each try.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import http.client
import json
import os
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

from jobtrail.consumers.alerts.rules import Webhook
from jobtrail.errors import SettingError
from jobtrail.producers.scrub import known

#: Seconds for a whole request, however slowly its answer comes.
TIMEOUT: Final = 10.0
#: Bytes of an answer that are read; nothing depends on them.
ANSWER: Final = 1_000
KEY_PREFIX: Final = "whsec_"


class WebhookError(Exception):
    """It was not delivered; says why, without address or key."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where to post. Neither address nor key is ever shown."""

    name: str
    #: http or https.
    scheme: str = field(repr=False)
    host: str = field(repr=False)
    port: int | None = field(repr=False)
    #: With the query.
    path: str = field(repr=False)
    key: bytes | None = field(repr=False)


def target(webhook: Webhook, environ: Mapping[str, str] | None = None) -> Target:
    """Reads address and key from the environment. Raises SettingError, which names the variable alone."""
    environ = os.environ if environ is None else environ
    url = environ.get(webhook.url_env, "")
    if not url:
        raise SettingError(
            webhook.url_env,
            "is not set",
            f"webhook {webhook.name} needs the address that alerts are posted to",
        )
    known.add([(webhook.url_env, url)])
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise SettingError(webhook.url_env, "is no address", "write https://host/path") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username is not None:
        raise SettingError(
            webhook.url_env,
            "is no address of a webhook",
            "write https://host/path or http://host/path, without a user",
        )
    if not url.isascii() or any(ord(character) <= 32 for character in url):
        raise SettingError(
            webhook.url_env, "has spaces or other characters that an address may not have", "escape them"
        )
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(webhook.name, parts.scheme, parts.hostname, port, path, _key(webhook, environ))


def _key(webhook: Webhook, environ: Mapping[str, str]) -> bytes | None:
    if webhook.secret_env is None:
        return None
    secret = environ.get(webhook.secret_env, "")
    if not secret:
        raise SettingError(
            webhook.secret_env, "is not set", f"webhook {webhook.name} needs the key that signs its alerts"
        )
    known.add([(webhook.secret_env, secret)])
    if not secret.startswith(KEY_PREFIX):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix(KEY_PREFIX), validate=True)
    except binascii.Error:
        raise SettingError(
            webhook.secret_env, f"is no base64 after {KEY_PREFIX}", "take the key as its receiver shows it"
        ) from None


def signature(key: bytes, message_id: str, timestamp: str, body: bytes) -> str:
    """What a receiver compares with, in constant time."""
    signed = b".".join((message_id.encode(), timestamp.encode(), body))
    return f"v1,{base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()}"


def post(to: Target, message_id: str, document: Mapping[str, Any], *, timeout: float = TIMEOUT) -> None:
    """Posts a document. Raises WebhookError unless the answer is 2xx, within so many seconds."""
    body = json.dumps(document).encode()
    timestamp = str(int(time.time()))
    headers = {
        "content-type": "application/json",
        "user-agent": "jobtrail",
        "idempotency-key": message_id,
        "webhook-id": message_id,
        "webhook-timestamp": timestamp,
    }
    if to.key is not None:
        headers["webhook-signature"] = signature(to.key, message_id, timestamp, body)
    status = _status(to, body, headers, timeout)
    if 300 <= status < 400:
        raise WebhookError(f"it answered {status}; redirects are not followed")
    if not 200 <= status < 300:
        raise WebhookError(f"it answered {status}")


def _status(to: Target, body: bytes, headers: Mapping[str, str], timeout: float) -> int:
    """The status of the answer. http.client follows no redirect."""
    if to.scheme == "https":
        context = ssl.create_default_context()
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(
            to.host, to.port, timeout=timeout, context=context
        )
    else:
        connection = http.client.HTTPConnection(to.host, to.port, timeout=timeout)
    over = threading.Event()

    def end() -> None:
        # A timeout of the socket counts anew with each byte; this one does not.
        over.set()
        if (sock := connection.sock) is not None:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                connection.close()

    timer = threading.Timer(timeout, end)
    timer.daemon = True
    timer.start()
    try:
        connection.request("POST", to.path, body, dict(headers))
        answer = connection.getresponse()
        answer.read(ANSWER)
    except (OSError, http.client.HTTPException) as error:
        if over.is_set() or isinstance(error, TimeoutError):
            raise WebhookError(f"no answer within {timeout:g} s") from None
        raise WebhookError(_why(error)) from None
    finally:
        timer.cancel()
        connection.close()
    if over.is_set():
        raise WebhookError(f"no whole answer within {timeout:g} s")
    return answer.status


def _why(error: Exception) -> str:
    """What went wrong, by its kind: texts of errors may hold the address."""
    if isinstance(error, socket.gaierror):
        return "its host has no address"
    if isinstance(error, ssl.SSLError):
        return f"no TLS ({error.reason or 'certificate refused'})"
    if isinstance(error, OSError) and error.errno is not None:
        return f"no connection ({os.strerror(error.errno)})"
    return f"no answer in HTTP ({type(error).__name__})"
