"""The benchmark of decoding and folding runs, at a hundredth of its size."""

from __future__ import annotations

from benchmark_runs import measured


def test_the_benchmark_of_decoding_gives_all_its_figures() -> None:
    """Each step by size of batch, and for each event type alone; no message of its log is refused."""
    found = measured("decode.py", "--events", "6000", "--jobs", "50", "--rounds", "1")
    assert {"5000"} == found["batches"].keys()
    assert sum(figures["events"] for figures in found["types"].values()) == found["events"] == 6000
    assert next(iter(found["types"])) == "StreamStats"
    for figures in [*found["batches"].values(), *found["types"].values()]:
        assert all(rate > 0 for rate in figures.values())
        assert figures["to rows"] < min(figures["decode"], figures["gate"], figures["fold"])
