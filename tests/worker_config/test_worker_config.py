"""A type's own variable, else that of all types, else the default; and it stays known which it was."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydantic import ValidationError

from jobtrail.errors import SettingError
from jobtrail.job_types import JobType
from jobtrail.settings import Settings
from jobtrail.worker_config.config import WorkerConfig, documented

#: Two ways of writing each field, and what they mean. Requests are below every limit here.
WRITTEN: dict[str, tuple[tuple[str, Any], tuple[str, Any]]] = {
    "cpu_request": (("100m", "100m"), ("0.2", "0.2")),
    "cpu_limit": (("1", "1"), ("2000m", "2000m")),
    "memory_request": (("64Mi", "64Mi"), ("1e6", "1e6")),
    "memory_limit": (("1Gi", "1Gi"), ("2G", "2G")),
    "node_selectors": (("a=b", {"a": "b"}), ("c=d", {"c": "d"})),
    "tolerations": (("operator=Exists", ...), ("key=a", ...)),
    "labels": (("a=b", {"a": "b"}), ("c=d", {"c": "d"})),
    "annotations": (("a=b c", {"a": "b c"}), ("c=d", {"c": "d"})),
    "image_pull_secrets": (("one", ("one",)), ("one,two", ("one", "two"))),
    "image_pull_policy": (("Always", "Always"), ("Never", "Never")),
    "socat_image": (("socat:1", "socat:1"), ("socat:2", "socat:2")),
    "busybox_image": (("busybox:1", "busybox:1"), ("busybox:2", "busybox:2")),
    "curl_image": (("curl:1", "curl:1"), ("curl:2", "curl:2")),
}
#: As the contract has them.
OF_ALL_TYPES = {
    "cpu_request": "JOB_MAIN_CONTAINER_CPU_REQUEST",
    "cpu_limit": "JOB_MAIN_CONTAINER_CPU_LIMIT",
    "memory_request": "JOB_MAIN_CONTAINER_MEMORY_REQUEST",
    "memory_limit": "JOB_MAIN_CONTAINER_MEMORY_LIMIT",
    "node_selectors": "JOB_KUBE_NODE_SELECTORS",
    "tolerations": "JOB_KUBE_TOLERATIONS",
    "labels": "JOB_KUBE_LABELS",
    "annotations": "JOB_KUBE_ANNOTATIONS",
    "image_pull_secrets": "JOB_KUBE_MAIN_CONTAINER_IMAGE_PULL_SECRET",
    "image_pull_policy": "JOB_KUBE_MAIN_CONTAINER_IMAGE_PULL_POLICY",
    "socat_image": "JOB_KUBE_SOCAT_IMAGE",
    "busybox_image": "JOB_KUBE_BUSYBOX_IMAGE",
    "curl_image": "JOB_KUBE_CURL_IMAGE",
}
BY_TYPE = {
    *("cpu_request", "cpu_limit", "memory_request", "memory_limit"),
    *("node_selectors", "labels", "annotations"),
}


def read(job_type: JobType, **environ: str) -> WorkerConfig:
    return WorkerConfig.from_env(job_type, environ=environ)


@pytest.mark.parametrize("field", WRITTEN)
@pytest.mark.parametrize("job_type", JobType)
def test_own_then_that_of_all_types_then_the_default(job_type: JobType, field: str) -> None:
    """For each field and type, with the source told; another type's variable changes nothing."""
    of_all = OF_ALL_TYPES[field]
    own = f"{job_type.upper()}_{of_all}"
    other = f"{'CHECK' if job_type is JobType.SPEC else 'SPEC'}_{of_all}"
    (first, first_value), (second, second_value) = WRITTEN[field]

    def found(**environ: str) -> tuple[Any, str]:
        config = read(job_type, **environ)
        return getattr(config, field), config.sources[field]

    default = found()
    assert default == (WorkerConfig.model_fields[field].default, "default")
    assert found(**{of_all: " ", own: "", other: second}) == default
    value, source = found(**{of_all: first, other: second})
    assert source == of_all
    assert value == first_value or first_value is ...
    assert value != default[0]
    both = found(**{of_all: first, own: second})
    if field in BY_TYPE and job_type is not JobType.DEFAULT:
        assert both == (second_value, own)
        assert found(**{own: second}) == both
    else:
        assert both == (value, of_all)


ENVIRONMENTS = st.fixed_dictionaries(
    {},
    optional={
        prefix + name: st.sampled_from(["", *(text for text, _ in WRITTEN[field])])
        for field, name in OF_ALL_TYPES.items()
        for prefix in ("", *(f"{job_type.upper()}_" for job_type in JobType))
    },
)


@given(ENVIRONMENTS, st.sampled_from(JobType))
@hypothesis_settings(deadline=None)
def test_the_source_of_a_value_alone_gives_that_value(environ: dict[str, str], job_type: JobType) -> None:
    """Whatever else is set: with nothing but the variables that are named, the configuration is the same."""
    config = read(job_type, **environ)
    named = {source: environ[source] for source in config.sources.values() if source in environ}
    assert read(job_type, **named) == config


@pytest.mark.parametrize(
    ("job_type", "seconds"),
    [("spec", 1), ("check", 1), ("discover", 1), ("replication", 30), ("default", 30)],
)
def test_the_interval_of_status_checks_is_that_of_the_settings(job_type: str, seconds: float) -> None:
    config = read(JobType(job_type))
    assert (config.status_check_interval, config.sources["status_check_interval"]) == (seconds, "default")
    variable = f"JOBTRAIL_{job_type.upper()}_STATUS_CHECK_INTERVAL"
    config = read(JobType(job_type), **{variable: "7.5"})
    assert (config.status_check_interval, config.sources["status_check_interval"]) == (7.5, variable)
    given_settings = WorkerConfig.from_env(JobType(job_type), Settings(pickup_limit=60), {})
    assert given_settings.sources["status_check_interval"] == "default"


