"""Settings: JOBTRAIL_* environment variables, read in one place.

Every variable, with its default, is a field of `Settings` or an entry of `KAFKA_CLIENT_SETTINGS`.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from jobtrail.errors import SettingError
from jobtrail.near import nearest

#: Permanent names. Renaming one would strand data that exists.
EVENTS_TOPIC: Final = "jobtrail.events"
REGISTRY_TOPIC: Final = "jobtrail.registry"
DEAD_LETTERS_TOPIC: Final = "jobtrail.dead-letters"
ANALYTICS_TOPIC: Final = "jobtrail.analytics"
ALERTS_TOPIC: Final = "jobtrail.alerts"
PROJECTOR_GROUP: Final = "jobtrail-projector"
ANALYTICS_GROUP: Final = "jobtrail-analytics"

PREFIX: Final = "JOBTRAIL_"
KAFKA_PREFIX: Final = "JOBTRAIL_KAFKA_"

#: Client settings that JOBTRAIL_KAFKA_* may pass on to librdkafka: security and tuning, and never one
#: that runs a command (sasl.kerberos.kinit.cmd), loads a library (plugin.library.paths, ssl.engine.location,
#: ssl.providers) or undoes what correctness needs (acks, idempotence, isolation, offsets).
KAFKA_CLIENT_SETTINGS: Final = frozenset(
    {
        "broker.address.family",
        "client.id",
        "client.rack",
        "compression.type",
        "fetch.max.bytes",
        "fetch.min.bytes",
        "fetch.wait.max.ms",
        "linger.ms",
        "max.poll.interval.ms",
        "message.max.bytes",
        "metadata.max.age.ms",
        "queue.buffering.max.kbytes",
        "queue.buffering.max.messages",
        "queued.max.messages.kbytes",
        "reconnect.backoff.max.ms",
        "reconnect.backoff.ms",
        "request.timeout.ms",
        "sasl.mechanism",
        "sasl.mechanisms",
        "sasl.oauthbearer.client.id",
        "sasl.oauthbearer.client.secret",
        "sasl.oauthbearer.method",
        "sasl.oauthbearer.scope",
        "sasl.oauthbearer.token.endpoint.url",
        "sasl.password",
        "sasl.username",
        "security.protocol",
        "session.timeout.ms",
        "socket.keepalive.enable",
        "socket.timeout.ms",
        "ssl.ca.location",
        "ssl.ca.pem",
        "ssl.certificate.location",
        "ssl.certificate.pem",
        "ssl.cipher.suites",
        "ssl.crl.location",
        "ssl.endpoint.identification.algorithm",
        "ssl.key.location",
        "ssl.key.password",
        "ssl.key.pem",
        "statistics.interval.ms",
    }
)


def default_home() -> Path:
    """Where Jobtrail keeps what it writes: /var/lib/jobtrail for root, else the user's data folder."""
    if sys.platform != "win32" and os.geteuid() == 0:
        return Path("/var/lib/jobtrail")
    from platformdirs import user_data_path

    return user_data_path("jobtrail", appauthor=False)


def default_cache() -> Path:
    """Where downloads that homes share are kept: /var/cache/jobtrail for root, else the user's cache."""
    if sys.platform != "win32" and os.geteuid() == 0:
        return Path("/var/cache/jobtrail")
    from platformdirs import user_cache_path

    return user_cache_path("jobtrail", appauthor=False)


