"""A small source that speaks the Airbyte protocol: `python -m jobtrail.demo.source spec|check|discover|read`.

Two streams, users and purchases, with `count` records each; a state after every hundred. It can be made to
fail in the middle, or to go slowly so that somebody can cancel it. Starts in a tenth of a second.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from itertools import count as count_from
from pathlib import Path
from typing import Any, Final

STREAMS: Final = ("users", "purchases")
RECORDS_PER_STATE: Final = 100
SPEC: Final = {
    "documentationUrl": "https://docs.airbyte.com/understanding-airbyte/airbyte-protocol",
    "connectionSpecification": {
        "type": "object",
        "properties": {
            "count": {"type": "integer", "minimum": 0, "default": 1000, "description": "Records per stream"},
            "fail_after": {
                "type": "integer",
                "minimum": 0,
                "description": "Records, of both streams together, after which it fails",
            },
            "slow": {
                "type": "number",
                "minimum": 0,
                "default": 0,
                "description": "Seconds to sleep after each record",
            },
        },
    },
}
PROPERTIES: Final = {
    "users": {"id": {"type": "integer"}, "name": {"type": "string"}, "email": {"type": "string"}},
    "purchases": {"id": {"type": "integer"}, "user_id": {"type": "integer"}, "price": {"type": "number"}},
}


def catalog() -> dict[str, Any]:
    """What `discover` answers."""
    return {
        "streams": [
            {
                "name": name,
                "json_schema": {"type": "object", "properties": PROPERTIES[name]},
                "supported_sync_modes": ["full_refresh", "incremental"],
                "source_defined_cursor": True,
                "default_cursor_field": ["id"],
                "source_defined_primary_key": [["id"]],
            }
            for name in STREAMS
        ]
    }


def configured_catalog() -> dict[str, Any]:
    """A catalog for `read --catalog` with both streams."""
    return {
        "streams": [
            {
                "stream": stream,
                "sync_mode": "incremental",
                "cursor_field": ["id"],
                "destination_sync_mode": "append",
            }
            for stream in catalog()["streams"]
        ]
    }


def row(stream: str, number: int) -> dict[str, Any]:
    """Record `number` (from 1) of a stream; always the same."""
    if stream == "users":
        return {"id": number, "name": f"Zoë {number}", "email": f"user{number}@example.org"}
    return {"id": number, "user_id": 1 + number // 3, "price": number * 7 % 1000 / 10}


class _FailedError(Exception):
    """The failure that the configuration asked for."""


def read(config: dict[str, Any], streams: list[str], cursors: dict[str, int]) -> Iterator[dict[str, Any]]:
    """The messages of a sync, each stream from after its cursor. Raises _FailedError where it is to fail."""
    given = count_from(1)
    fail_after = config.get("fail_after")
    for stream in streams:
        yield _status(stream, "STARTED")
        first, last = cursors.get(stream, 0) + 1, int(config.get("count", 1000))
        yield _trace("ESTIMATE", {"name": stream, "type": "STREAM", "row_estimate": max(0, last + 1 - first)})
        yield _status(stream, "RUNNING")
        since_state = 0
        for number in range(first, last + 1):
            if fail_after is not None and next(given) > fail_after:
                raise _FailedError(stream, number)
            yield {
                "type": "RECORD",
                "record": {"stream": stream, "data": row(stream, number), "emitted_at": _now()},
            }
            since_state += 1
            if number % RECORDS_PER_STATE == 0 and number < last:
                yield _state(stream, number, since_state)
                since_state = 0
        yield _state(stream, max(last, first - 1), since_state)
        yield _status(stream, "COMPLETE")


def _now() -> int:
    return int(time.time() * 1000)


def _trace(kind: str, body: dict[str, Any]) -> dict[str, Any]:
    return {"type": "TRACE", "trace": {"type": kind, "emitted_at": _now(), kind.lower(): body}}


def _status(stream: str, status: str) -> dict[str, Any]:
    return _trace("STREAM_STATUS", {"stream_descriptor": {"name": stream}, "status": status})


def _state(stream: str, cursor: int, records: int) -> dict[str, Any]:
    return {
        "type": "STATE",
        "state": {
            "type": "STREAM",
            "stream": {"stream_descriptor": {"name": stream}, "stream_state": {"id": cursor}},
            "sourceStats": {"recordCount": float(records)},
        },
    }


def _error(error: _FailedError) -> dict[str, Any]:
    stream, number = error.args
    return _trace(
        "ERROR",
        {
            "message": "The demonstration source failed, as its configuration says",
            "internal_message": f"fail_after was reached at record {number} of {stream}",
            "stack_trace": f"jobtrail.demo.source: {stream} record {number}",
            "failure_type": "transient_error",
        },
    )


def _print(message: dict[str, Any], *, flush: bool) -> None:
    sys.stdout.write(json.dumps(message, ensure_ascii=False, separators=(",", ":")) + "\n")
    if flush:
        sys.stdout.flush()


def main() -> int:
    """Runs one command of the protocol; gives its exit status."""
    parser = argparse.ArgumentParser(prog="jobtrail.demo.source", description=__doc__)
    parser.add_argument("command", choices=["spec", "check", "discover", "read"])
    parser.add_argument("--config", type=Path)
    parser.add_argument("--catalog", type=Path)
    parser.add_argument("--state", type=Path)
    options = parser.parse_args()
    sys.stdout.reconfigure(encoding="utf-8", newline="\n")  # type: ignore[union-attr]  # never replaced here
    match options.command:
        case "spec":
            _print({"type": "SPEC", "spec": SPEC}, flush=True)
        case "check":
            _print({"type": "CONNECTION_STATUS", "connectionStatus": {"status": "SUCCEEDED"}}, flush=True)
        case "discover":
            _print({"type": "CATALOG", "catalog": catalog()}, flush=True)
        case _:
            return _read(options.config, options.catalog, options.state)
    return 0


def _read(config_path: Path | None, catalog_path: Path | None, state_path: Path | None) -> int:
    config = _json(config_path, {})
    streams = [entry["stream"]["name"] for entry in _json(catalog_path, configured_catalog())["streams"]]
    cursors = {
        entry["stream"]["stream_descriptor"]["name"]: entry["stream"]["stream_state"]["id"]
        for entry in _json(state_path, [])
    }
    slow = float(config.get("slow", 0))
    try:
        for message in read(config, streams, cursors):
            record = message["type"] == "RECORD"
            _print(message, flush=not record or slow > 0)
            if record and slow:
                time.sleep(slow)
    except _FailedError as error:
        _print(_error(error), flush=True)
        sys.stderr.write("the demonstration source ends with exit status 1\n")
        return 1
    sys.stdout.flush()
    return 0


def _json(path: Path | None, default: Any) -> Any:
    return default if path is None else json.loads(path.read_text("utf-8"))


if __name__ == "__main__":
    sys.exit(main())
