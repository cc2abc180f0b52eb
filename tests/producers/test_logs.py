from __future__ import annotations

import logging
from pathlib import Path
from unicodedata import category

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.strategies import DataObject

from jobtrail.producers.client import log
from jobtrail.producers.logs import AttemptLog, log_path, read_log, visible


def test_lines_carry_time_and_origin(tmp_path: Path) -> None:
    log = AttemptLog(tmp_path, 7, 0, limit=10_000)
    log.write("source", b"one\ntwo\r\n")
    log.write("destination", "three")
    log.close()
    lines = read_log(tmp_path, 7, 0)
    assert [line.split(maxsplit=1)[1].split() for line in lines] == [
        ["source", "one"],
        ["source", "two"],
        ["destination", "three"],
    ]
    assert read_log(tmp_path, 7, 0, tail=1) == lines[-1:]
    assert read_log(tmp_path, 7, 0, tail=0) == []
    assert read_log(tmp_path, 8, 0) == []


def test_head_and_tail_are_kept_and_the_cut_is_counted(tmp_path: Path) -> None:
    log = AttemptLog(tmp_path, 7, 1, limit=10_000)
    for number in range(5_000):
        log.write("source", f"line {number}")
    log.close()
    written = sum(path.stat().st_size for path in log_path(tmp_path, 7, 1).parent.iterdir())
    lines = read_log(tmp_path, 7, 1)
    assert written <= 10_000
    assert lines[0].endswith("line 0")
    assert lines[-1].endswith("line 4999")
    (note,) = [line for line in lines if line.startswith("[")]
    assert int(note[1:].split()[0].replace(",", "")) + len(lines) - 1 == 5_000


@given(st.data())
def test_no_text_reaches_a_terminal_raw(data: DataObject) -> None:
    text = data.draw(st.text() | st.binary().map(lambda raw: raw.decode(errors="surrogateescape")))
    shown = visible(text)
    assert not any(category(letter) in {"Cc", "Cs", "Zl", "Zp"} for letter in shown.replace("\t", ""))
    assert not set(shown) & set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def test_escape_sequences_and_wrong_bytes_are_shown(tmp_path: Path) -> None:
    log = AttemptLog(tmp_path, 1, 0, limit=10_000)
    log.write("source", b"\x1b[31mred\x00 \xff end")
    log.close()
    assert read_log(tmp_path, 1, 0)[0].endswith(r"\x1b[31mred\x00 \xff end")
    assert log.last_lines("source") == [r"\x1b[31mred\x00 \xff end"]


def test_a_folder_that_cannot_be_written_ends_logging_only(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("a file where the folder should be")
    log = AttemptLog(tmp_path, 1, 0, limit=10_000)
    log.write("source", "kept in memory")
    log.close()
    assert log.error is not None
    assert log.last_lines("source") == ["kept in memory"]


def test_a_log_line_has_no_secret_and_moves_no_terminal(caplog: pytest.LogCaptureFixture) -> None:
    """Nor does the stack trace below it."""
    token = "ghp_" + "a1" * 18
    try:
        int(f"\x1b[31m{token}\u202e")
    except ValueError:
        with caplog.at_level("WARNING", "jobtrail"):
            log.exception("refused: %s", f"\x1b[31m{token}\n\u202eof a source")
    (record,) = caplog.records
    shown = logging.Formatter("%(message)s").format(record)
    assert shown.startswith(r"refused: \x1b[31m***token***\n\u202eof a source" + "\nTraceback")
    assert not set(shown) & {"\x1b", "\u202e"}
    assert token not in shown


def test_a_private_key_stays_hidden_whatever_comes_between_its_lines(tmp_path: Path) -> None:
    """What is printed on stdout meanwhile comes in between what is printed on stderr."""
    log = AttemptLog(tmp_path, 1, 0, limit=10_000)
    printed = [
        "-----BEGIN PRIVATE KEY-----",
        "MIIEowIBAAKCAQEA75lvq3xQ",
        "and on stdout: hello",
        "75lvq3xQAAKCAQEA",
    ]
    for line in [*printed, "-----END PRIVATE KEY-----", "word"]:
        log.write("source", line)
    log.write("source", printed[0])
    for number in range(300):
        log.write("source", f"an error without the rest of a key {number}")
    log.write("source", "another")
    log.close()
    text = "\n".join(read_log(tmp_path, 1, 0))
    assert "75lvq3xQ" not in text
    assert "and on stdout: hello" in text
    assert [
        line for line in ("word", "another") if not text.count(f" {line}\n") and not text.endswith(line)
    ] == []