class Settings(BaseModel):
    """One reading of the environment, frozen. `JOBTRAIL_<FIELD>` in capitals sets a field."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    #: Folder for embedded servers, connector logs and the spool.
    home: Path = Field(default_factory=default_home)
    #: Folder for what the embedded servers download; homes share it.
    cache: Path = Field(default_factory=default_cache)
    #: host:port[,host:port] of Kafka; none: the embedded broker. Fallback: KAFKA_BOOTSTRAP_SERVERS.
    kafka_bootstrap_servers: str | None = Field(default=None, min_length=1)
    #: libpq address of Postgres; none: the embedded server. Fallback: DATABASE_URL.
    database_url: str | None = Field(default=None, min_length=1)
    #: http(s)://[user:password@]host of a Confluent schema registry, to read its framing; none: not read.
    schema_registry_url: str | None = Field(default=None, min_length=1)
    #: Folder or fsspec address (s3://bucket/folder, …) of the archive of the log; none: to be said each time.
    archive: str | None = Field(default=None, min_length=1)
    #: Where the HTTP server listens.
    api_host: str = "127.0.0.1"
    api_port: int = Field(default=8700, ge=0, le=65535)
    #: Partitions of the events topic when Jobtrail creates it.
    partitions: int = Field(default=12, ge=1, le=1000)
    #: Copies of each partition when Jobtrail creates a topic; none: the broker's default.
    replication_factor: int | None = Field(default=None, ge=1)
    #: Name of the topic of job events; other names are for tests and side-by-side installations.
    events_topic: str = EVENTS_TOPIC
    registry_topic: str = REGISTRY_TOPIC
    dead_letters_topic: str = DEAD_LETTERS_TOPIC
    #: Windows as `jobtrail analytics` computes them.
    analytics_topic: str = ANALYTICS_TOPIC
    alerts_topic: str = ALERTS_TOPIC
    #: Kafka consumer group of the projectors.
    projector_group: str = PROJECTOR_GROUP
    #: Kafka consumer group of the analytics workers; their changelogs begin with its name.
    analytics_group: str = Field(default=ANALYTICS_GROUP, min_length=1)
    #: Seconds in which an analytics worker says anew what changed, once for each window.
    analytics_interval: float = Field(default=5.0, gt=0, le=60)
    #: Hours that an event may come after its time, by the broker's clock, and still count in its windows.
    analytics_lateness_hours: float = Field(default=48.0, ge=1, le=24 * 366)
    #: Most rows that are folded while others are written; of as many events, a third is written at once.
    batch_size: int = Field(default=150_000, ge=1, le=1_000_000)
    #: Most rows that the processes of a rebuild keep in memory, all together: some 200 bytes each, twice as
    #: much while they are folded.
    rebuild_rows: int = Field(default=1_000_000, ge=1_000, le=1_000_000_000)
    #: Seconds between two cumulative StreamStats of one stream.
    stats_interval: float = Field(default=1.0, gt=0)
    #: Seconds of silence after which a running attempt says AttemptHeartbeat, by the type of its job.
    spec_status_check_interval: float = Field(default=1.0, gt=0)
    check_status_check_interval: float = Field(default=1.0, gt=0)
    discover_status_check_interval: float = Field(default=1.0, gt=0)
    replication_status_check_interval: float = Field(default=30.0, gt=0)
    default_status_check_interval: float = Field(default=30.0, gt=0)
    #: How many status checks an attempt may miss before the watchdog fails it.
    missed_status_checks: int = Field(default=10, ge=4)
    #: Seconds that a job may wait for its first attempt, and an attempt that no worker took may be silent,
    #: before the watchdog fails it; and that a job which waits for a retry keeps its connection.
    pickup_limit: float = Field(default=3600.0, gt=0)
    #: Seconds that a write over HTTP waits until its answer can be read back.
    read_back_timeout: float = Field(default=5.0, ge=0)
    #: When old heartbeats of dataplanes, and what is kept of old requests, are deleted (cron expression,
    #: UTC), and how many days heartbeats are kept.
    heartbeat_cleanup_cron: str = Field(default="0 2 * * *", min_length=1)
    heartbeat_retention_days: float = Field(default=7.0, gt=0, le=36_500)
    #: File of alert rules (TOML or YAML), by which `up` runs an alerter; none: it runs none.
    alert_rules: Path | None = None
    #: Seconds that a caller waits at the end for Kafka to confirm its events.
    flush_timeout: float = Field(default=30.0, gt=0)
    #: When events are written to the disk before Kafka has them: while it does not answer in time, always, or
    #: never.
    spool: Literal["outage", "always", "off"] = "outage"
    #: When the spool is made to outlive the machine too: every 100 ms, with each event, or never.
    spool_fsync: Literal["interval", "each", "none"] = "interval"
    #: Most bytes that a process keeps in the spool.
    spool_limit: int = Field(default=1_073_741_824, ge=1_000_000)
    #: Seconds between SIGTERM and SIGKILL for a cancelled connector.
    grace_seconds: float = Field(default=10.0, ge=0)
    #: Most bytes kept of one attempt's connector logs.
    log_limit: int = Field(default=10_000_000, ge=1_000)
    #: Name of this worker in AttemptStarted; none: the host's name and the process id.
    worker: str | None = None
    #: Dataplane that this worker belongs to.
    dataplane: str | None = None
    #: librdkafka settings from JOBTRAIL_KAFKA_*, by their librdkafka names.
    kafka_client: Mapping[str, str] = Field(default_factory=lambda: MappingProxyType({}))

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Reads the settings from `environ` (default: this process's).

        Raises SettingError, naming the variable, for a value that does not fit or a JOBTRAIL_KAFKA_* that
        is not on the allow-list. Other unknown JOBTRAIL_* variables are refused too, for typing errors' sake.
        """
        environ = os.environ if environ is None else environ
        values: dict[str, object] = {}
        client: dict[str, str] = {}
        for variable, text in environ.items():
            if not variable.startswith(PREFIX) or text == "" or _from_kubernetes(variable, text):
                continue
            field = variable.removeprefix(PREFIX).lower()
            if variable.startswith(KAFKA_PREFIX) and field != "kafka_bootstrap_servers":
                client[_client_setting(variable)] = text
            elif field in cls.model_fields and field != "kafka_client":
                values[field] = text
            elif variable not in OTHER_VARIABLES:
                raise SettingError(
                    variable, "no such setting", _nearest(variable, [*cls.variables(), *OTHER_VARIABLES])
                )
        for field, fallback in FALLBACKS.items():
            if field not in values and environ.get(fallback):
                values[field] = environ[fallback]
        try:
            return cls(**values, kafka_client=MappingProxyType(client))
        except ValidationError as error:
            first = error.errors()[0]
            name = PREFIX + str(first["loc"][0]).upper()
            raise SettingError(
                name, f"{values.get(str(first['loc'][0]))!r} does not fit", first["msg"]
            ) from None

    def environ(self) -> dict[str, str]:
        """The variables that give these settings to another process, as `from_env` reads them."""
        fields = self.model_dump(exclude={"kafka_client"}, exclude_none=True, exclude_unset=True)
        client = {_client_variable(name): text for name, text in self.kafka_client.items()}
        return {f"{PREFIX}{name.upper()}": str(value) for name, value in fields.items()} | client

    @property
    def projected_topics(self) -> tuple[str, ...]:
        """The topics that the read models are functions of: projected, rebuilt from, archived, checked."""
        return (self.events_topic, self.registry_topic, self.analytics_topic)

    @classmethod
    def variables(cls) -> list[str]:
        """Names of all variables but the JOBTRAIL_KAFKA_* client settings, in the order of their fields."""
        return [PREFIX + field.upper() for field in cls.model_fields if field != "kafka_client"]


