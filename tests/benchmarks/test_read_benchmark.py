"""The benchmark of reads runs, at a hundredth of a percent of its size."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "read.py"


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_benchmark_of_reads_gives_all_its_figures() -> None:
    """Each kind of request is answered, with processor seconds beside it; bounds are judged."""
    ran = subprocess.run(
        [sys.executable, SCRIPT, "--jobs", "100", "--few", "50", "--seconds", "0.2", "--json"],
        capture_output=True,
        text=True,
        check=False,
        timeout=150,
    )
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    assert (found["few"]["jobs"], found["many"]["jobs"]) == (50, 100)
    for figures in found["many"]["kinds"].values():
        assert figures["requests"] > 0
        assert 0 < figures["p50_ms"] <= figures["p99_ms"] <= figures["max_ms"]
        assert figures["server_cpu_s"] + figures["postgres_cpu_s"] > 0
    assert {"get_light: at least 1,500 requests/s", "get_light: p99 at most 5 ms"} <= {
        bound["bound"] for bound in found["bounds"]
    }
