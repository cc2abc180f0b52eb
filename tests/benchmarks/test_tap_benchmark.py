"""The benchmark of the tap runs, at a hundredth of its size, without the faker."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tap import record

from jobtrail.producers.protocol import decode

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.skipif(sys.platform != "linux", reason="reads the kernel's accounts of child processes")
def test_the_benchmark_of_the_tap_gives_all_its_figures() -> None:
    """All bytes come out of each pipe; the tap, cat and wc stand side by side."""
    ran = subprocess.run(
        [
            sys.executable,
            BENCHMARKS / "tap.py",
            "--records",
            "300000",
            "--rounds",
            "1",
            "--users",
            "0",
            "--json",
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=150,
    )
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
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
