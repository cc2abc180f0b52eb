"""The benchmark of an outage gives its figures, and nothing is lost in it."""

from __future__ import annotations

import sys

import pytest
from benchmark_runs import measured


@pytest.mark.skipif(sys.platform == "win32", reason="stops the broker by signals")
def test_an_outage_of_the_broker_loses_nothing_and_keeps_the_order() -> None:
    """Also where the worker is killed in it; and with JOBTRAIL_SPOOL=always at any moment."""
    found = measured("outage.py", "--seconds", "3", "--moments", "80", "300")
    runs = found["found"]
    for run in ("goes on", "killed", "always"):
        assert runs[run]["accepted"] > 1_000
        assert runs[run]["lost"] == 0
    assert runs["goes on"]["in_order"]
    assert runs["killed"]["in_order"]
    assert 0 < runs["goes on"]["p50_ms"] <= runs["goes on"]["p99_ms"]
    assert runs["outage"]["oldest_lost_ms"] < 1_000
