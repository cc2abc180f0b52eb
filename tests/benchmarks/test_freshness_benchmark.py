"""The benchmark of freshness gives its figures."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "freshness.py"


def test_the_benchmark_of_freshness_gives_all_its_figures() -> None:
    """What is emitted is read by SQL and by HTTP, alone and with others beside."""
    ran = subprocess.run(
        [sys.executable, SCRIPT, "--events", "5", "--rates", "0", "200", "--no-peers", "--json"],
        capture_output=True,
        text=True,
        check=False,
        timeout=150,
    )
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)["found"]
    assert {rate: set(readers) for rate, readers in found.items()} == {
        "0": {"SQL", "HTTP"},
        "200": {"SQL", "HTTP"},
    }
    for readers in found.values():
        for figures in readers.values():
            assert 0 < figures["p50_ms"] <= figures["p99_ms"] <= figures["max_ms"]
