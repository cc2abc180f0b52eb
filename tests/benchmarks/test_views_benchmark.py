"""The benchmark of analysts' views runs, at half a percent of its size."""

from __future__ import annotations

import sys

import pytest
from benchmark_runs import measured
from views import QUERIES


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_benchmark_of_views_gives_all_its_figures() -> None:
    """Each view gives rows, cold and warm, and no plan scans stream stats."""
    found = measured("views.py", "--jobs", "5000", "--rounds", "2")
    assert [(each["view"], each["question"]) for each in found["queries"]] == [*QUERIES]
    for each in found["queries"]:
        assert each["rows"] > 0, each
        assert 0 < each["warm_s"] <= each["longest_s"]
        assert each["cold_s"] > 0
        assert each["cpu_s"] >= 0
        assert each["pages"] > 0
        assert each["reads"]
        assert each["scans"] == []
