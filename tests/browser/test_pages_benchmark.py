"""The benchmark of the pages runs, at a hundredth of a percent of its size."""

from __future__ import annotations

import sys

import pytest
from benchmark_runs import measured


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_benchmark_of_pages_gives_all_its_figures() -> None:
    """Something is painted, each set of pages is kept open, and its numbers are seen."""
    found = measured("pages.py", "--jobs", "100", "--pages", "10", "--rate", "200", "--seconds", "4")
    assert 0 < found["paint"]["p50_ms"] <= found["paint"]["max_ms"]
    assert 10_000 < found["paint"]["bytes"] < 150_000
    for figures in found["open"].values():
        assert figures["pages"] == 10
        assert figures["core"] > 0
        assert figures["messages_per_page_s"] > 0
        assert figures["seen"] == figures["marks"] > 0
    assert len(found["bounds"]) == 5
