"""The kinds of alert rules, with their thresholds, defaults and bounds: one declaration for all."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Final, Literal

#: Instants and spans are whole microseconds in this package, as in frames.
SECOND: Final = 1_000_000
MINUTE: Final = 60 * SECOND
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR
WEEK: Final = 7 * DAY

#: What a threshold is: a span of time ("6h"), a share from 0 to 1, a whole number, a factor.
Measure = Literal["span", "share", "count", "factor"]


class RuleKind(StrEnum):
    """What a rule looks for."""

    FAILURE_RATE = "failure_rate"
    NO_SUCCESS = "no_success"
    REPEATED_CONFIG_ERROR = "repeated_config_error"
    ZERO_RECORD_SUCCESS = "zero_record_success"
    VOLUME = "volume"
    DEAD_LETTERS = "dead_letters"
    LAG = "lag"

    @property
    def by_connection(self) -> bool:
        """Whether each connection is judged by itself; else the installation is."""
        return self not in {RuleKind.DEAD_LETTERS, RuleKind.LAG}


class Severity(StrEnum):
    """How bad it is, for whoever receives it."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


@dataclass(frozen=True, slots=True)
class Threshold:
    """A number of a kind of rule."""

    measure: Measure
    default: float
    lowest: float
    highest: float
    meaning: str


_SPAN: Final = (MINUTE, 400 * DAY)

THRESHOLDS: Final[Mapping[RuleKind, Mapping[str, Threshold]]] = MappingProxyType(
    {
        RuleKind.FAILURE_RATE: {
            "window": Threshold("span", DAY, *_SPAN, "runs that ended within it are counted"),
            "rate": Threshold("share", 0.25, 0.01, 1, "share of failed runs from which on it triggers"),
            "min_runs": Threshold("count", 4, 1, 100_000, "fewer runs say nothing"),
            "min_failures": Threshold("count", 3, 1, 100_000, "fewer failures say nothing"),
        },
        RuleKind.NO_SUCCESS: {
            "missed": Threshold("count", 2, 1, 1_000, "successes missed, by the same hours of past weeks"),
            "at_least": Threshold("span", 6 * HOUR, *_SPAN, "never sooner after the last success"),
            "floor": Threshold(
                "span", 8 * DAY, *_SPAN, "what a connection with less than two weeks of history may take"
            ),
        },
        RuleKind.REPEATED_CONFIG_ERROR: {
            "times": Threshold("count", 2, 2, 1_000, "runs that ended with it, and no success between"),
        },
        RuleKind.ZERO_RECORD_SUCCESS: {
            "runs": Threshold("count", 1, 1, 1_000, "successes without a record, one after the other"),
        },
        RuleKind.VOLUME: {
            "factor": Threshold("factor", 4, 1.5, 1_000, "so many times more or fewer records than usual"),
            "deviations": Threshold("factor", 5, 1, 100, "and so many robust standard deviations"),
            "min_history": Threshold(
                "count", 5, 4, 1_000, "with fewer successes to compare, nothing is said"
            ),
        },
        RuleKind.DEAD_LETTERS: {
            "window": Threshold("span", HOUR, *_SPAN, "letters that the broker took within it are counted"),
            "count": Threshold("count", 1, 1, 1_000_000_000, "letters from which on it triggers"),
        },
        RuleKind.LAG: {
            "longer_than": Threshold(
                "span", 5 * MINUTE, *_SPAN, "how long read models may be behind the log"
            ),
        },
    }
)


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule, valid. Spans are in microseconds."""

    name: str
    kind: RuleKind
    thresholds: Mapping[str, float]
    severity: Severity = Severity.WARNING
    #: Empty: all connections.
    connections: frozenset[str] = frozenset()
    #: Empty: those of all workspaces.
    workspaces: frozenset[str] = frozenset()
    #: `log`, or names of webhooks; the topic has every alert.
    send: tuple[str, ...] = ("log",)

    @property
    def version(self) -> str:
        """A hash of what decides when it triggers: not of its severity, nor of where it is sent."""
        content = [
            self.name,
            self.kind,
            sorted(self.thresholds.items()),
            sorted(self.connections),
            sorted(self.workspaces),
        ]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:12]

    def span(self, name: str) -> int:
        """A threshold in microseconds."""
        return int(self.thresholds[name])

    def count(self, name: str) -> int:
        """A threshold that is a whole number."""
        return int(self.thresholds[name])

    def covers(self, connection_id: str, workspace_id: str | None) -> bool:
        """Whether a connection is in its scope."""
        return (not self.connections or connection_id in self.connections) and (
            not self.workspaces or workspace_id in self.workspaces
        )


@dataclass(frozen=True, slots=True)
class Pause:
    """A time in which nobody waits for successes; from and until in microseconds since 1970."""

    began: int
    ended: int
    #: Empty: all connections.
    connections: frozenset[str] = frozenset()
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Webhook:
    """Where alerts are posted: names of the environment variables that hold what is secret."""

    name: str
    url_env: str
    #: Of the key that signs; none: nothing is signed.
    secret_env: str | None = None


@dataclass(frozen=True, slots=True)
class RuleSet:
    """A file of rules."""

    rules: tuple[Rule, ...]
    pauses: tuple[Pause, ...] = ()
    webhooks: Mapping[str, Webhook] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def digest(self) -> int:
        """31 bits that tell the rules of one file from those of another."""
        named = sorted((rule.name, rule.version) for rule in self.rules)
        return int.from_bytes(hashlib.blake2b(repr(named).encode(), digest_size=4).digest()) >> 1


def defaults(kind: RuleKind) -> dict[str, float]:
    """The thresholds of a kind where a rule names none."""
    return {name: threshold.default for name, threshold in THRESHOLDS[kind].items()}


def every_kind() -> tuple[Rule, ...]:
    """One rule of each kind, with the defaults."""
    return tuple(Rule(kind.value, kind, defaults(kind)) for kind in RuleKind)
