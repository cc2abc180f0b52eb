"""Job types: the kinds of work that are watched and configured apart (Airbyte's worker configuration).

A job's config type says which one it is; `default` is what the others fall back to.
"""

from __future__ import annotations

from enum import StrEnum
from types import MappingProxyType
from typing import Final

from jobtrail.events import ConfigType
from jobtrail.settings import Settings


class JobType(StrEnum):
    """What a worker of a job does."""

    SPEC = "spec"
    CHECK = "check"
    DISCOVER = "discover"
    REPLICATION = "replication"
    DEFAULT = "default"


_OF: Final = MappingProxyType(
    {
        ConfigType.GET_SPEC: JobType.SPEC,
        ConfigType.CHECK_CONNECTION_SOURCE: JobType.CHECK,
        ConfigType.CHECK_CONNECTION_DESTINATION: JobType.CHECK,
        ConfigType.DISCOVER_SCHEMA: JobType.DISCOVER,
        ConfigType.SYNC: JobType.REPLICATION,
        ConfigType.RESET_CONNECTION: JobType.REPLICATION,
        ConfigType.REFRESH: JobType.REPLICATION,
        ConfigType.CLEAR: JobType.REPLICATION,
    }
)


def job_type_of(config_type: str | None) -> JobType:
    """The job type of a config type; `default` for one that is unknown or not told."""
    return _OF.get(config_type, JobType.DEFAULT) if config_type else JobType.DEFAULT  # type: ignore[call-overload]


def config_types_of(job_type: JobType) -> list[str]:
    """The config types of a job type."""
    return [config_type.value for config_type, found in _OF.items() if found == job_type]


def status_check_interval(settings: Settings, job_type: JobType | None) -> float:
    """Seconds of silence after which an attempt says that it is alive; None, not known: the shortest."""
    types = JobType if job_type is None else (job_type,)
    return min(float(getattr(settings, f"{one}_status_check_interval")) for one in types)


def silence_limit(settings: Settings, job_type: JobType) -> float:
    """Seconds of silence after which an attempt counts as dead."""
    return settings.missed_status_checks * status_check_interval(settings, job_type)
