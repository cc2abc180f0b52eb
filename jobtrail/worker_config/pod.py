"""A Kubernetes pod that runs one connector and tracks it, as a manifest.

    init: busybox ─ makes a named pipe in a volume of the pod
    connector: sh ─ CMD ─ stdout ─▶ pipe; then its exit status beside it
    tap: pipe ─▶ jobtrail tap ─▶ the log of this container; events ─▶ Kafka

The tap is a container of its own, for a connector's image need not have Python; it needs `sh`, as Airbyte
asks of connectors. Each end of the pipe waits for the other to open. The shell keeps the pipe open until it
has written the exit status; where the whole container is killed (out of memory, say) there is none, and the
tap reports that. The connector's stdout is the log of the container `tap`, its stderr that of `connector`.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from jobtrail.errors import UsageError
from jobtrail.events import ConfigType
from jobtrail.job_types import JobType
from jobtrail.settings import KAFKA_PREFIX, PREFIX, Settings
from jobtrail.worker_config.config import WorkerConfig

#: Folder of the pipe and the exit status, in both containers.
SHARED: Final = "/jobtrail"
_MAKE_PIPE: Final = f"test -p {SHARED}/stdout || mkfifo -m 0666 {SHARED}/stdout"
_CONNECTOR: Final = (
    f'exec 3>{SHARED}/stdout; "$@" >&3 3>&-; status=$?; echo "$status" >{SHARED}/exit-status; exit "$status"'
)
_TAP: Final = f'exec jobtrail tap --exit-status {SHARED}/exit-status "$@" <{SHARED}/stdout'

#: Settings that a tap goes by, handed on where they are set.
TAP_SETTINGS: Final = (
    "kafka_bootstrap_servers",
    "events_topic",
    "registry_topic",
    "dataplane",
    "stats_interval",
    "flush_timeout",
    *(f"{job_type}_status_check_interval" for job_type in JobType),
)
#: Settings of Kafka clients that come from a Secret, for a manifest is no place for them.
SECRET_SETTINGS: Final = frozenset(
    {"sasl.password", "sasl.oauthbearer.client.secret", "ssl.key.pem", "ssl.key.password"}
)
#: What a job is where it is not told.
CONFIG_TYPES: Final = MappingProxyType(
    {
        JobType.SPEC: ConfigType.GET_SPEC,
        JobType.CHECK: ConfigType.CHECK_CONNECTION_SOURCE,
        JobType.DISCOVER: ConfigType.DISCOVER_SCHEMA,
        JobType.REPLICATION: ConfigType.SYNC,
        JobType.DEFAULT: ConfigType.SYNC,
    }
)


@dataclass(frozen=True, slots=True)
class Tracked:
    """What the tap reports; without a connection the job is about the connector's image."""

    connection: str | None = None
    workspace: str | None = None
    config_type: str | None = None
    job_id: int | None = None
    #: With a job id: that attempt of a job that exists.
    attempt_number: int | None = None


def pod(
    config: WorkerConfig,
    settings: Settings,
    *,
    image: str,
    command: Sequence[str],
    tracked: Tracked,
    name: str | None = None,
    tap_image: str,
    secret: str,
) -> dict[str, Any]:
    """The manifest of a pod that runs `command` in `image`, as JSON has it.

    `name` (default: the job type with the job's id, or something random) is a DNS label. `secret` names the
    Secret of SECRET_SETTINGS, and of Kafka's address where `settings` have none; its keys are the names of
    the variables. Raises UsageError for a word of the command or a value that is no UTF-8.
    """
    shared = [{"name": "jobtrail", "mountPath": SHARED}]
    spec: dict[str, Any] = {
        "restartPolicy": "Never",
        "initContainers": [
            {
                "name": "pipe",
                "image": config.busybox_image,
                "command": ["sh", "-c", _MAKE_PIPE],
                "volumeMounts": shared,
            }
        ],
        "containers": [
            _present(
                name="connector",
                image=image,
                imagePullPolicy=config.image_pull_policy,
                command=["sh", "-c", _CONNECTOR, "connector", *map(_literal, command)],
                env=[_variable(key, value.get_secret_value()) for key, value in config.environment.items()],
                resources=_resources(config),
                volumeMounts=shared,
            ),
            {
                "name": "tap",
                "image": tap_image,
                "command": ["sh", "-c", _TAP, "tap", *map(_literal, _tap_options(config, image, tracked))],
                "env": [
                    *(_variable(key, value) for key, value in _given(settings).items()),
                    *(
                        {"name": key, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}}
                        for key in from_secret(settings)
                    ),
                ],
                "volumeMounts": shared,
            },
        ],
        "volumes": [{"name": "jobtrail", "emptyDir": {}}],
        **_present(
            nodeSelector=dict(config.node_selectors),
            tolerations=[one.model_dump(exclude_none=True) for one in config.tolerations],
            imagePullSecrets=[{"name": one} for one in config.image_pull_secrets],
        ),
    }
    labels = {"app.kubernetes.io/managed-by": "jobtrail", "jobtrail/job-type": str(config.job_type)}
    metadata = _present(
        name=name or _name(config.job_type, tracked),
        labels={**labels, **config.labels},
        annotations={key: _text(value) for key, value in config.annotations.items()},
    )
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def from_secret(settings: Settings) -> list[str]:
    """The variables that the pod takes from its Secret."""
    found = [_kafka_variable(name) for name in sorted(SECRET_SETTINGS & settings.kafka_client.keys())]
    return found if settings.kafka_bootstrap_servers else [f"{PREFIX}KAFKA_BOOTSTRAP_SERVERS", *found]


