"""Machine code checks no index. So what is compiled is run as Python as well, on arrays that check each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from record_batches import TOPIC, Pair, batch, hold_law
from samples import one_of_each
from wire import BROKER_MS, ID, encoded, messages, newest, number

from jobtrail import codec, kinds
from jobtrail.consumers import compiled
from jobtrail.consumers.block import BadBatchError, Block, RecordBatch
from jobtrail.consumers.compiled import Batches, Columns, Messages
from jobtrail.consumers.decode import Decoder
from jobtrail.consumers.flat import FlatReader

DECODER = Decoder()
READERS = {wire.header: FlatReader(wire) for wire in codec.released().by_header.values() if not wire.nested}
#: What is called by name from other compiled functions.
NAMES = (
    *("number", "walk", "fingerprints", "cut", "view", "is_hexadecimal", "is_event_id", "bits_of"),
    *("is_decimal", "is_same", "read_flat"),
)
#: What lies behind a text must not count as it.
BEHIND = (bytes(compiled.PADDING), b"\xff" * compiled.PADDING, b"a" * compiled.PADDING)


class Checked:
    """An array that refuses each index that is not in it, those from the end as well."""

    def __init__(self, array: np.ndarray[Any, Any]) -> None:
        self.array = array

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, index: Any) -> Any:
        found = self.array[self._within(index)]
        return Checked(found) if isinstance(found, np.ndarray) else found

    def __setitem__(self, index: Any, value: Any) -> None:
        self.array[self._within(index)] = value

    def _within(self, index: Any) -> Any:
        places = index if isinstance(index, tuple) else (index,)
        for place, size in zip(places, self.array.shape, strict=False):
            if not 0 <= place < size:
                raise IndexError(f"{index} of {self.array.shape}")
        return index


def checked(arrays: Any) -> Any:
    """The same tuple of them."""
    return type(arrays)(*(Checked(one) if isinstance(one, np.ndarray) else one for one in arrays))


@contextmanager
def as_python() -> Iterator[None]:
    """Compiled functions, and what they call, as what they are compiled from."""
    with pytest.MonkeyPatch.context() as patch, np.errstate(over="ignore"):
        for name in NAMES:
            patch.setattr(compiled, name, cast("Any", getattr(compiled, name)).py_func)
        yield


def test_all_that_is_compiled_is_run_as_python_here() -> None:
    assert {name for name, one in vars(compiled).items() if hasattr(one, "py_func")} == set(NAMES)


def test_an_index_that_is_not_there_is_found() -> None:
    array = Checked(np.zeros((2, 3)))
    for index in ((0, 3), (0, -1), (2, 0), (-1, 0), 2, -1):
        with pytest.raises(IndexError):
            array[index]
        with pytest.raises(IndexError):
            array[index] = 1
    with pytest.raises(IndexError):
        array[1][3]
    array[1][2] = 5
    assert array[1, 2] == 5


# Numbers and texts.

INT64 = st.integers(-(2**63), 2**63 - 1)
EDGES = [0, 1, -1, 63, 64, -64, -65, 2**31, 2**61, 2**62, -(2**62), 2**63 - 1, -(2**63)]


def on_both(name: str, *arguments: Any) -> Any:
    """What a function gives, which is the same as Python and on a buffer that checks."""
    found = getattr(compiled, name)(*arguments)
    with as_python():
        buffer, *rest = arguments
        assert getattr(compiled, name)(Checked(buffer), *rest) == found
    return found


def bytes_of(data: bytes) -> compiled.Bytes:
    return np.frombuffer(data, np.uint8)


def words_of(data: bytes, behind: bytes = BEHIND[0]) -> compiled.Words:
    return compiled.words_of(bytes_of(data + behind))


@given(INT64 | st.sampled_from(EDGES), st.binary(max_size=2), st.binary(max_size=2))
@settings(deadline=None)
def test_a_number_is_read_from_its_shortest_spelling_alone(value: int, before: bytes, after: bytes) -> None:
    spelled = number(value)
    buffer = bytes_of(before + spelled + after)
    begin, end = len(before), len(before) + len(spelled)
    assert on_both("number", buffer, begin, end) == (value, end)
    assert on_both("number", buffer, begin, len(buffer)) == (value, end)
    for cut in range(begin, end):
        assert on_both("number", buffer, begin, cut)[1] == -1
    for longer_by in (1, 2, 9):
        longer = bytes_of(number(value, longer_by=longer_by))
        assert on_both("number", longer, 0, len(longer))[1] == -1


@given(st.binary(max_size=12) | st.binary(max_size=4).map(lambda end: b"\xff" * 9 + end))
@settings(deadline=None)
def test_any_bytes_are_a_number_or_none(data: bytes) -> None:
    value, at = on_both("number", bytes_of(data), 0, len(data))
    assert at == -1 or number(value) == data[:at]


@given(st.integers(-3, 2**53) | st.sampled_from(EDGES), st.binary(max_size=20) | st.none())
@settings(deadline=None)
def test_bytes_are_a_decimal_as_python_spells_it(value: int, other: bytes | None) -> None:
    for data in [str(value).encode(), b"0" + str(value).encode(), str(value + 1).encode(), b"-0", b"", other]:
        size = -1 if data is None else len(data)
        is_it = on_both("is_decimal", bytes_of(data or b""), 0, size, value)
        assert is_it == (data == str(value).encode() and 0 <= value < 10**18)


@given(st.integers(0, 35), st.integers(0, 255))
@settings(deadline=None)
def test_event_ids_are_those_of_the_pattern(at: int, byte: int) -> None:
    """With any byte anywhere; and none that is shorter or longer."""
    data = bytearray(ID.encode())
    data[at] = byte
    is_it = byte < 128 and bool(kinds.EVENT_ID.match(data.decode()))
    for behind in BEHIND:
        assert on_both("is_event_id", words_of(bytes(data), behind), 0, 36) == is_it
    for size in (-1, 0, 35, 37):
        assert not on_both("is_event_id", words_of(bytes(data)), 0, size)


def test_each_byte_of_an_event_id_counts() -> None:
    """All of them, where chance would have passed some by."""
    for at in range(36):
        for byte in range(256):
            data = bytearray(ID.encode())
            data[at] = byte
            is_it = byte < 128 and bool(kinds.EVENT_ID.match(data.decode()))
            assert compiled.is_event_id(words_of(bytes(data)), 0, 36) == is_it


@given(st.binary(max_size=40), st.sampled_from(BEHIND))
@settings(deadline=None)
def test_the_bits_of_a_text_are_its_own(text: bytes, behind: bytes) -> None:
    """And a NUL is found wherever it is; for each number of bytes in the last eight."""
    for size in range(len(text) + 1):
        part = text[:size]
        bits, has_no_nul = on_both("bits_of", words_of(b"x" + text, behind), 1, size)
        assert has_no_nul == (0 not in part)
        assert (bits & 0x8080808080808080 == 0) == part.isascii()


def test_words_are_all_there_are() -> None:
    """From each place that a text can be at, the last one where nothing is."""
    words = words_of(b"abcdefgh", b"ijklmnop")
    assert [int(word).to_bytes(8, "little") for word in words[[0, 1, 8]]] == [
        b"abcdefgh",
        b"bcdefghi",
        b"ijklmnop",
    ]
    assert len(words) == 9


@given(st.binary(max_size=20), st.binary(max_size=20))
@settings(deadline=None)
def test_the_same_bytes_are_the_same(one: bytes, other: bytes) -> None:
    for second in (one, other, one[:-1], one + b"\0"):
        buffer = bytes_of(one + second)
        found = on_both("is_same", buffer, 0, len(one), len(one), len(second))
        assert found == (one == second)
    assert not on_both("is_same", bytes_of(b"ab"), 0, -1, 0, 2)  # a null key


@given(st.binary(max_size=30), st.binary(max_size=3), st.sampled_from(BEHIND))
@settings(deadline=None)
def test_a_view_is_as_arrow_has_it(text: bytes, before: bytes, behind: bytes) -> None:
    """Variable-size Binary View Layout: a size, and the text or its first bytes, buffer and place."""
    words = words_of(before + text, behind)
    size = len(text).to_bytes(4, "little")
    rest = text.ljust(12, b"\0") if len(text) <= 12 else text[:4] + bytes(4) + bytes([len(before), 0, 0, 0])
    low, high = on_both("view", words, len(before), len(text))
    assert int(low).to_bytes(8, "little") + int(high).to_bytes(8, "little") == size + rest


# Whole batches.


@st.composite
def pairs(draw: st.DrawFn) -> Pair:
    event_type, row = draw(messages())
    return str(row[event_type.key_field]).encode(), encoded(newest(event_type), row)


SAMPLES: list[Pair] = [(event.key, codec.encode(event)) for event in one_of_each()]
ODD: list[Pair] = [(None, None), (b"", b""), (b"7", b"\xc3\x01"), (None, b"\xc3\x01" + bytes(7))]
#: What a damaged byte may be, and a number or two.
DAMAGE = st.one_of(
    st.binary(min_size=1, max_size=2),
    st.sampled_from([0, 1, 2, 0x7F, 0x80, 0xFE, 0xFF]).map(lambda byte: bytes([byte])),
    st.sampled_from(EDGES).map(number),
    st.just(b"\xff" * 10),
    st.just(b"\x80" * 9 + b"\1"),
)


@st.composite
def broken(draw: st.DrawFn) -> list[RecordBatch]:
    """One to three batches; most are damaged in their bytes or in what their header says."""
    found, first = [], 100
    for _ in range(draw(st.integers(1, 3))):
        some = draw(st.lists(st.sampled_from(SAMPLES + ODD), max_size=4))
        good = batch(some, first, appended=draw(st.sampled_from([-1, BROKER_MS])))
        data, count = bytearray(good.records), good.count
        match draw(st.sampled_from(["good", "bytes", "bytes", "bytes", "cut", "count", "rest"])):
            case "bytes":
                for _ in range(draw(st.integers(1, 3)) if data else 0):
                    at, put = draw(st.integers(0, len(data) - 1)), draw(DAMAGE)
                    data[at : at + draw(st.integers(0, len(put)))] = put
            case "cut":
                del data[draw(st.integers(0, len(data))) :]
            case "count":
                count += draw(st.integers(-2, 3) | st.just(2**31 - 1))
            case "rest":
                data += draw(st.binary(max_size=9))
            case _:
                pass
        found.append(RecordBatch(bytes(data), count, first, good.first_at, good.appended_at))
        first += 10
    return found


def walked(batches: list[RecordBatch]) -> tuple[int, np.ndarray[Any, Any]]:
    """As Block.of calls it, as Python and with checks; with no more rows than the counts say."""
    buffer = bytes_of(b"".join(one.records for one in batches))
    sizes = np.array([len(one.records) for one in batches], np.int64)
    ends = np.cumsum(sizes)
    about = [(one.count, one.first_offset, one.first_at, one.appended_at) for one in batches]
    columns = np.full((6, sum(max(one.count, 0) for one in batches)), -7, np.int64)
    with as_python():
        given_ = checked(Batches(ends - sizes, ends, *np.array(about, np.int64).T.copy()))
        return compiled.walk(cast("Any", Checked(buffer)), given_, cast("Any", Checked(columns))), columns


def parts(block: Block) -> np.ndarray[Any, Any]:
    return np.array(
        [block.offsets, block.broker_ms, block.values, block.value_sizes, block.keys, block.key_sizes]
    )


@given(broken())
@settings(deadline=None, max_examples=200)
def test_damaged_batches_are_refused_or_hold_what_lies_in_them(batches: list[RecordBatch]) -> None:
    """Machine code and checked Python find the same, and what is found can be read in either way."""
    believable = all(0 <= one.count * 7 <= len(one.records) for one in batches)
    rows, columns = walked(batches) if believable else (-1, np.empty(0))
    try:
        block = Block.of(*TOPIC, batches)
    except BadBatchError:
        assert rows == -1
        return
    assert rows == len(block)
    assert (parts(block) == columns).all()
    assert lie_within(block)
    hold_law(DECODER, block)


def lie_within(block: Block) -> bool:
    """Each key and value in the buffer; each offset above the one before."""
    end = len(block.buffer)
    for at, size in ((block.values, block.value_sizes), (block.keys, block.key_sizes)):
        assert ((at >= 0) & (size >= -1) & (size <= end) & (at + np.maximum(size, 0) <= end)).all()
    assert (np.diff(block.offsets) > 0).all()
    assert (block.offsets >= 0).all()
    return True


def alone(pair: Pair) -> tuple[compiled.Bytes, Messages]:
    """A key and a value, and nothing behind them."""
    key, value = pair
    places = [0, len(key or b"")]
    buffer = bytes_of((key or b"") + (value or b""))
    sizes = [-1 if part is None else len(part) for part in (key, value)]
    columns = [np.array([one], np.int64) for one in (places[1], sizes[1], places[0], sizes[0])]
    return buffer, Messages(*columns)


def reads_the_same(header: bytes, pair: Pair) -> bool:
    """Read alone, whatever lies behind it, by both; gives whether it is plainly good."""
    buffer, message = alone(pair)
    reader = READERS[header]
    results: list[tuple[Any, ...]] = []

    def run(prepare: Callable[[Any], Any], one: Callable[[Any], Any], behind: bytes) -> None:
        rows = len(message.values)
        count = {
            code: reader._columns.count(code) for code in (compiled.LONG, compiled.BOOLEAN, compiled.TEXT)
        }
        columns = Columns(
            np.zeros((count[compiled.LONG], rows), np.int64),
            np.zeros((count[compiled.BOOLEAN], rows), np.uint8),
            np.zeros((count[compiled.TEXT], rows, 2), np.uint64),
            np.ones((len(reader._names), rows), np.uint8),
        )
        good = np.zeros(rows, np.bool_)
        words = words_of(buffer.tobytes(), behind)
        arrays = prepare(message), prepare(reader._fields), prepare(columns)
        is_ascii = compiled.read_flat(one(buffer), one(words), *arrays, one(good))
        results.append((is_ascii, good.tolist(), *(column.tolist() for column in columns)))

    for behind in BEHIND:
        run(lambda arrays: arrays, lambda array: array, behind)
    with as_python():
        run(checked, Checked, BEHIND[1])
    assert all(result == results[0] for result in results)
    return bool(results[0][1][0])


@st.composite
def damaged(draw: st.DrawFn) -> Pair:
    """A message of a flat schema, with its header whole."""
    key, value = draw(
        st.sampled_from([pair for pair in SAMPLES if (pair[1] or b"")[:10] in READERS]) | pairs()
    )
    data = bytearray(value or b"")
    for _ in range(draw(st.integers(0, 3)) if len(data) > 10 else 0):
        at, put = draw(st.integers(10, len(data))), draw(DAMAGE)
        data[at : at + draw(st.integers(0, len(put)))] = put
    return draw(st.sampled_from([key, key, key, None, b"", b"0"])), bytes(data[: draw(st.integers(10, 400))])


@given(damaged())
@settings(deadline=None, max_examples=150)
def test_no_message_is_read_beyond_its_end(pair: Pair) -> None:
    buffer, message = alone(pair)
    found = np.full(1, 7, np.uint64)
    with as_python():
        compiled.fingerprints(cast("Any", Checked(buffer)), checked(message), cast("Any", Checked(found)))
    value = pair[1] or b""
    assert found[0] == int.from_bytes(value[2:10], "little")
    if value[:10] in READERS:
        reads_the_same(value[:10], pair)


def test_every_beginning_of_a_message_is_no_message() -> None:
    """Cut off behind each byte."""
    for key, value in SAMPLES:
        assert value is not None
        if value[:10] in READERS:
            is_plain = reads_the_same(value[:10], (key, value))
            assert is_plain == (b'"a"' not in value)  # the text of JSON is for others to judge
            for size in range(10, len(value)):
                assert not reads_the_same(value[:10], (key, value[:size]))


@pytest.mark.parametrize("value", [None, b"", b"\xc3", b"\xc3\x01", b"\xc3\x01" + b"\xff" * 7, b"\xc4" * 12])
def test_a_message_without_a_fingerprint_has_none(value: bytes | None) -> None:
    buffer, message = alone((b"7", value))
    for run in (lambda one: one, Checked):
        found = np.full(1, 7, np.uint64)
        if run is Checked:
            with as_python():
                compiled.fingerprints(cast("Any", Checked(buffer)), checked(message), found)
        else:
            compiled.fingerprints(buffer, message, found)
        assert found[0] == 0
