"""The benchmarks of replay and growth run, on a small log: floors and Jobtrail, which needs nothing apart."""

from __future__ import annotations

import sys

import pytest
from benchmark_runs import measured

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def test_replay_measures_floors_and_jobtrail_on_the_same_log() -> None:
    """Each has a rate; all rows that the log asks for are there at the end."""
    found = measured("replay.py", "--events", "6000", "--rounds", "1", "--only", "floors,live,rebuild")
    engines, refused = found["engines"], found["refused"]
    assert found["problems"] == []
    assert refused.keys() <= {"rebuild"}
    for name, rounds in engines.items():
        assert refused.get(name) or rounds[0]["rate"] > 0
    (live,) = engines["live"]
    assert live["events"] >= 6_000
    assert live["cpu"] > 0
    assert live["pss_mb"] > 0
    tables = live["found"]["tables"]
    assert tables["stream_stats"] == live["found"]["rows"] == 10 * tables["attempts"]
    assert engines["copy"][0]["found"]["rows"] == sum(tables.values()) - tables["anomalies"]
    for rebuilt in engines.get("rebuild", []):
        assert rebuilt["found"] == live["found"]


def test_growth_measures_each_size() -> None:
    """More events, more bytes; what there is no command for is left out."""
    found = measured("growth.py", "--sizes", "2000,6000")
    small, large = found["sizes"]
    assert [each["holds"] for each in found["bounds"]] == [each["found"] >= 0.9 for each in found["bounds"]]
    assert len(found["bounds"]) == 2  # live and rebuild
    assert 2_000 <= small["events"] < large["events"]
    assert 0 < small["topic_bytes"] < large["topic_bytes"]
    assert small["table_bytes"] > 0
    assert large["live"]["whole"]["seconds"] > 0
