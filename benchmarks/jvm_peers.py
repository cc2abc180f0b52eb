"""Peers on the JVM in the replay benchmark: Flink SQL, and Debezium's JDBC sink on Kafka Connect standalone.

Each writes the StreamStats alone into a table like the read model's, keyed alike. Start-up is not counted:
Flink from the moment its tasks run to the job's end, Debezium from the first row to the last.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from bench import PATIENCE, Bench, Filling, digest, jdbc, program, say
from measured import Round, await_true, metered

from jobtrail.embedded import java
from jobtrail.embedded.account import Account
from jobtrail.embedded.jars import Lock, class_path
from jobtrail.embedded.ports import free_port

PEERS: Final = Path(__file__).parent / "peers"


def _jars(bench: Bench, name: str) -> list[Path]:
    lock = Lock.read((PEERS / f"{name}.lock").read_text())
    return class_path(lock, bench.cache, say)


def _java(bench: Bench) -> Path:
    found, _ = java.find(Account.choose(), bench.cache.parent)
    return found.resolve()


def flink(bench: Bench, *, rows: int = 50_000, parallelism: int = 2, heap: str = "3g") -> Round:
    """Flink SQL: Avro from Kafka, upserts by JDBC, `rows` of them in a flush."""
    topic, events = bench.topic("avro")
    last = bench.last_stats(bench.topic("events")[0])
    url = bench.table_for("flink")
    address, user, password = jdbc(url)
    statements = bench.home / "flink.sql"
    statements.write_text(
        (PEERS / "flink.sql")
        .read_text()
        .format(topic=topic, kafka=bench.kafka, jdbc=address, user=user, password=password, rows=rows)
    )
    home = _java(bench).parent.parent
    library = next(home.glob("lib/**/server/libjvm.*"))
    jars = os.pathsep.join(map(str, _jars(bench, "flink")))
    log = bench.home / "flink.log"
    command = [sys.executable, PEERS / "flink_job.py", library, jars, statements, str(parallelism)]
    configuration = PEERS / "log4j2.properties"
    options = [f"-Xmx{heap}", "-Duser.timezone=UTC", f"-Dlog4j2.configurationFile={configuration.as_uri()}"]
    with program([*command, *options], log) as process:
        alive = lambda: process.poll() is None  # noqa: E731
        said = lambda word: lambda: word in log.read_bytes()  # noqa: E731
        await_true(said(b"RUNNING\n"), 180, f"Flink starts (see {log})", alive)
        with metered(bench.home, process.pid) as meter:
            await_true(said(b"FINISHED\n"), PATIENCE, f"Flink's job (see {log})", alive)
            found = meter.end(events)
    found.found = _checked(url, last)
    return found


def debezium(bench: Bench, *, rows: int = 10_000) -> Round:
    """Debezium's JDBC sink on Kafka Connect standalone, `rows` a batch."""
    topic, events = bench.topic("json")
    last = bench.last_stats(bench.topic("events")[0])
    url = bench.table_for("debezium")
    with (
        debezium_sink(bench, topic, url, rows=rows, fetch_bytes=1_000_000) as process,
        contextlib.closing(Filling(url, last)) as filling,
    ):
        alive = lambda: process.poll() is None  # noqa: E731
        await_true(filling.begun, 180, "Debezium's sink begins", alive)
        with metered(bench.home, process.pid) as meter:
            await_true(filling.done, PATIENCE, "Debezium's sink", alive)
            found = meter.end(events)
    found.found = _checked(url, last)
    return found


@contextlib.contextmanager
def debezium_sink(
    bench: Bench, topic: str, url: str, *, rows: int, fetch_bytes: int, tasks: int = 2, heap: str = "2g"
) -> Iterator[subprocess.Popen[bytes]]:
    """Debezium's JDBC sink, from JSON whose schema the converter has, into `stream_stats` of a database.

    The schema stands in the converter's settings (KIP-1054) and not in each message: ten times fewer bytes.
    """
    address, user, password = jdbc(url)
    folder = bench.home / "connect"
    (folder / "plugins").mkdir(parents=True, exist_ok=True)
    (folder / "offsets").unlink(missing_ok=True)
    schema = {
        "type": "struct",
        "optional": False,
        "fields": [{"field": name, "optional": False, **kind} for name, kind in CONNECT_TYPES.items()],
    }
    values = {
        "kafka": bench.kafka,
        "topic": topic,
        "jdbc": address,
        "user": user,
        "password": password,
        "rows": rows,
        "fetch_bytes": fetch_bytes,
        "tasks": tasks,
        "folder": folder,
        "key": KEY,
        "port": free_port(),
        "name": f"bench-{uuid.uuid4()}",  # a consumer group of its own, that begins at the beginning
        "schema": json.dumps(schema),
    }
    files = []
    for name in ("connect", "debezium"):
        files.append(folder / f"{name}.properties")
        files[-1].write_text((PEERS / f"{name}.properties").read_text().format_map(values))
    configuration = PEERS / "log4j2.properties"
    options = [f"-Xmx{heap}", "-Duser.timezone=UTC", f"-Dlog4j2.configurationFile={configuration.as_uri()}"]
    jars = os.pathsep.join(map(str, _jars(bench, "debezium")))
    command = [_java(bench), *options, "-cp", jars, "org.apache.kafka.connect.cli.ConnectStandalone", *files]
    with program(command, bench.home / "debezium.log") as process:
        yield process


def _checked(url: str, last: list[Any]) -> dict[str, Any]:
    filling = Filling(url, last)
    try:
        if not filling.done():
            raise RuntimeError("the last events of the log are not in the table")
    finally:
        filling.close()
    return digest(url)


#: Columns of the table → their types for Kafka Connect. Times and ids by Debezium's own logical types.
CONNECT_TYPES: Final[dict[str, dict[str, Any]]] = {
    "job_id": {"type": "int64"},
    "attempt_number": {"type": "int16"},
    "stream_namespace": {"type": "string"},
    "stream_name": {"type": "string"},
    "reporter": {"type": "string"},
    "sequence": {"type": "int64"},
    "event_id": {"type": "string", "name": "io.debezium.data.Uuid"},
    "reported_at": {"type": "int64", "name": "io.debezium.time.MicroTimestamp"},
    **{
        name: {"type": "int64", "optional": True}
        for name in (
            *("records_emitted", "bytes_emitted", "state_messages_emitted", "records_committed"),
            *("bytes_committed", "records_rejected", "estimated_records", "estimated_bytes"),
        )
    },
}
KEY: Final = "job_id,attempt_number,stream_namespace,stream_name,reporter"
