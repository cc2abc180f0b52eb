"""Random and damaged messages through the bulk decoder, against fastavro, the gate, and the other ways.

    python tests/fuzz/bodies.py --bodies 1000000 --seed 1

The same seed gives the same messages. What breaks a promise ends it with status 1, and the message in hex.
"""

from __future__ import annotations

import argparse
import io
import random
import struct
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import fastavro

sys.path.insert(0, str(Path(__file__).parent.parent))

from record_batches import block
from wire import AT, ID, encoded, newest, number, records

from jobtrail import codec
from jobtrail.consumers import gate
from jobtrail.consumers.decode import OFFSET, ROW, Decoder
from jobtrail.consumers.few import read_few
from jobtrail.events import EVENT_TYPES, Event
from jobtrail.projections.letters import DeadLetter
from jobtrail.wire import HEADER_SIZE

#: Messages given to the decoder at once: chunks, halves and single reads all come about.
BATCHES: Final = (1, 40, 400, 4_000, 30_000)
#: Untouched good messages among them, one for so many.
NEIGHBOURS: Final = 8
#: Offset of the first message of `wire.records`.
FIRST: Final = 100

Row = dict[str, Any]


class BrokenPromiseError(AssertionError):
    """What was promised does not hold for a message."""

    def __init__(self, what: str, value: bytes | None) -> None:
        super().__init__(f"{what}; the message: {'none' if value is None else value.hex()}")


@dataclass
class Counts:
    """What became of the messages."""

    bodies: int = 0
    accepted: int = 0
    neighbours: int = 0
    refused: Counter[str] = field(default_factory=Counter)


