"""The benchmark of reads during a rebuild gives its figures."""

from __future__ import annotations

import sys

import pytest
from benchmark_runs import measured


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_no_reader_notices_a_rebuild() -> None:
    """Not one error, and every reader was answered alone, while it ran, and around its swap."""
    found = measured("reads_during.py", "--events", "5000", "--seconds", "2", "--rebuilds", "1")
    assert set(found["readers"]) == {"SQL, by pgbench", "HTTP, jobs/get_light", "HTTP, jobs/list, 25"}
    for figures in found["readers"].values():
        assert figures.pop("errors") == 0
        for part in figures.values():
            assert part["requests"] > 0
            assert 0 < part["p50_ms"] <= part["p99_ms"] <= part["max_ms"]
