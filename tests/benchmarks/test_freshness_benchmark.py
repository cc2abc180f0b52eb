"""The benchmark of freshness gives its figures."""

from __future__ import annotations

from benchmark_runs import measured


def test_the_benchmark_of_freshness_gives_all_its_figures() -> None:
    """What is emitted is read by SQL and by HTTP, alone and with others beside."""
    found = measured("freshness.py", "--events", "5", "--rates", "0", "200", "--no-peers")["found"]
    assert {rate: set(readers) for rate, readers in found.items()} == {
        "0": {"SQL", "HTTP"},
        "200": {"SQL", "HTTP"},
    }
    for readers in found.values():
        for figures in readers.values():
            assert 0 < figures["p50_ms"] <= figures["p99_ms"] <= figures["max_ms"]
