"""Jobtrail: event-sourced tracking of data-sync jobs.

    from jobtrail import Job

    with Job.start(connection_id=CONNECTION) as job, job.attempt() as attempt:
        users = attempt.stream("users", namespace="public")
        ...

What is named here is loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from jobtrail import errors as errors
    from jobtrail import events as events
    from jobtrail.consumers.follow import follow as follow
    from jobtrail.consumers.frame import frame as frame
    from jobtrail.errors import JobtrailError as JobtrailError
    from jobtrail.producers import failures as failures
    from jobtrail.producers.attempt import Attempt as Attempt
    from jobtrail.producers.dataplane import Dataplane as Dataplane
    from jobtrail.producers.job import Job as Job
    from jobtrail.producers.publisher import Publisher as Publisher
    from jobtrail.producers.secret_fields import hide_secrets as hide_secrets
    from jobtrail.producers.streams import StreamReporter as StreamReporter
    from jobtrail.settings import Settings as Settings

    __version__: str

#: Name → the module that it is in, or that it is.
_HOMES: Final = {
    "Attempt": "jobtrail.producers.attempt",
    "Dataplane": "jobtrail.producers.dataplane",
    "Job": "jobtrail.producers.job",
    "JobtrailError": "jobtrail.errors",
    "Publisher": "jobtrail.producers.publisher",
    "Settings": "jobtrail.settings",
    "StreamReporter": "jobtrail.producers.streams",
    "errors": "jobtrail.errors",
    "events": "jobtrail.events",
    "failures": "jobtrail.producers.failures",
    "follow": "jobtrail.consumers.follow",
    "frame": "jobtrail.consumers.frame",
    "hide_secrets": "jobtrail.producers.secret_fields",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("jobtrail")
    if name not in _HOMES:
        raise AttributeError(f"module 'jobtrail' has no attribute {name!r}")
    module = import_module(_HOMES[name])
    return getattr(module, name, module)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES, "__version__"])
