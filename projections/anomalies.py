"""The kinds of anomalies that derive.sql finds: what each means, and what to do about it."""

from __future__ import annotations

from enum import StrEnum
from typing import Self


class AnomalyKind(StrEnum):
    """Where events contradict each other, or a success lacks its evidence."""

    meaning: str
    #: What a person does about it.
    remedy: str

    def __new__(cls, name: str, meaning: str, remedy: str) -> Self:
        """A kind by its name in the read models."""
        kind = str.__new__(cls, name)
        kind._value_, kind.meaning, kind.remedy = name, meaning, remedy
        return kind

    SUCCESS_WITHOUT_EVIDENCE = (
        "success_without_evidence",
        "an attempt succeeded without a start, or without stats or a status of an enabled stream",
        "look at the destination before you trust it; have the worker report its streams",
    )
    ZERO_RECORDS = (
        "zero_records",
        "a sync or refresh succeeded, and no attempt of it moved a record",
        "see whether the source had nothing to give",
    )
    COUNTS_DIFFER = (
        "counts_differ",
        "source, platform and destination counted the records of a stream differently",
        "compare them in `jobtrail.stream_reconciliation`; the lower count tells where records were lost",
    )
    SUCCESS_NOT_DECIDING = (
        "success_not_deciding",
        "an attempt succeeded after its job had been decided otherwise, or besides another success",
        "nothing, unless the data must not be there: the job stays as it was decided",
    )
    END_NOT_DECIDING = (
        "end_not_deciding",
        "JobFailed or Cancelled came for a job that had succeeded",
        "nothing, unless whoever sent it acted on a failure: the job stays succeeded",
    )
    RUNNING_AFTER_JOB_END = (
        "running_after_job_end",
        "an attempt runs though its job is decided",
        "stop its worker, which nobody waits for",
    )
    ACTIVITY_AFTER_END = (
        "activity_after_end",
        "something was heard of an attempt after its end, such as from a worker that was given up",
        "see that the worker has stopped; raise the limits where workers are silent for longer",
    )
    START_AFTER_DECISION = (
        "start_after_decision",
        "an attempt began after its job had been decided",
        "have whoever starts attempts ask for their numbers (attempt/create_new_attempt_number)",
    )
    SECOND_START = (
        "second_start",
        "two workers started the same attempt",
        "see that one worker takes an attempt; its data may be there twice",
    )
    JOB_ID_USED_TWICE = (
        "job_id_used_twice",
        "two JobCreated name the same job",
        "let Jobtrail give the ids, or make your own unique; the first one holds",
    )
    EVENT_ID_USED_TWICE = (
        "event_id_used_twice",
        "two different events bear the same id",
        "mend the producer that reuses ids; one event was lost",
    )
    JOB_NOT_CREATED = (
        "job_not_created",
        "there are events of the job, and no JobCreated",
        "have the job's creation reported; until then it counts as a sync of no known connection",
    )
    CLOCK_OFF = (
        "clock_off",
        "an event came more than 15 minutes apart from the time it bears",
        "set the clock of the machine that sent it, or see why it came late",
    )


def told() -> str:
    """All kinds with their meanings, for one paragraph."""
    return "; ".join(f"{kind}: {kind.meaning}" for kind in AnomalyKind)
