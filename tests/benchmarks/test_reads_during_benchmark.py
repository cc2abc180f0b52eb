"""The benchmark of reads during a rebuild gives its figures."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "reads_during.py"


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_no_reader_notices_a_rebuild() -> None:
    """Not one error, and every reader was answered alone, while it ran, and around its swap."""
    ran = subprocess.run(
        [sys.executable, SCRIPT, "--events", "5000", "--seconds", "2", "--rebuilds", "1", "--json"],
        capture_output=True,
        text=True,
        check=False,
        timeout=150,
    )
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    assert set(found["readers"]) == {"SQL, by pgbench", "HTTP, jobs/get_light", "HTTP, jobs/list, 25"}
    for figures in found["readers"].values():
        assert figures.pop("errors") == 0
        for part in figures.values():
            assert part["requests"] > 0
            assert 0 < part["p50_ms"] <= part["p99_ms"] <= part["max_ms"]
