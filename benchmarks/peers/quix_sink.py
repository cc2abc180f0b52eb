"""Quix Streams with its Postgres sink, for benchmarks/replay.py; runs in an environment of its own.

Arguments: Kafka's address, topic, consumer group, the schema's file, a libpq address, messages a commit.
"""

import json
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from quixstreams import Application
from quixstreams.models.serializers.avro import AvroDeserializer
from quixstreams.sinks.community.postgresql import PostgreSQLSink

KEY = ["job_id", "attempt_number", "stream_namespace", "stream_name", "reporter"]


def as_columns(row: dict) -> dict:
    """StreamStats by the names of the table's columns."""
    row["reported_at"] = datetime.fromtimestamp(row.pop("occurred_at") / 1_000_000, UTC)
    row["stream_namespace"] = row["stream_namespace"] or ""
    return row


def main() -> None:
    """Until it is stopped."""
    kafka, topic, group, schema, url, many = sys.argv[1:]
    to = urlsplit(url)
    sink = PostgreSQLSink(
        host=to.hostname,
        port=to.port,
        dbname=to.path[1:],
        user=to.username,
        password=to.password,
        table_name="stream_stats",
        schema_auto_update=False,
        primary_key_columns=KEY,
        upsert_on_primary_key=True,
        include_metadata=False,
    )
    application = Application(
        broker_address=kafka,
        consumer_group=group,
        auto_offset_reset="earliest",
        commit_every=int(many),
        commit_interval=1.0,
        auto_create_topics=False,
        use_changelog_topics=False,
        state_dir=tempfile.mkdtemp(),  # of its own: two processes would both make the same one
        loglevel="WARNING",
        consumer_extra_config={
            "queued.max.messages.kbytes": 65536,
            "fetch.message.max.bytes": 8388608,
            "fetch.queue.backoff.ms": 5,
        },
    )
    plain = json.loads(Path(schema).read_text())
    source = application.topic(topic, key_deserializer="bytes", value_deserializer=AvroDeserializer(plain))
    application.dataframe(source).apply(as_columns).sink(sink)
    application.run()


if __name__ == "__main__":
    main()
