"""A Faust agent that upserts many events at once by asyncpg; runs in an environment of its own.

Arguments: Kafka's address, topic, consumer group, the schema's file, a libpq address, messages at once, and a
folder for Faust's own files.
"""

import asyncio
import io
import json
import sys
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import fastavro
import faust

KAFKA, TOPIC, GROUP, SCHEMA, URL, MANY, DATA = sys.argv[1:]
PLAIN = fastavro.parse_schema(json.loads(Path(SCHEMA).read_text()))
COLUMNS = {
    "job_id": "int8",
    "attempt_number": "int2",
    "stream_namespace": "text",
    "stream_name": "text",
    "reporter": "text",
    "sequence": "int8",
    "event_id": "uuid",
    "reported_at": "timestamptz",
    "records_emitted": "int8",
    "bytes_emitted": "int8",
    "state_messages_emitted": "int8",
    "records_committed": "int8",
    "bytes_committed": "int8",
    "records_rejected": "int8",
    "estimated_records": "int8",
    "estimated_bytes": "int8",
}
KEY = [*COLUMNS][:5]
#: Columns as arrays: one statement and one round trip for all.
UPSERT = (  # of names from this file
    f"INSERT INTO stream_stats ({', '.join(COLUMNS)}) SELECT * FROM unnest("  # noqa: S608
    + ", ".join(f"${place}::{kind}[]" for place, kind in enumerate(COLUMNS.values(), 1))
    + f") ON CONFLICT ({', '.join(KEY)}) DO UPDATE SET "
    + ", ".join(f"{name} = excluded.{name}" for name in [*COLUMNS][5:])
)

app = faust.App(
    GROUP,
    broker=f"kafka://{KAFKA}",
    value_serializer="raw",
    datadir=DATA,
    web_enabled=False,
    consumer_auto_offset_reset="earliest",
    stream_buffer_maxsize=int(MANY) * 2,
    broker_commit_every=50_000,
    topic_disable_leader=True,
    producer_acks=0,
)
source = app.topic(TOPIC, key_type=bytes, value_type=bytes, internal=False)


def as_row(body: bytes) -> dict:
    """StreamStats by the names of the table's columns."""
    row = fastavro.schemaless_reader(io.BytesIO(body), PLAIN)
    row["reported_at"] = datetime.fromtimestamp(row["occurred_at"] / 1_000_000, UTC)
    row["stream_namespace"] = row["stream_namespace"] or ""
    return row


class Buffer:
    """Events until there are enough of them, or a second has passed: `Stream.take` costs more than this."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.writing = asyncio.Lock()
        self.connection: asyncpg.Connection | None = None

    async def write(self) -> None:
        """Of many at once, the last of each key."""
        async with self.writing:
            bodies, self.bodies = self.bodies, []
            if not bodies:
                return
            if self.connection is None:
                self.connection = await asyncpg.connect(URL)
            rows = {tuple(row[name] for name in KEY): row for row in map(as_row, bodies)}
            columns = ([row[name] for row in rows.values()] for name in COLUMNS)
            await self.connection.execute(UPSERT, *columns)


buffer = Buffer()


@app.agent(source)
async def upsert(stream: faust.Stream) -> None:
    """One event after the other, as Faust gives them."""
    async for body in stream:
        buffer.bodies.append(body)
        if len(buffer.bodies) >= int(MANY):
            await buffer.write()


@app.timer(1.0)
async def rest() -> None:
    """What is left at the end."""
    await buffer.write()


if __name__ == "__main__":
    faust.Worker(app, loglevel="WARNING").execute_from_commandline()
