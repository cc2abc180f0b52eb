"""What alerts judge: runs of connections, dead letters, how far the read models were behind. Pure.

Instants are microseconds since 1970. A history may reach into the future of the moment that is judged: every
judgement looks only at what had happened by then.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from types import MappingProxyType
from typing import Literal

Outcome = Literal["succeeded", "failed", "cancelled"]


@dataclass(frozen=True, slots=True)
class Run:
    """A sync or refresh that ended: a job, not an attempt of it."""

    connection_id: str
    job_id: int
    workspace_id: str | None
    #: When it was created, and when it ended: of one whose retry does not come, when nobody waits any more.
    began: int
    ended: int
    outcome: Outcome
    #: That it moved, as its job's totals count them; None: nobody counted.
    records: int | None = None
    #: What tells one config error from another; None: it did not end with one.
    config_error: str | None = None


@dataclass(frozen=True, slots=True)
class Letter:
    """A message that was no event."""

    #: When the broker took it.
    at: int
    reason: str


@dataclass(frozen=True, slots=True)
class Lag:
    """How far the read models were behind the log at a moment."""

    at: int
    #: For how long they had lacked the oldest of what they lacked; microseconds.
    behind: int
    #: Messages that they lacked.
    messages: int


class History:
    """The runs of one connection in the order of their ends."""

    def __init__(self, connection_id: str, runs: Iterable[Run]) -> None:
        self.connection_id = connection_id
        self.runs: Sequence[Run] = sorted(runs, key=lambda run: (run.ended, run.job_id))
        self.ends: Sequence[int] = [run.ended for run in self.runs]

    @cached_property
    def successes(self) -> Sequence[Run]:
        """Those that succeeded."""
        return [run for run in self.runs if run.outcome == "succeeded"]

    @cached_property
    def success_ends(self) -> Sequence[int]:
        """When each of them ended."""
        return [run.ended for run in self.successes]

    @cached_property
    def _tally(self) -> Mapping[Outcome, Sequence[int]]:
        """How many of the first n runs had each outcome."""
        return {
            outcome: [0, *accumulate(run.outcome == outcome for run in self.runs)]
            for outcome in ("succeeded", "failed", "cancelled")
        }

    def count(self, outcome: Outcome, after: int, until: int) -> int:
        """How many runs ended so after one moment and not after another."""
        tally = self._tally[outcome]
        return tally[bisect_right(self.ends, until)] - tally[bisect_right(self.ends, after)]

    @property
    def workspace_id(self) -> str | None:
        """That of its newest run."""
        return self.runs[-1].workspace_id if self.runs else None

    def between(self, after: int, until: int) -> Sequence[Run]:
        """Those that ended after one moment and not after another."""
        return self.runs[bisect_right(self.ends, after) : bisect_right(self.ends, until)]

    def successes_by(self, at: int) -> int:
        """How many had succeeded by then."""
        return bisect_right(self.success_ends, at)

    def successes_near(self, at: int, tolerance: int, before: int) -> Sequence[Run]:
        """Those that ended around a moment, and before another."""
        begin = bisect_left(self.success_ends, at - tolerance)
        end = min(bisect_right(self.success_ends, at + tolerance), bisect_left(self.success_ends, before))
        return self.successes[begin:end]


@dataclass(frozen=True)
class Facts:
    """All that is judged."""

    histories: Mapping[str, History] = field(default_factory=lambda: MappingProxyType({}))
    #: In the order of their instants.
    letters: Sequence[Letter] = ()
    lags: Sequence[Lag] = ()

    @cached_property
    def letter_instants(self) -> Sequence[int]:
        """When each letter was taken."""
        return [letter.at for letter in self.letters]

    @cached_property
    def lag_instants(self) -> Sequence[int]:
        """When each look was."""
        return [lag.at for lag in self.lags]


def histories(runs: Iterable[Run]) -> dict[str, History]:
    """The runs by connection."""
    found: dict[str, list[Run]] = {}
    for run in runs:
        found.setdefault(run.connection_id, []).append(run)
    return {connection: History(connection, theirs) for connection, theirs in sorted(found.items())}
