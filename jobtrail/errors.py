"""The errors a user can meet; each message says what was found, where, and what to do.

JobtrailError                  exit status 1
├── UsageError                 2  a command, argument or call is wrong
│   ├── SettingError           2  a JOBTRAIL_* variable is wrong; names it
│   └── FieldError             2  a field of a request does not fit; names it (HTTP 422)
├── ServerAwayError            3  Kafka, Postgres or the HTTP server does not answer
│   └── EmbeddedError          3  an embedded server cannot be fetched or started, or none runs
├── NotFoundError              1  a job, attempt or topic does not exist
├── ConflictError              1  it cannot be done as things are now (HTTP 409)
├── PublishError               1  events could not be made durable in time
│   └── UnconfirmedError       1  Kafka did not answer in time; they may become durable later
├── VersionError               1  the read models are of another release's rules
├── LogError                   1  the event log is not what the checkpoints say (gap, new topic, compacted)
├── ArchiveError               1  an archive is not there, damaged, or lacks offsets; names the file
└── BadMessageError            1  a message cannot become an event; carries a reason code
"""

from __future__ import annotations

from typing import ClassVar


class JobtrailError(Exception):
    """Root of the tree. `str(error)` is the whole message for the user, on one line."""

    #: What a command exits with when this error ends it.
    exit_status: ClassVar[int] = 1


class UsageError(JobtrailError):
    """A command, argument or call is wrong; nothing was done."""

    exit_status = 2


class SettingError(UsageError):
    """A setting is wrong: carries the variable's name."""

    def __init__(self, variable: str, found: str, remedy: str) -> None:
        super().__init__(f"{variable}: {found}; {remedy}")
        self.variable = variable


class FieldError(UsageError):
    """A field of a request does not fit what is known: carries its name."""

    def __init__(self, field: str, found: str) -> None:
        super().__init__(f"{field}: {found}")
        self.field = field
        self.found = found


class ServerAwayError(JobtrailError):
    """A server does not answer: carries what it is, its address and the setting that names it."""

    exit_status = 3

    def __init__(self, server: str, address: str, setting: str, detail: str) -> None:
        super().__init__(f"{server} at {address} does not answer ({detail}); it is set by {setting}")
        self.server = server
        self.address = address
        self.setting = setting


class EmbeddedError(JobtrailError):
    """No server is set, and an embedded one does not run, or cannot be fetched or started."""

    exit_status = 3


class NotFoundError(JobtrailError):
    """What was asked for does not exist."""


class ConflictError(JobtrailError):
    """It cannot be done as things are now; says which job is in the way."""

    def __init__(self, message: str, job_id: int | None = None) -> None:
        super().__init__(message)
        self.job_id = job_id


class PublishError(JobtrailError):
    """Events were not confirmed by Kafka in time; says how many and why."""


class UnconfirmedError(PublishError):
    """Kafka did not answer in time: the events still wait in memory, and may become durable later."""


class LogError(JobtrailError):
    """The event log and the checkpoints disagree, so going on could lose events; says where."""


class ArchiveError(JobtrailError):
    """An archive is not there, cannot be reached, is damaged or lacks offsets; says which file or offsets."""


class VersionError(JobtrailError):
    """The live read models were made by other rules than those of this release: carries both versions."""

    def __init__(self, live: int, ours: int) -> None:
        remedy = "`jobtrail rebuild` makes those of this one" if live < ours else "upgrade this process"
        super().__init__(
            f"the live read models are of version {live}, and this release folds version {ours}; {remedy}"
        )
        self.live = live
        self.ours = ours


class BadMessageError(JobtrailError):
    """A message cannot become an event.

    `reason` is the short, stable code that the dead letter carries; `detail` says what was found.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail
