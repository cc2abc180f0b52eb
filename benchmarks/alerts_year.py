"""Whether alerts find what is planted in half a year of 50 connections, and how often they cry wolf.

    make bench-alerts
    .venv/bin/python benchmarks/alerts_year.py --seed 3
    .venv/bin/python benchmarks/alerts_year.py --seeds 20

`alerts_history.py` makes the half year of a seed; one rule of each kind with the default thresholds judges
it, by the engine of `alerts test`. An incident is found when an alert of its kind and subject triggers
between its begin and two days after its end. An alert of another kind in that time is a consequence of it (a
connection that fails has no success either). Every other alert is false, and told by connection.

Exit status 1 with --check where a planted incident is not found, or a connection has two false alarms.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from alerts_history import ALL, BEGAN, Incident, Year, half_year
from results import table, write_section

from jobtrail.cli.progress import Shown
from jobtrail.consumers.alerts.engine import Fired, replay
from jobtrail.consumers.alerts.judge import span
from jobtrail.consumers.alerts.rules import DAY, RuleKind, RuleSet, every_kind

#: Time after an incident in which what is found of it is still its.
AFTERWARDS: Final = 2 * DAY


@dataclass(frozen=True)
class Verdict:
    """What came of a seed."""

    year: Year
    fired: Sequence[Fired]
    #: Incident → the first alert of its kind.
    found: dict[Incident, Fired]
    consequences: Sequence[Fired]
    false: Sequence[Fired]

    @property
    def missed(self) -> list[Incident]:
        """Planted, and not found."""
        return [incident for incident in self.year.incidents if incident not in self.found]

    @property
    def false_by_subject(self) -> Counter[str]:
        """False alarms of each connection that has one."""
        return Counter(fired.subject for fired in self.false)

    @property
    def most_false(self) -> int:
        """Of one connection."""
        return max(self.false_by_subject.values(), default=0)

    @property
    def holds(self) -> bool:
        """All found, and at most one false alarm per connection."""
        return not self.missed and self.most_false <= 1


def judged(year: Year, shown: Shown | None = None) -> Verdict:
    """By a rule of each kind with its defaults."""
    rules = RuleSet(every_kind(), tuple(year.pauses))
    told = shown or (lambda *_: None)
    fired = replay(rules, year.facts, BEGAN, year.ended, lambda done, of: told(f"seed {year.seed}", done, of))
    return sorted_out(year, fired)


def sorted_out(year: Year, fired: Sequence[Fired]) -> Verdict:
    """Which alerts are of an incident, which a consequence of one, and which are false."""
    found: dict[Incident, Fired] = {}
    consequences, false = [], []
    for one in fired:
        around = [
            incident
            for incident in year.incidents
            if incident.connection_id == one.subject
            and incident.began <= one.triggered <= incident.ended + AFTERWARDS
        ]
        of_kind = [incident for incident in around if incident.kind == one.rule.kind]
        if of_kind:
            found.setdefault(of_kind[-1], one)
        elif around:
            consequences.append(one)
        else:
            false.append(one)
    return Verdict(year, fired, found, consequences, false)


def by_kind(verdict: Verdict) -> str:
    """A table: planted, found, and how soon."""
    rows = []
    for kind in RuleKind:
        planted = [incident for incident in verdict.year.incidents if incident.kind == kind]
        delays = sorted(
            verdict.found[incident].triggered - incident.began
            for incident in planted
            if incident in verdict.found
        )
        false = sum(one.rule.kind == kind for one in verdict.false)
        rows.append(
            [
                f"`{kind}`",
                str(len(planted)),
                str(len(delays)),
                span(round(median(delays))) if delays else "-",
                span(delays[-1]) if delays else "-",
                str(false),
            ]
        )
    return table(["kind", "planted", "found", "delay, median", "longest", "false alarms"], rows)


def by_seed(verdicts: Sequence[Verdict]) -> str:
    """A table: a line for each seed."""
    rows = [
        [
            str(verdict.year.seed),
            f"{len(verdict.year.planned):,}",
            f"{len(verdict.found)} of {len(verdict.year.incidents)}",
            str(len(verdict.consequences)),
            str(len(verdict.false)),
            str(verdict.most_false),
        ]
        for verdict in verdicts
    ]
    return table(["seed", "runs", "found", "consequences", "false alarms", "most of one connection"], rows)


def exceptions(verdicts: Sequence[Verdict]) -> list[str]:
    """What does not hold, each in a line."""
    lines = []
    for verdict in verdicts:
        cadences = {connection.connection_id: connection.cadence for connection in verdict.year.connections}
        lines += [
            f"seed {verdict.year.seed}: not found: {incident.kind} of the"
            f" {cadences.get(incident.connection_id, ALL)} connection {incident.connection_id[:8]} on day"
            f" {(incident.began - BEGAN) / DAY:.1f}"
            for incident in verdict.missed
        ]
        for subject, count in verdict.false_by_subject.items():
            if count > 1:
                kinds = ", ".join(one.rule.kind for one in verdict.false if one.subject == subject)
                lines.append(
                    f"seed {verdict.year.seed}: {count} false alarms of the {cadences[subject]} connection"
                    f" {subject[:8]} ({kinds})"
                )
    return lines


def main() -> int:
    """Judges, prints, and writes its section of RESULTS.md where that is asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seed", type=int, default=1, help="the half year that is told in full (1)")
    parser.add_argument(
        "--seeds", type=int, default=1, metavar="N", help="and N - 1 more, by a line each (1)"
    )
    parser.add_argument("--check", action="store_true", help="status 1 where it does not hold for --seed")
    parser.add_argument("--write", action="store_true", help="write the section of RESULTS.md")
    options = parser.parse_args()
    with Shown(sys.stderr) as shown:
        verdicts = [
            judged(half_year(seed), shown) for seed in range(options.seed, options.seed + options.seeds)
        ]
    first = verdicts[0]
    young = first.year.connections[-1].connection_id
    told = (
        f"Seed {first.year.seed}: {len(first.year.planned):,} runs of {len(first.year.connections)}"
        f" connections, {len(first.fired)} alerts. {len(first.found)} of {len(first.year.incidents)} planted"
        f" incidents are found, {len(first.consequences)} alerts are consequences of these,"
        f" {len(first.false)} are false: at most {first.most_false} of a connection, and"
        f" {first.false_by_subject[young]} of the one that is three days old."
    )
    parts = [told, by_kind(first)]
    if len(verdicts) > 1:
        held = sum(verdict.holds for verdict in verdicts)
        parts += [
            f"All found, and at most one false alarm per connection: {held} of {len(verdicts)} seeds.",
            by_seed(verdicts),
        ]
    if said := exceptions(verdicts):
        parts.append("What does not hold:\n\n" + "\n".join(f"- {line}" for line in said))
    text = "\n\n".join(parts)
    print(text)
    if options.write:
        write_section(
            "Alerts over half a year",
            text,
            command=f"make bench-alerts BENCH_ARGS='--seed {options.seed} --seeds {options.seeds}'",
            settings="26 weeks; default thresholds, the pause declared. See benchmarks/alerts_history.py.",
        )
    return 0 if first.holds or not options.check else 1


if __name__ == "__main__":
    sys.exit(main())