def test_defaults_are_airbytes() -> None:
    config = read(JobType.REPLICATION)
    assert config.image_pull_policy == "IfNotPresent"
    assert (config.socat_image, config.busybox_image, config.curl_image) == (
        "alpine/socat:1.7.4.4-r0",
        "busybox:1.35",
        "curlimages/curl:7.87.0",
    )


def test_the_environment_of_jobs_loses_its_prefix_and_shows_no_value() -> None:
    """As in Airbyte, small letters and all; a value may be a key."""
    config = read(JobType.CHECK, JOB_DEFAULT_ENV_http_proxy="http://u:geheim@p", JOB_DEFAULT_ENV_EMPTY="")
    shown = {name: value.get_secret_value() for name, value in config.environment.items()}
    assert shown == {"http_proxy": "http://u:geheim@p", "EMPTY": ""}
    assert config.sources["environment"] == "JOB_DEFAULT_ENV_*"
    assert "geheim" not in repr(config) + config.model_dump_json()


@pytest.mark.parametrize(
    ("variable", "text", "said"),
    [
        ("JOB_KUBE_NODE_SELECTORS", "disk=ssd,zone", "'zone' has no '='"),
        ("CHECK_JOB_KUBE_LABELS", "team=a b", "'team=a b' has the value 'a b'"),
        ("CHECK_JOB_KUBE_ANNOTATIONS", "x={", "'x={' has a brace"),
        ("JOB_KUBE_TOLERATIONS", "key=a;key=b,effect=No", "'key=b,effect=No' has effect=No"),
        ("CHECK_JOB_MAIN_CONTAINER_CPU_LIMIT", "one", "'one' is no quantity"),
        ("JOB_MAIN_CONTAINER_MEMORY_LIMIT", "400m", "'400m' is no whole number of bytes"),
        (
            "JOB_KUBE_MAIN_CONTAINER_IMAGE_PULL_POLICY",
            "never",
            "'never' is none of Always, IfNotPresent, Never",
        ),
        ("JOB_KUBE_MAIN_CONTAINER_IMAGE_PULL_SECRET", "a,B_", "'B_' is no name of a Secret"),
        ("JOB_KUBE_BUSYBOX_IMAGE", "busy box", "'busy box' is no name of an image"),
        ("JOB_DEFAULT_ENV_", "geheim", "'' is no name of a variable"),
        ("JOB_DEFAULT_ENV_1A", "geheim", "'1A' is no name of a variable"),
        ("JOBTRAIL_CHECK_STATUS_CHECK_INTERVAL", "0", "'0' does not fit"),
    ],
)
def test_a_malformed_value_names_its_variable_and_part(variable: str, text: str, said: str) -> None:
    with pytest.raises(SettingError) as caught:
        read(JobType.CHECK, **{variable: text})
    assert str(caught.value).startswith(f"{variable}: {said}")
    assert caught.value.variable == variable
    assert "geheim" not in str(caught.value)


def test_a_request_above_its_limit_names_both_variables() -> None:
    """Also where one is the type's own and the other is not; as much as the limit is right."""
    environ = {"JOB_MAIN_CONTAINER_MEMORY_LIMIT": "1Gi", "CHECK_JOB_MAIN_CONTAINER_MEMORY_REQUEST": "1025Mi"}
    with pytest.raises(SettingError, match="'1025Mi' is above the limit '1Gi'") as caught:
        read(JobType.CHECK, **environ)
    assert all(variable in str(caught.value) for variable in environ)
    assert read(JobType.SPEC, **environ).memory_limit == "1Gi"
    assert read(JobType.CHECK, **{**environ, "CHECK_JOB_MAIN_CONTAINER_MEMORY_REQUEST": "1024Mi"})


def test_it_is_frozen_through_and_through() -> None:
    config = read(JobType.CHECK, JOB_KUBE_LABELS="a=b")
    with pytest.raises(ValidationError, match="frozen"):
        config.cpu_limit = "1"  # type: ignore[misc]
    for field in ("node_selectors", "labels", "annotations", "environment", "sources"):
        with pytest.raises(TypeError, match="assignment"):
            getattr(config, field)["a"] = "c"


def test_every_variable_that_is_read_is_documented_and_none_else() -> None:
    """With its default and its fallback; a variable counts as read when a malformed value is an error."""
    listed = {one.variable: one for one in documented()}
    names = {
        *OF_ALL_TYPES.values(),
        *(f"{job_type.upper()}_{OF_ALL_TYPES[field]}" for field in BY_TYPE for job_type in [*JobType][:4]),
    }
    intervals = {f"JOBTRAIL_{job_type.upper()}_STATUS_CHECK_INTERVAL" for job_type in JobType}
    assert listed.keys() == names | intervals | {"JOB_DEFAULT_ENV_*"}
    for name in names:
        own = name.partition("_")[0]
        job_type = JobType.DEFAULT if own == "JOB" else JobType(own.lower())
        with pytest.raises(SettingError, match=f"^{name}: "):
            read(job_type, **{name: "{ x"})
        assert listed[name].fallback == ("" if own == "JOB" else name.removeprefix(f"{own}_"))
    assert listed["JOB_KUBE_BUSYBOX_IMAGE"].default == read(JobType.CHECK).busybox_image
    assert listed["JOBTRAIL_REPLICATION_STATUS_CHECK_INTERVAL"].default == "30"
    assert all(one.meaning and one.form for one in listed.values())
