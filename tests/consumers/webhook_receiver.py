"""A real server that takes webhooks, as tests tell it to."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from jobtrail.consumers.alerts.rules import Webhook
from jobtrail.consumers.alerts.webhook import Target, target

SECRET = "whsec_" + base64.b64encode(b"a key of the receiver").decode()
HOOK = Webhook("ops", "OPS_URL", "OPS_SECRET")


@dataclass
class Receiver:
    """A server that answers as told, then 204; and what it was sent."""

    url: str
    answers: list[Any] = field(default_factory=list)
    heard: list[tuple[dict[str, str], bytes]] = field(default_factory=list)

    @property
    def target(self) -> Target:
        return target(HOOK, {"OPS_URL": self.url, "OPS_SECRET": SECRET})

    @property
    def keys(self) -> list[str]:
        return [headers["idempotency-key"] for headers, _ in self.heard]


@contextmanager
def receiving() -> Iterator[Receiver]:
    """Listens until the end of the block."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            found.heard.append(({name.lower(): value for name, value in self.headers.items()}, body))
            answer = found.answers.pop(0) if found.answers else 204
            if callable(answer):
                answer(self)
                return
            self.send_response(answer)
            if 300 <= answer < 400:
                self.send_header("location", f"{found.url}/elsewhere")
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        found = Receiver(f"http://127.0.0.1:{server.server_port}/hook?token=hidden")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield found
        server.shutdown()
        thread.join()
