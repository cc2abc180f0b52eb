"""Worker configuration: what a job type's pods ask of Kubernetes, from the environment variables of Airbyte.

A type's own variable is used where it is set, else the one of all types, else the default. A variable that is
empty is not set. Where a value came from stays known.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any, Final, NamedTuple, Self, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainSerializer, SecretStr
from pydantic.alias_generators import to_camel

from jobtrail import job_types
from jobtrail.errors import SettingError
from jobtrail.job_types import JobType
from jobtrail.settings import PREFIX, Settings
from jobtrail.worker_config import syntax
from jobtrail.worker_config.syntax import PartError, PullPolicy, Toleration

#: The source of a value that no variable gave.
DEFAULT: Final = "default"
#: What follows it is the name of a variable in the connector's container.
ENVIRONMENT_PREFIX: Final = "JOB_DEFAULT_ENV_"

V = TypeVar("V")
ReadOnly = Annotated[
    Mapping[str, V], AfterValidator(MappingProxyType), PlainSerializer(dict, return_type=dict[str, V])
]


def _camel(sources: Mapping[str, str]) -> dict[str, str]:
    return {to_camel(field): source for field, source in sources.items()}


Sources = Annotated[
    Mapping[str, str], AfterValidator(MappingProxyType), PlainSerializer(_camel, return_type=dict[str, str])
]


@dataclass(frozen=True, slots=True)
class Variable:
    """The environment variable of a field."""

    #: Without a job type before it.
    name: str
    parse: Callable[[str], Any]
    #: How it is written.
    form: str
    #: Whether each job type has one of its own, SPEC_… to REPLICATION_….
    by_type: bool = False

    def names(self, job_type: JobType) -> tuple[str, ...]:
        """The variables of a job type; the first that is set counts."""
        own = self.by_type and job_type is not JobType.DEFAULT
        return (f"{job_type.upper()}_{self.name}", self.name) if own else (self.name,)


_PAIRS: Final = "k1=v1,k2=v2"
_QUANTITY: Final = "500m, 1.5"
_BYTES: Final = "512Mi, 2Gi"
_IMAGE: Final = "name:tag"


class WorkerConfig(BaseModel):
    """How the workers of one job type run."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        validate_default=True,
        alias_generator=to_camel,
        populate_by_name=True,
    )

    job_type: JobType
    status_check_interval: float = Field(
        description="Seconds of silence after which a running attempt says that it is alive."
    )
    cpu_request: Annotated[
        str | None, Variable("JOB_MAIN_CONTAINER_CPU_REQUEST", syntax.cpu, _QUANTITY, by_type=True)
    ] = Field(None, description="CPUs that the connector's container is promised.")
    cpu_limit: Annotated[
        str | None, Variable("JOB_MAIN_CONTAINER_CPU_LIMIT", syntax.cpu, _QUANTITY, by_type=True)
    ] = Field(None, description="CPUs that the connector's container gets at most.")
    memory_request: Annotated[
        str | None, Variable("JOB_MAIN_CONTAINER_MEMORY_REQUEST", syntax.memory, _BYTES, by_type=True)
    ] = Field(None, description="Bytes of memory that the connector's container is promised.")
    memory_limit: Annotated[
        str | None, Variable("JOB_MAIN_CONTAINER_MEMORY_LIMIT", syntax.memory, _BYTES, by_type=True)
    ] = Field(None, description="Bytes of memory above which the connector's container is killed.")
    node_selectors: Annotated[
        ReadOnly[str], Variable("JOB_KUBE_NODE_SELECTORS", syntax.label_pairs, _PAIRS, by_type=True)
    ] = Field({}, description="Labels that the pod's node must have.")
    tolerations: Annotated[
        tuple[Toleration, ...],
        Variable("JOB_KUBE_TOLERATIONS", syntax.tolerations, "key=…,operator=…,effect=…,value=…;…"),
    ] = Field((), description="Taints that the pod's node may have.")
    labels: Annotated[
        ReadOnly[str], Variable("JOB_KUBE_LABELS", syntax.label_pairs, _PAIRS, by_type=True)
    ] = Field({}, description="Labels of the pod.")
    annotations: Annotated[
        ReadOnly[str], Variable("JOB_KUBE_ANNOTATIONS", syntax.annotation_pairs, _PAIRS, by_type=True)
    ] = Field({}, description="Annotations of the pod.")
    image_pull_secrets: Annotated[
        tuple[str, ...],
        Variable("JOB_KUBE_MAIN_CONTAINER_IMAGE_PULL_SECRET", syntax.pull_secrets, "name1,name2"),
    ] = Field((), description="Secrets by which the pod's images are fetched.")
    image_pull_policy: Annotated[
        PullPolicy,
        Variable(
            "JOB_KUBE_MAIN_CONTAINER_IMAGE_PULL_POLICY", syntax.pull_policy, "Always, IfNotPresent, Never"
        ),
    ] = Field("IfNotPresent", description="When the connector's image is fetched.")
    socat_image: Annotated[str, Variable("JOB_KUBE_SOCAT_IMAGE", syntax.image, _IMAGE)] = Field(
        "alpine/socat:1.7.4.4-r0",
        description="Image for pods that forward output; `render` has no use for it.",
    )
    busybox_image: Annotated[str, Variable("JOB_KUBE_BUSYBOX_IMAGE", syntax.image, _IMAGE)] = Field(
        "busybox:1.35", description="Image that makes the pipe between the connector and the tap."
    )
    curl_image: Annotated[str, Variable("JOB_KUBE_CURL_IMAGE", syntax.image, _IMAGE)] = Field(
        "curlimages/curl:7.87.0", description="Image for pods that call HTTP; `render` has no use for it."
    )
    environment: ReadOnly[SecretStr] = Field(
        {},
        description="Variables of the connector's container: those named JOB_DEFAULT_ENV_…, without that "
        "prefix. Their values may be secret, and are not shown.",
    )
    sources: Sources = Field(description="Where each value came from: the name of a variable, or default.")

    @classmethod
    def from_env(
        cls, job_type: JobType, settings: Settings | None = None, environ: Mapping[str, str] | None = None
    ) -> Self:
        """Reads one job type's configuration from `environ` (default: this process's).

        `settings` (default: those of `environ`) have the status-check interval. Raises SettingError, naming
        the variable and its part, for what Kubernetes would refuse, a request above its limit among it.
        """
        environ = os.environ if environ is None else environ
        settings = Settings.from_env(environ) if settings is None else settings
        values: dict[str, Any] = {
            "job_type": job_type,
            "status_check_interval": job_types.status_check_interval(settings, job_type),
        }
        sources = dict.fromkeys((field for field in cls.model_fields if field not in _ABOUT), DEFAULT)
        if (interval := _interval_setting(job_type)) in settings.model_fields_set:
            sources["status_check_interval"] = _settings_variable(interval)
        for field, variable in cls.variables().items():
            for name in variable.names(job_type):
                if text := environ.get(name, "").strip():
                    values[field], sources[field] = _read(name, text, variable), name
                    break
        if environment := _environment(environ):
            values["environment"], sources["environment"] = environment, f"{ENVIRONMENT_PREFIX}*"
        config = cls(**values, sources=sources)
        for what in ("cpu", "memory"):
            config._check_bounds(f"{what}_request", f"{what}_limit")
        return config

    @classmethod
    def variables(cls) -> dict[str, Variable]:
        """Field → its variable, for those that have one of this kind."""
        return {
            field: variable
            for field, info in cls.model_fields.items()
            for variable in info.metadata
            if isinstance(variable, Variable)
        }

    def _check_bounds(self, request: str, limit: str) -> None:
        least, most = getattr(self, request), getattr(self, limit)
        if least is not None and most is not None and syntax.amount(least) > syntax.amount(most):
            raise SettingError(
                self.sources[request],
                f"the request {least!r} is above the limit {most!r} of {self.sources[limit]}",
                f"for job type {self.job_type} lower the one or raise the other",
            )


