"""The same promises, held against inputs that atheris (libFuzzer) finds by what they reach in our code.

    pip install atheris && python tests/fuzz/guided.py decoder -max_total_time=60

The first argument is what is fuzzed: codec, decoder, lines, config. The rest is libFuzzer's. atheris is no
requirement of Jobtrail's: it is built for Linux and macOS, and for few versions of Python.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any, Final

sys.path[:0] = [str(Path(__file__).parent.parent), str(Path(__file__).parent)]

try:
    atheris: Any = importlib.import_module("atheris")
except ModuleNotFoundError:
    sys.exit("this needs atheris: pip install atheris")

with atheris.instrument_imports(include=["jobtrail", "fastavro"]):
    from bodies import Fuzzer, Row
    from wire import encoded

    from jobtrail import codec
    from jobtrail.errors import BadMessageError
    from jobtrail.events import Event
    from jobtrail.producers.lines import Lines
    from jobtrail.producers.scrub import shapes
    from jobtrail.producers.secret_fields import secrets_of
    from jobtrail.producers.tally import Tally
    from jobtrail.wire import HEADER_SIZE

HEADERS: Final = sorted(codec.released().by_header)
FUZZER: Final = Fuzzer(seed=1)
#: Good messages among which one stands, so many that they are read in bulk.
NEIGHBOURS: Final = 40


def _message(data: bytes) -> bytes:
    """The first byte chooses a schema, so that bodies are reached soon."""
    return HEADERS[data[0] % len(HEADERS)] + data[1:] if data else b""


def decoder(data: bytes) -> None:
    """A message among good ones, so many that they are read in bulk."""
    value = _message(data)
    wire = codec.released().by_header.get(value[:HEADER_SIZE])
    if wire is None:
        return
    event_type, good = wire.event_type, dict[int, tuple[type[Event], Row]]()
    pairs: list[tuple[bytes | None, bytes | None]] = [(b"7", value)]
    for at in range(1, NEIGHBOURS):
        row = FUZZER.row(event_type, nasty=0.0)
        good[at] = event_type, row
        pairs.append((str(row[event_type.key_field]).encode(), encoded(wire, row)))
    FUZZER.hold(pairs, good)


def codec_(data: bytes) -> None:
    """An event, which is read as it was written, or a bad message."""
    try:
        event = codec.decode(_message(data))
    except BadMessageError:
        return
    if codec.decode(codec.encode(event)) != event:
        raise AssertionError(event)


def lines(data: bytes) -> None:
    """What a connector prints."""
    split, tally = Lines(limit=1_000), Tally(with_destination=True)
    tally.source(split.feed(data).lines)
    tally.destination([split.finish()])


def config(data: bytes) -> None:
    """A configuration beside a spec, and any text to be scrubbed."""
    text = data.decode(errors="replace")
    if (once := shapes.fit(text, 1_000)) != shapes.fit(once, 1_000):
        raise AssertionError(once)
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return
    if isinstance(found, dict):
        list(secrets_of(found, found))


TARGETS: Final = {"codec": codec_, "decoder": decoder, "lines": lines, "config": config}


def main() -> None:
    """Runs libFuzzer to its end."""
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        sys.exit(f"what is to be fuzzed: {', '.join(TARGETS)}")
    atheris.Setup([sys.argv[0], *sys.argv[2:]], TARGETS[sys.argv.pop(1)])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