class Fuzzer:
    """Makes messages from a seed, and holds the promises against them."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)  # noqa: S311  # to be repeated, not to be secret
        self.decoder = Decoder()
        self.counts = Counts()

    def run(self, bodies: int) -> Counts:
        """So many messages, untouched neighbours not counted. Raises BrokenPromiseError."""
        while self.counts.bodies < bodies:
            self.batch(min(self.random.choice(BATCHES), bodies - self.counts.bodies))
        return self.counts

    def batch(self, size: int) -> None:
        """One batch, in which good messages stand among the others."""
        pairs: list[tuple[bytes | None, bytes | None]] = []
        good: dict[int, tuple[type[Event], Row]] = {}
        kinds = self.random.sample(EVENT_TYPES, self.random.randint(1, 3))
        for _ in range(size):
            if self.random.randrange(NEIGHBOURS) == 0:
                event_type, row = self.random.choice(kinds), {}
                row = self.row(event_type, nasty=0.0)
                good[len(pairs)] = event_type, row
                pairs.append((str(row[event_type.key_field]).encode(), encoded(newest(event_type), row)))
            value = self.message(kinds)
            pairs.append((self.key(value), value))
        self.hold(pairs, good)
        self.counts.bodies += size
        self.counts.neighbours += len(good)

    def hold(
        self, pairs: list[tuple[bytes | None, bytes | None]], good: dict[int, tuple[type[Event], Row]]
    ) -> None:
        """Holds all promises for a batch."""
        these = records(pairs)
        decoded = self.decoder.decode(these)
        read: dict[int, tuple[type[Event], Row]] = {}
        for event_type, frame in decoded.frames.items():
            for found in frame.iter_rows(named=True):
                row = {name: value for name, value in found.items() if not name.startswith("_")}
                if found[ROW] in read:
                    raise BrokenPromiseError("it is there twice", pairs[found[ROW]][1])
                read[found[ROW]] = event_type, row
                self.is_as_fastavro_reads(pairs[found[ROW]][1] or b"", event_type, row)
        for at, expected in good.items():
            if read.get(at) != expected:
                raise BrokenPromiseError(f"a neighbour was harmed: {read.get(at)}", pairs[at][1])
        checked = gate.check(decoded, these)
        kept = {
            found[OFFSET] - FIRST: (event_type, found)
            for event_type, frame in checked.frames.items()
            for found in frame.iter_rows(named=True)
        }
        letters = {letter.offset - FIRST: letter for letter in checked.bad}
        if (
            len(letters) != len(checked.bad)
            or len(kept) + len(letters) != len(pairs)
            or kept.keys() & letters
        ):
            raise BrokenPromiseError("messages were lost, or are both good and bad", None)
        for at, (event_type, _) in kept.items():
            codec.build(event_type, read[at][1])  # the gate accepts it: raises BadMessageError
        for at, letter in letters.items():
            self.is_unchanged(letter, *pairs[at])
        self.is_as_few(pairs, kept, letters)
        self.is_as_block(pairs, kept, letters)
        self.counts.accepted += len(kept.keys() - good.keys())

    def is_as_fastavro_reads(self, value: bytes, event_type: type[Event], row: Row) -> None:
        """Fastavro reads the same values from the whole body, to its last byte."""
        stream = io.BytesIO(value[HEADER_SIZE:])
        try:
            expected: Any = fastavro.schemaless_reader(stream, newest(event_type).plain, None)
        except Exception as error:
            raise BrokenPromiseError(f"accepted, and fastavro says {error!r}", value) from error
        if expected != row or stream.tell() != len(value) - HEADER_SIZE:
            raise BrokenPromiseError(f"read as {row}, and fastavro reads {expected}", value)

    def is_unchanged(self, letter: DeadLetter, key: bytes | None, value: bytes | None) -> None:
        """A dead letter has the bytes that came."""
        if (letter.key, letter.value) != (key, value):
            raise BrokenPromiseError("a dead letter has other bytes", value)
        if not letter.reason or not letter.detail:
            raise BrokenPromiseError("a dead letter does not say why", value)
        self.counts.refused[letter.reason] += 1

    def is_as_few(
        self,
        pairs: list[tuple[bytes | None, bytes | None]],
        kept: dict[int, tuple[type[Event], Row]],
        letters: dict[int, DeadLetter],
    ) -> None:
        """Reading each by itself gives the same events and the same letters."""
        few = read_few(self.decoder, records(pairs))
        one_by_one = {row[OFFSET] - FIRST: (kind, row) for kind, rows in few.few.items() for row in rows}
        if one_by_one != kept:
            at = next(at for at in range(len(pairs)) if one_by_one.get(at) != kept.get(at))
            raise BrokenPromiseError(
                f"by itself it is {one_by_one.get(at)}, not {kept.get(at)}", pairs[at][1]
            )
        for letter in few.bad:
            if letters[letter.offset - FIRST].reason != letter.reason:
                other = letters[letter.offset - FIRST].reason
                raise BrokenPromiseError(f"it is {other}, and by itself {letter.reason}", letter.value)

    def is_as_block(
        self,
        pairs: list[tuple[bytes | None, bytes | None]],
        kept: dict[int, tuple[type[Event], Row]],
        letters: dict[int, DeadLetter],
    ) -> None:
        """Reading them as they lie in Kafka gives the same events and the same letters."""
        these = block(pairs)
        found = gate.check(self.decoder.decode(these), these)
        there = {
            row[OFFSET] - FIRST: (event_type, row)
            for event_type, frame in found.frames.items()
            for row in frame.iter_rows(named=True)
        }
        if there != kept:
            at = next(at for at in range(len(pairs)) if there.get(at) != kept.get(at))
            raise BrokenPromiseError(f"in a block it is {there.get(at)}, not {kept.get(at)}", pairs[at][1])
        if {letter.offset - FIRST: letter for letter in found.bad} != letters:
            raise BrokenPromiseError("a block has other dead letters", None)

    def key(self, value: bytes | None) -> bytes | None:
        """The key that belongs to a message, as far as one can tell; now and then another."""
        wire = codec.released().by_header.get((value or b"")[:HEADER_SIZE])
        if wire is None or value is None or self.random.random() < 0.01:
            return self.random.choice([None, b"", b"7", b"\xff"])
        try:
            row: Any = fastavro.schemaless_reader(io.BytesIO(value[HEADER_SIZE:]), wire.plain, None)
            key: str | int = row[wire.event_type.key_field]
            return str(key).encode()
        except Exception:  # noqa: BLE001  # whatever a broken body makes fastavro raise, it has no key
            return b"7"

    def message(self, kinds: list[type[Event]]) -> bytes | None:  # noqa: C901, PLR0911, PLR0912  # so many ways
        """A random or damaged message, or one with values that may not be."""
        event_type = self.random.choice(kinds)
        value = bytearray(encoded(newest(event_type), self.row(event_type, nasty=0.02)))
        way = self.random.randrange(14)
        at = self.random.randrange(HEADER_SIZE, len(value)) if len(value) > HEADER_SIZE else HEADER_SIZE
        if way == 0:
            return self.random.choice([None, b"", bytes(value[:at]), self.random.randbytes(at)])
        if way == 1:  # random bytes as a body
            return newest(event_type).header + self.random.randbytes(self.random.randrange(200))
        if way == 2:  # a wrong fingerprint: of another type, or of none
            other = newest(self.random.choice(EVENT_TYPES)).header
            return (other if self.random.random() < 0.7 else self.random.randbytes(HEADER_SIZE)) + value[
                HEADER_SIZE:
            ]
        if way == 3:  # two bodies grown together
            other = encoded(newest(event_type), self.row(event_type, nasty=0.0))
            return bytes(value[:at]) + other[self.random.randrange(HEADER_SIZE, len(other)) :]
        if way == 4:
            return bytes(value) + self.random.randbytes(self.random.randint(1, 20))
        if way == 5:
            return bytes(value[:at])
        if way == 6:  # a number spelled longer, or one that is none
            spelled = number(self.random.choice(LONGS), longer_by=self.random.randrange(4))
            return bytes(value[:at]) + spelled + bytes(value[at + self.random.randrange(3) :])
        if way == 7:  # the other framing
            return b"\0" + struct.pack(">i", self.random.randrange(5)) + bytes(value[HEADER_SIZE:])
        for _ in range(self.random.randint(0, 3)):
            at = self.random.randrange(HEADER_SIZE, len(value)) if len(value) > HEADER_SIZE else 0
            match self.random.randrange(4):
                case 0:
                    value[at] ^= 1 << self.random.randrange(8)
                case 1:
                    value[at] = self.random.choice([0, 1, 2, 3, 4, 0x7F, 0x80, 0xFF])
                case 2:
                    value.insert(at, self.random.randrange(256))
                case _:
                    del value[at : at + self.random.randint(1, 3)]
        return bytes(value)

    def row(self, event_type: type[Event], *, nasty: float) -> Row:
        """Values of an event; each is nasty with this probability."""
        named: dict[str, Any] = {}
        fields = newest(event_type).plain["fields"]
        return {part["name"]: self.value(part["type"], part["name"], named, nasty) for part in fields}

    def value(self, schema: Any, name: str, named: dict[str, Any], nasty: float) -> Any:  # noqa: PLR0911
        """One value of a schema."""
        match schema:
            case ["null", inner]:
                return None if self.random.random() < 0.4 else self.value(inner, name, named, nasty)
            case {"type": "array", "items": items}:
                # The record of the items is named once, and must be known where it is named again.
                found = [self.value(items, name, named, nasty) for _ in range(self.random.randrange(1, 4))]
                return found[self.random.randrange(len(found) + 1) :]
            case {"type": "record", "fields": fields}:
                named[schema["name"]] = schema
                return {part["name"]: self.value(part["type"], part["name"], named, nasty) for part in fields}
            case str() if schema in named:
                return self.value(named[schema], name, named, nasty)
            case "boolean":
                return self.random.random() < 0.5
            case "long":
                if self.random.random() < nasty:
                    return self.random.choice(LONGS)
                return (
                    AT + self.random.randrange(10**12)
                    if name.endswith("_at")
                    else self.random.randrange(1000)
                )
            case _:
                return self.text(name, nasty)

    def text(self, name: str, nasty: float) -> str:
        if self.random.random() < nasty:
            return self.random.choice(TEXTS)
        if name == "event_id":
            digits = f"{self.random.getrandbits(128):032x}"
            return "-".join(digits[a:b] for a, b in ((0, 8), (8, 12), (12, 16), (16, 20), (20, 32)))
        if name == "metadata":
            return self.random.choice(["{}", '{"a":[1,null,"é"]}', '{"exitStatus":137}'])
        return self.random.choice(["users", "public", "", "ünï", "y" * 100, "no route to host"])


LONGS: Final = (
    *(-(2**63), -(2**62) - 1, -64, -2, -1, 0, 1, 2, 63, 64, 1023, 1024, 2**53 - 1, 2**53, 2**61, 2**62),
    *(2**63 - 1, AT, 946_684_800_000_000, 946_684_799_999_999, 7_258_118_400_000_000),
)
TEXTS: Final = (
    *(
        "",
        "\0",
        "a\0b",
        "x" * 64,
        "x" * 1024,
        "x" * 1025,
        "é" * 512,
        "é" * 513,
        "😀",
        ID,
        ID.upper(),
        ID[:-1],
    ),
    *(
        "{}",
        "[]",
        '{"a":"\\u0000"}',
        '{"a":"\\\\u0000"}',
        "{",
        "null",
        '{"a":NaN}',
        "[" * 200,
        '{"password":"x"}',
    ),
    *("password=hunter2", "postgres://u:hunter2@h", "\x1b[31mred", "\u202e", "token ghp_" + "a1" * 18),
)


def main() -> int:
    """Runs it; prints what became of the messages."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--bodies", type=int, default=1_000_000, metavar="N", help="random or damaged messages"
    )
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="the same seed, the same messages")
    options = parser.parse_args()
    begun = time.monotonic()
    try:
        counts = Fuzzer(options.seed).run(options.bodies)
    except BrokenPromiseError as error:
        print(f"seed {options.seed}: {error}", file=sys.stderr)
        return 1
    print(f"{counts.bodies:,} bodies of seed {options.seed} in {time.monotonic() - begun:,.0f} s")
    print(f"accepted: {counts.accepted:,}, and {counts.neighbours:,} untouched neighbours among them")
    print(f"refused: {sum(counts.refused.values()):,}")
    for reason, count in counts.refused.most_common():
        print(f"  {reason:<16} {count:>9,}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
