"""The benchmark of the tap runs, at a hundredth of its size, without the faker."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from benchmark_runs import measured
from tap import Bench, record

from jobtrail.producers.protocol import decode


@pytest.mark.skipif(sys.platform != "linux", reason="reads the kernel's accounts of child processes")
def test_the_benchmark_of_the_tap_gives_all_its_figures() -> None:
    """All bytes come out of each pipe; the tap, cat and wc stand side by side."""
    found = measured("tap.py", "--records", "300000", "--rounds", "1", "--users", "0")
    (pipes,) = found["pipes"].values()
    assert set(pipes) == {"jobtrail tap", "cat", "wc -l"}
    assert all(figures["mb_per_second"] > 0 for figures in pipes.values())
    assert pipes["jobtrail tap"]["start_and_end_s"] > 0
    assert len(found["bounds"]) == 1


def test_its_records_have_400_bytes() -> None:
    for number in (0, 9_999):
        line = record(number)
        assert len(line) == 400
        message = decode(line[:-1])
        assert message is not None
        assert message.record is not None
        assert message.record.stream == "users"


@pytest.mark.skipif(sys.platform != "linux", reason="reads the kernel's accounts of child processes")
def test_a_source_runs_alone_and_tapped(tmp_path: Path) -> None:
    """By the clock and by processor; a tap that loses a line is no result."""
    bench = Bench("127.0.0.1:1", tmp_path)
    bench.tap = ["cat"]
    found = bench.sync(["seq", "1000"], 2)
    assert found["lines"] == 1000
    for what in ("clock", "cpu"):
        more = found[f"tapped_{what}_s"] / found[f"alone_{what}_s"] - 1
        assert found[f"{what}_more"] == pytest.approx(more)
    bench.tap = ["sed", "1d"]
    with pytest.raises(SystemExit, match="999, 1000"):
        bench.sync(["seq", "1000"], 1)