#: Fields that are about the others.
_ABOUT: Final = frozenset({"job_type", "sources"})


def _read(name: str, text: str, variable: Variable) -> Any:
    try:
        return variable.parse(text)
    except PartError as error:
        raise SettingError(name, str(error), f"it is written {variable.form}") from None


def _environment(environ: Mapping[str, str]) -> dict[str, SecretStr]:
    found = {}
    for variable, text in sorted(environ.items()):
        if variable.startswith(ENVIRONMENT_PREFIX):
            try:
                found[syntax.variable_name(variable.removeprefix(ENVIRONMENT_PREFIX))] = SecretStr(text)
            except PartError as error:
                raise SettingError(variable, str(error), "rename it") from None
    return found


def _interval_setting(job_type: JobType) -> str:
    return f"{job_type}_status_check_interval"


def _settings_variable(field: str) -> str:
    return f"{PREFIX}{field.upper()}"


class Documented(NamedTuple):
    """What a user must know of one variable."""

    variable: str
    #: How it is written.
    form: str
    #: What holds where neither it nor its fallback is set; empty: nothing is asked of Kubernetes.
    default: str
    #: The variable that is used where it is not set.
    fallback: str
    meaning: str


def documented() -> Iterator[Documented]:
    """Every variable of the worker configuration, from the code that reads it."""
    fields = WorkerConfig.model_fields
    for job_type in JobType:
        setting = _interval_setting(job_type)
        meaning = fields["status_check_interval"].description or ""
        default = f"{Settings.model_fields[setting].default:g}"
        yield Documented(_settings_variable(setting), "seconds", default, "", meaning)
    for field, variable in WorkerConfig.variables().items():
        meaning, default = fields[field].description or "", str(fields[field].default or "")
        for name, *fallback in dict.fromkeys(
            variable.names(job_type) for job_type in (JobType.DEFAULT, *JobType)
        ):
            yield Documented(name, variable.form, default, "".join(fallback), meaning)
    meaning = fields["environment"].description or ""
    yield Documented(f"{ENVIRONMENT_PREFIX}*", "any text", "", "", meaning)
