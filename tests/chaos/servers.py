"""Kafka and Postgres for chaos: clients come through proxies, servers can be killed and started again."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from unittest import mock

from chaos.proxy import Proxy
from jobtrail import embedded
from jobtrail.embedded import kafka, postgres
from jobtrail.embedded.account import Account
from jobtrail.embedded.ports import free_port
from jobtrail.embedded.process import Server, write
from jobtrail.errors import EmbeddedError

#: A crash of Postgres loses what was committed without waiting for the disk, as projectors do: by default
#: what is younger than 0.6 s at most, here up to seconds, so that it does so in each round.
FORGETFUL: Final = {"wal_writer_delay": "10s", "wal_writer_flush_after": "1GB"}
#: Beside what the embedded broker is configured with; of a setting that is there twice the last one holds.
BROKER: Final = """
listeners=PLAINTEXT://127.0.0.1:{port},PROXIED://127.0.0.1:{behind},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port},PROXIED://127.0.0.1:{proxy}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
group.min.session.timeout.ms=500
"""


@dataclass(frozen=True)
class Servers:
    """The servers, by their own addresses and through proxies."""

    home: Path
    cache: Path
    kafka: str
    postgres: str
    kafka_proxy: Proxy
    postgres_proxy: Proxy

    @property
    def kafka_proxied(self) -> str:
        """Bootstrap server; the broker tells clients that come by it no other address."""
        return f"127.0.0.1:{self.kafka_proxy.port}"

    def database(self, name: str, *, proxied: bool) -> str:
        """Address of a database."""
        before, _, rest = self.postgres.rpartition(":")
        port = self.postgres_proxy.port if proxied else int(rest.partition("/")[0])
        return f"{before}:{port}/{name}"

    def restart_kafka(self, *, kill: bool) -> None:
        """Ends the broker, in good order or by SIGKILL, and starts it on the same data."""
        server = Server(self.home, kafka.NAME)
        if not kill:
            server.signal(signal.SIGTERM)
        if kill or not server.wait_gone(30):
            server.kill()
        kafka.start(self.home, self.cache, Account.choose(), _silent)()

    def crash_postgres(self) -> None:
        """Ends Postgres without a word (immediate shutdown) and starts it on what is on disk."""
        server = Server(self.home, postgres.NAME)
        server.signal(signal.SIGQUIT)
        if not server.wait_gone(30):
            raise EmbeddedError("Postgres does not end by SIGQUIT")
        postgres.start(self.home, self.cache, Account.choose(), durable=False)()


def _silent(_line: str) -> None:
    """Nobody need hear that a server starts."""


@contextmanager
def chaos_servers(home: Path, cache: Path) -> Iterator[Servers]:
    """Servers of their own under `home`, ended at the end. Raises EmbeddedError."""
    kafka_proxy, postgres_proxy = Proxy(), Proxy()
    kafka_proxy.target = free_port()
    configure = kafka._configure

    def behind_a_proxy(run: Path, port: int, controller: int) -> Path:
        properties = configure(run, port, controller)
        more = BROKER.format(
            port=port, controller=controller, behind=kafka_proxy.target, proxy=kafka_proxy.port
        )
        write(properties, properties.read_text() + more, 0o644)
        return properties

    with (
        contextlib.closing(kafka_proxy),
        contextlib.closing(postgres_proxy),
        mock.patch.object(kafka, "_configure", behind_a_proxy),
        mock.patch.dict(postgres.SETTINGS, FORGETFUL),
        embedded.servers(home, durable=False, cache=cache, on_progress=_silent) as running,
    ):
        url = running.database_url
        postgres_proxy.target = int(url.rpartition(":")[2].partition("/")[0])
        yield Servers(home, cache, running.kafka_bootstrap_servers, url, kafka_proxy, postgres_proxy)
