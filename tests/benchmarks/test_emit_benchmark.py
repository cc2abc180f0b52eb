"""The benchmark of emitting runs, at a hundredth of its size, and its section is written where it belongs."""

from __future__ import annotations

from pathlib import Path

from benchmark_runs import measured
from results import table, write_section


def test_the_benchmark_of_emitting_gives_all_its_figures() -> None:
    """Both kinds of events by the SDK and in three ways without it; the topic has all that was sent."""
    found = measured("emit.py", "--events", "2000", "--rounds", "1")
    assert set(found["kinds"]) == {"StreamStats", "life-cycle events"}
    for kind in found["kinds"].values():
        assert len(kind["sides"]) == 4
        assert len(kind["ratios"]) == 3
        assert all(micros > 0 for micros in kind["steps"].values())
        for figures in kind["sides"].values():
            assert 0 < figures["p50_us"] <= figures["p99_us"] <= figures["max_us"]
            assert 0 < figures["per_second"] <= figures["queued_per_second"]
    assert found["in_topic"] == found["sent"] >= 2 * 4 * 2000
    assert [bound["holds"] for bound in found["bounds"] if "the topic holds" in bound["bound"]] == [True]


def test_a_section_is_replaced_and_the_others_stay(tmp_path: Path) -> None:
    file = tmp_path / "RESULTS.md"
    file.write_text("# What was measured\n\n## A\n\nold a\n\n## B\n\nold b\n\n## B too\n\nstays\n")
    write_section("B", table(["x"], [["1"]]), command="make b", settings="3 rounds.", file=file)
    write_section("C", "new c", command="make c", file=file)
    write_section("C", "newer c", command="make c", file=file)
    text = file.read_text()
    assert [line for line in text.splitlines() if line.startswith("#")] == [
        "# What was measured",
        "## A",
        "## B",
        "## B too",
        "## C",
    ]
    assert "old a" in text
    assert "stays" in text
    assert "old b" not in text
    assert "new c" not in text
    for part in (
        "    make b\n",
        "Python 3.",
        "librdkafka",
        "load average",
        "3 rounds.",
        "| x |\n| --- |\n| 1 |\n",
    ):
        assert part in text
