"""The benchmark of reads runs, at a hundredth of a percent of its size."""

from __future__ import annotations

import sys

import pytest
from benchmark_runs import measured


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_benchmark_of_reads_gives_all_its_figures() -> None:
    """Each kind of request is answered, with processor seconds beside it; bounds are judged."""
    found = measured("read.py", "--jobs", "100", "--few", "50", "--seconds", "0.2")
    assert (found["few"]["jobs"], found["many"]["jobs"]) == (50, 100)
    for figures in found["many"]["kinds"].values():
        assert figures["requests"] > 0
        assert 0 < figures["p50_ms"] <= figures["p99_ms"] <= figures["max_ms"]
        assert figures["server_cpu_s"] + figures["postgres_cpu_s"] > 0
    assert {"get_light: at least 1,500 requests/s", "get_light: p99 at most 5 ms"} <= {
        bound["bound"] for bound in found["bounds"]
    }