#: Field → the well-known variable that is used when ours is not set.
FALLBACKS: Final = MappingProxyType(
    {"kafka_bootstrap_servers": "KAFKA_BOOTSTRAP_SERVERS", "database_url": "DATABASE_URL"}
)
#: JOBTRAIL_* variables that are no settings: what `run` hands to the connectors it starts, and the secrets
#: that `jobtrail.api.access` alone reads.
OTHER_VARIABLES: Final = frozenset({"JOBTRAIL_JOB_ID", "JOBTRAIL_ATTEMPT_NUMBER", "JOBTRAIL_API_TOKENS"})


def _from_kubernetes(variable: str, text: str) -> bool:
    """Whether Kubernetes set it: a service named jobtrail or jobtrail-api puts such variables into pods."""
    return text.startswith(("tcp://", "udp://")) or bool(
        re.search(r"_SERVICE_(HOST|PORT)(_\w+)?$|_PORT_\d+_(TCP|UDP)(_\w+)?$", variable)
    )


def _nearest(variable: str, known: Iterable[str]) -> str:
    return f"the nearest that there is: {nearest(variable, known, cutoff=0)}"


def _client_variable(name: str) -> str:
    return KAFKA_PREFIX + name.replace(".", "_").upper()


def _client_setting(variable: str) -> str:
    name = variable.removeprefix(KAFKA_PREFIX).lower().replace("_", ".")
    if name not in KAFKA_CLIENT_SETTINGS:
        raise SettingError(
            variable,
            f"{name} is not passed on to Kafka clients",
            _nearest(variable, map(_client_variable, sorted({*KAFKA_CLIENT_SETTINGS, "bootstrap.servers"}))),
        )
    return name
