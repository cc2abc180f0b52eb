"""A small destination that speaks the Airbyte protocol: `python -m jobtrail.demo.destination COMMAND`.

Appends the data of each stream's records to a file of JSON lines in the folder `path`, and gives a state
back, with how many records it stands for, once all records before it are written.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from pathlib import Path
from typing import IO, Any, Final
from urllib.parse import quote

SPEC: Final = {
    "supported_destination_sync_modes": ["append"],
    "connectionSpecification": {
        "type": "object",
        "required": ["path"],
        "properties": {
            "path": {"type": "string", "description": "Folder of the files"},
            "fail_after": {
                "type": "integer",
                "minimum": 0,
                "description": "Records, of all streams together, after which it fails",
            },
        },
    },
}


def file_of(folder: Path, stream: str, namespace: str | None = None) -> Path:
    """The file of a stream; different streams never share one."""
    name = stream if not namespace else f"{namespace}/{stream}"
    return folder / f"{quote(name, safe='')}.jsonl"


class Writer:
    """Writes what comes in; `take` gives the lines to answer with."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.records = 0
        self._files: dict[tuple[str, str | None], IO[str]] = {}
        self._since_state: Counter[tuple[str, str | None]] = Counter()

    def take(self, message: dict[str, Any]) -> dict[str, Any] | None:
        """Writes a record, or answers a state; other messages are nothing to a destination."""
        if message["type"] == "RECORD":
            record = message["record"]
            key = (record["stream"], record.get("namespace"))
            if key not in self._files:
                self._files[key] = file_of(self.folder, *key).open("a", encoding="utf-8", newline="\n")
            self._files[key].write(json.dumps(record["data"], ensure_ascii=False) + "\n")
            self._since_state[key] += 1
            self.records += 1
            return None
        return self._answer(message) if message["type"] == "STATE" else None

    def _answer(self, message: dict[str, Any]) -> dict[str, Any]:
        for file in self._files.values():
            file.flush()
        state = message["state"]
        if state.get("type") == "STREAM":
            descriptor = state["stream"]["stream_descriptor"]
            written = self._since_state.pop((descriptor["name"], descriptor.get("namespace")), 0)
        else:
            written = self._since_state.total()
            self._since_state.clear()
        return {**message, "state": {**state, "destinationStats": {"recordCount": float(written)}}}

    def close(self) -> None:
        """Writes out and closes the files."""
        for file in self._files.values():
            file.close()


def main() -> int:
    """Runs one command of the protocol; gives its exit status."""
    parser = argparse.ArgumentParser(prog="jobtrail.demo.destination", description=__doc__)
    parser.add_argument("command", choices=["spec", "check", "write"])
    parser.add_argument("--config", type=Path)
    parser.add_argument("--catalog", type=Path)
    options = parser.parse_args()
    match options.command:
        case "spec":
            _print({"type": "SPEC", "spec": SPEC})
        case "check":
            _print({"type": "CONNECTION_STATUS", "connectionStatus": {"status": "SUCCEEDED"}})
        case _:
            return _write(json.loads(options.config.read_text("utf-8")))
    return 0


def _write(config: dict[str, Any]) -> int:
    writer = Writer(Path(config["path"]))
    fail_after = config.get("fail_after")
    try:
        for line in sys.stdin.buffer:
            if fail_after is not None and writer.records >= fail_after:
                raise OSError(f"fail_after was reached after {writer.records} records")  # noqa: TRY301
            answer = writer.take(json.loads(line))
            if answer is not None:
                _print(answer)
    except OSError as error:
        _print(
            {
                "type": "TRACE",
                "trace": {
                    "type": "ERROR",
                    "emitted_at": 0,
                    "error": {
                        "message": "The demonstration destination cannot write",
                        "internal_message": str(error),
                        "failure_type": "system_error",
                    },
                },
            }
        )
        return 1
    finally:
        writer.close()
    return 0


def _print(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message, separators=(",", ":")) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
