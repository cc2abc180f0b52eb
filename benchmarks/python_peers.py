"""Peers in Python in the replay benchmark: Quix Streams' Postgres sink, and a Faust agent with asyncpg.

Each is installed apart, into the cache. One process each: neither uses more than one core by itself, and a
second one would read other partitions; `processes` starts more.
"""

from __future__ import annotations

import contextlib
import json
import sys
import uuid
from pathlib import Path
from typing import Final

from bench import PATIENCE, Bench, Filling, digest, program, say
from measured import Round, await_true, metered

from jobtrail import codec
from jobtrail.demo.apart import environment_of
from jobtrail.events import StreamStats

PEERS: Final = Path(__file__).parent / "peers"


def quix(bench: Bench, *, many: int = 20_000, processes: int = 2) -> Round:
    """Quix Streams: `many` messages in one commit, by its own Avro deserializer and Postgres sink."""
    python = _python(bench, "quix", "Quix Streams")
    return _run(bench, "quix", [python, PEERS / "quix_sink.py"], [str(many)], processes)


def faust(bench: Bench, *, many: int = 10_000, processes: int = 2) -> Round:
    """Faust: an agent that takes `many` at once and upserts them in one statement of asyncpg."""
    python = _python(bench, "faust", "Faust")
    data = bench.home / "faust"
    return _run(bench, "faust", [python, PEERS / "faust_agent.py"], [str(many), str(data)], processes)


def _python(bench: Bench, name: str, what: str) -> Path:
    requirements = PEERS / f"{name}-requirements.txt"
    folder = environment_of(requirements, what, bench.cache, lambda: sys.executable, say)
    return folder / "bin" / "python"


def _run(bench: Bench, name: str, command: list[str | Path], rest: list[str], processes: int) -> Round:
    topic, events = bench.topic("avro")
    last = bench.last_stats(bench.topic("events")[0])
    url = bench.table_for(name)
    schema = bench.home / "StreamStats.avsc"
    schema.write_text(json.dumps(codec.released().newest[StreamStats].plain))
    command = [*command, bench.kafka, topic, f"bench-{uuid.uuid4()}", schema, url, *rest]
    log = bench.home / f"{name}.log"
    # One parent for all, so that memory and processor seconds are those of all.
    parent = [sys.executable, PEERS / "several.py", str(processes), *command]
    with program(parent, log) as process, contextlib.closing(Filling(url, last)) as filling:
        alive = lambda: process.poll() is None  # noqa: E731
        await_true(filling.begun, 180, f"{name} begins (see {log})", alive)
        with metered(bench.home, process.pid) as meter:
            await_true(filling.done, PATIENCE, f"{name} (see {log})", alive)
            found = meter.end(events)
    found.found = digest(url)
    return found