def files(settings: Settings) -> dict[str, str]:
    """The variables that name files, which the tap's image must then have."""
    return {key: value for key, value in _given(settings).items() if key.endswith("_LOCATION")}


def _given(settings: Settings) -> dict[str, str]:
    """Variable → value, of what is set and not secret."""
    chosen = {field: getattr(settings, field) for field in TAP_SETTINGS if field in settings.model_fields_set}
    client = {
        _kafka_variable(name): value
        for name, value in sorted(settings.kafka_client.items())
        if name not in SECRET_SETTINGS
    }
    return {f"{PREFIX}{field.upper()}": str(value) for field, value in chosen.items()} | client


def _kafka_variable(name: str) -> str:
    return KAFKA_PREFIX + name.upper().replace(".", "_")


def _tap_options(config: WorkerConfig, image: str, tracked: Tracked) -> list[str]:
    options = {
        "--config-type": tracked.config_type or CONFIG_TYPES[config.job_type],
        "--connection": tracked.connection,
        "--config-id": None if tracked.connection else image,
        "--workspace": tracked.workspace,
        "--job": tracked.job_id,
        "--attempt": tracked.attempt_number,
    }
    # With "=", for what begins with "-" would be taken as an option.
    return [f"{option}={value}" for option, value in options.items() if value is not None]


def _name(job_type: JobType, tracked: Tracked) -> str:
    """The same for the same attempt, so that applying a manifest twice does not run it twice."""
    if tracked.job_id is None or tracked.attempt_number is None:
        return f"jobtrail-{job_type}-{secrets.token_hex(4)}"
    return f"jobtrail-{job_type}-{tracked.job_id}-{tracked.attempt_number}"


def _resources(config: WorkerConfig) -> dict[str, Any]:
    return _present(
        requests=_present(cpu=config.cpu_request, memory=config.memory_request),
        limits=_present(cpu=config.cpu_limit, memory=config.memory_limit),
    )


def _present(**fields: Any) -> dict[str, Any]:
    """The fields that say something."""
    return {name: value for name, value in fields.items() if value}


def _variable(name: str, value: str) -> dict[str, str]:
    return {"name": name, "value": _literal(value)}


def _literal(text: str) -> str:
    """Text as Kubernetes leaves it: it would put variables in for $(NAME)."""
    return _text(text).replace("$", "$$")


def _text(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UsageError(f"{text!r} is no UTF-8, and a manifest can hold nothing else") from None
    return text


def as_yaml(manifest: Mapping[str, Any]) -> str:
    """The manifest as YAML, which every parser reads alike."""
    import yaml

    class Dumper(yaml.SafeDumper):
        """Quotes what Go's parser takes for a number or boolean and Python's does not: 1e3, 0o7, y."""

        def ignore_aliases(self, _data: object) -> bool:
            """Each part is written out."""
            return True

    def string(dumper: Dumper, text: str) -> yaml.ScalarNode:
        # Other styles write line breaks as they are, and Unicode has several that come back as a space.
        quotes = "'" if text.isprintable() else '"'
        plain = text.isprintable() and text[:1].isalpha() and len(text) > 1
        return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if plain else quotes)

    Dumper.add_representer(str, string)
    return yaml.dump(dict(manifest), Dumper=Dumper, sort_keys=False, allow_unicode=True, width=10**6)
