"""Whether a job should be tried again: Airbyte's rules as pure functions.

A failed attempt that committed nothing is a complete failure, one that committed something a partial one.
Each kind ends the run of the other. A cancelled attempt is no failure.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import Final, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from jobtrail.errors import SettingError

PREFIX: Final = "SYNC_JOB_RETRIES_"


class RetryLimits(BaseModel):
    """Airbyte's settings: `SYNC_JOB_RETRIES_<FIELD>` in capitals sets a field. Frozen."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    #: Complete failures in a row, and in all, after which it is given up.
    complete_failures_max_successive: int = Field(default=5, ge=0)
    complete_failures_max_total: int = Field(default=10, ge=0)
    #: Seconds from a complete failure to the next attempt: the first, the longest, and the factor between.
    complete_failures_backoff_min_interval_s: float = Field(default=10, ge=0)
    complete_failures_backoff_max_interval_s: float = Field(default=1800, ge=0)
    complete_failures_backoff_base: float = Field(default=3, ge=1)
    #: Partial failures in a row, and in all, after which it is given up.
    partial_failures_max_successive: int = Field(default=1000, ge=0)
    partial_failures_max_total: int = Field(default=20, ge=0)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Reads them from `environ` (default: this process's). Raises SettingError, naming the variable."""
        environ = os.environ if environ is None else environ
        found = {field: environ[name] for field, name in cls.variables().items() if environ.get(name)}
        try:
            return cls.model_validate(found)
        except ValidationError as error:
            first = error.errors()[0]
            field = str(first["loc"][0])
            raise SettingError(
                cls.variables()[field], f"{found[field]!r} does not fit", first["msg"]
            ) from None

    @classmethod
    def variables(cls) -> dict[str, str]:
        """Field → variable."""
        return {field: PREFIX + field.upper() for field in cls.model_fields}


@dataclass(frozen=True, slots=True)
class RetryState:
    """How a job's attempts have failed so far; counts of attempts."""

    successive_complete_failures: int = 0
    total_complete_failures: int = 0
    successive_partial_failures: int = 0
    total_partial_failures: int = 0

    def after(self, *, partly: bool) -> RetryState:
        """The state after one more failed attempt, which committed something (`partly`) or nothing."""
        if partly:
            return RetryState(
                0,
                self.total_complete_failures,
                self.successive_partial_failures + 1,
                self.total_partial_failures + 1,
            )
        return RetryState(
            self.successive_complete_failures + 1,
            self.total_complete_failures + 1,
            0,
            self.total_partial_failures,
        )


def retry_state(failed_attempts: Iterable[bool]) -> RetryState:
    """The state after failed attempts, in the order of their numbers: whether each committed something.

    The projection computes the same in SQL (projections/derive.sql); a law holds the two together.
    """
    state = RetryState()
    for partly in failed_attempts:
        state = state.after(partly=partly)
    return state


class Decision(StrEnum):
    """What to do about a job."""

    NOTHING = "nothing"
    RETRY_NOW = "retry_now"
    RETRY_AT = "retry_at"
    GIVE_UP = "give_up"


@dataclass(frozen=True, slots=True)
class Advice:
    """What to do, and why, for people."""

    decision: Decision
    reason: str
    #: From when to try again, where the decision is one of the retries.
    retry_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Situation:
    """What is known of a job that may have to be tried again."""

    #: A job status of the contract.
    status: str
    state: RetryState
    #: When the last failed attempt ended; None without one.
    failed_at: datetime | None = None
    #: Whether one of its failures says that another attempt cannot help, and that failure's message.
    hopeless: bool = False
    message: str | None = None
    cancel_requested: bool = False


def advise(situation: Situation, limits: RetryLimits, now: datetime) -> Advice:
    """What to do about the job at the instant `now`. Source: Airbyte's RetryManager."""
    if (settled := _settled(situation)) is not None:
        return settled
    state = situation.state
    for count, limit, kind in (
        (state.successive_complete_failures, limits.complete_failures_max_successive, "in a row committed"),
        (state.total_complete_failures, limits.complete_failures_max_total, "in all committed"),
    ):
        if count >= limit:
            return Advice(
                Decision.GIVE_UP, f"{count} attempts {kind} nothing before they failed; the limit is {limit}"
            )
    for count, limit, kind in (
        (state.successive_partial_failures, limits.partial_failures_max_successive, "in a row"),
        (state.total_partial_failures, limits.partial_failures_max_total, "in all"),
    ):
        if count >= limit:
            return Advice(
                Decision.GIVE_UP,
                f"{count} attempts {kind} failed after they had committed something; the limit is {limit}",
            )
    at = (situation.failed_at or now) + backoff(state, limits)
    if at <= now:
        return Advice(Decision.RETRY_NOW, "a retry is allowed, and its backoff is over", at)
    return Advice(Decision.RETRY_AT, "a retry is allowed after its backoff", at)


def backoff(state: RetryState, limits: RetryLimits) -> timedelta:
    """How long to wait after the last failure: nothing after a partial one."""
    failures = state.successive_complete_failures
    if not failures:
        return timedelta(0)
    longest = limits.complete_failures_backoff_max_interval_s
    seconds = limits.complete_failures_backoff_min_interval_s
    for _ in range(failures - 1):
        seconds *= limits.complete_failures_backoff_base
        if seconds >= longest:
            break
    return timedelta(seconds=min(seconds, longest))


#: Status → the advice that no count can change.
_SETTLED: Final[Mapping[str, Advice]] = MappingProxyType(
    {
        "succeeded": Advice(Decision.NOTHING, "the job succeeded"),
        "running": Advice(Decision.NOTHING, "an attempt runs"),
        "pending": Advice(Decision.NOTHING, "the job waits for its first attempt"),
        "queued": Advice(Decision.NOTHING, "the job waits for its first attempt"),
        "cancelled": Advice(Decision.GIVE_UP, "the job was cancelled; make a new job to run it again"),
        "failed": Advice(Decision.GIVE_UP, "the job failed for good; make a new job to run it again"),
    }
)


def _settled(situation: Situation) -> Advice | None:
    if situation.status in _SETTLED:
        return _SETTLED[situation.status]
    if situation.cancel_requested:
        return Advice(Decision.GIVE_UP, "somebody asked that the job be cancelled")
    if situation.hopeless:
        said = f": {situation.message}" if situation.message else ""
        return Advice(Decision.GIVE_UP, f"the failure is not retryable{said}")
    return None
