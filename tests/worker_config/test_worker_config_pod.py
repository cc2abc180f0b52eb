"""The rendered pod: taken by the official client, and its commands run here, as Kubernetes would run them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from kubernetes import client
from sdk_reading import Topics, names, of_type, one, published, sdk_settings

from jobtrail import events
from jobtrail.cli.worker_config import TAP_IMAGE
from jobtrail.errors import UsageError
from jobtrail.job_types import JobType
from jobtrail.settings import KAFKA_CLIENT_SETTINGS, Settings
from jobtrail.worker_config import pod as pods
from jobtrail.worker_config import syntax
from jobtrail.worker_config.config import WorkerConfig

ROOT: Final = Path(__file__).parent.parent.parent
KAFKA: Final = Settings(kafka_bootstrap_servers="kafka:9092")
RECORD: Final = '{"type":"RECORD","record":{"stream":"users","data":{"id":1}}}\n'
EVERYTHING: Final = {
    "JOB_KUBE_NODE_SELECTORS": "disk=ssd",
    "JOB_KUBE_TOLERATIONS": "key=kind,operator=Equal,value=sync,effect=NoSchedule;operator=Exists",
    "JOB_KUBE_LABELS": "team=data,sha=1e3",
    "JOB_KUBE_ANNOTATIONS": 'vault.io/a={"a": 1, "b": 2}',
    "JOB_KUBE_MAIN_CONTAINER_IMAGE_PULL_SECRET": "one,two",
    "JOB_KUBE_MAIN_CONTAINER_IMAGE_PULL_POLICY": "Always",
    "JOB_KUBE_BUSYBOX_IMAGE": "busybox:9",
    "JOB_MAIN_CONTAINER_CPU_REQUEST": "100m",
    "JOB_MAIN_CONTAINER_CPU_LIMIT": "1",
    "JOB_MAIN_CONTAINER_MEMORY_REQUEST": "64Mi",
    "JOB_MAIN_CONTAINER_MEMORY_LIMIT": "1Gi",
    "JOB_DEFAULT_ENV_http_proxy": "http://p:3128",
}


def rendered(
    *command: str,
    job_type: JobType = JobType.REPLICATION,
    environ: Mapping[str, str] | None = None,
    settings: Settings = KAFKA,
    **options: Any,
) -> dict[str, Any]:
    values: dict[str, Any] = {
        "image": "airbyte/source-x:1",
        "command": command or ("source", "read"),
        "tracked": pods.Tracked(connection="c-1"),
        "tap_image": TAP_IMAGE,
        "secret": "jobtrail-kafka",
        **options,
    }
    return pods.pod(WorkerConfig.from_env(job_type, settings, environ or {}), settings, **values)


@pytest.mark.parametrize("environ", [{}, EVERYTHING], ids=["nothing", "everything"])
@pytest.mark.parametrize("job_type", JobType)
def test_the_official_client_takes_it_whole(job_type: JobType, environ: dict[str, str]) -> None:
    """Read into V1Pod and written again it is the same: no field is unknown, misspelled or elsewhere."""
    manifest = rendered(job_type=job_type, environ=environ)
    api = client.ApiClient()
    read = api.deserialize(json.dumps(manifest), "V1Pod", "application/json")
    assert isinstance(read, client.V1Pod)
    assert api.sanitize_for_serialization(read) == manifest  # type: ignore[no-untyped-call]


def test_what_is_configured_is_where_kubernetes_looks_for_it() -> None:
    manifest = rendered("source", "read", environ=EVERYTHING)
    spec = manifest["spec"]
    (pipe,), (connector, tap) = spec["initContainers"], spec["containers"]
    assert manifest["metadata"]["labels"] == {
        "app.kubernetes.io/managed-by": "jobtrail",
        "jobtrail/job-type": "replication",
        "team": "data",
        "sha": "1e3",
    }
    assert manifest["metadata"]["annotations"] == {"vault.io/a": '{"a": 1, "b": 2}'}
    assert spec["restartPolicy"] == "Never"
    assert spec["nodeSelector"] == {"disk": "ssd"}
    assert spec["tolerations"] == [
        {"key": "kind", "operator": "Equal", "value": "sync", "effect": "NoSchedule"},
        {"operator": "Exists"},
    ]
    assert spec["imagePullSecrets"] == [{"name": "one"}, {"name": "two"}]
    assert pipe["image"] == "busybox:9"
    assert (connector["image"], connector["imagePullPolicy"]) == ("airbyte/source-x:1", "Always")
    assert connector["resources"] == {
        "requests": {"cpu": "100m", "memory": "64Mi"},
        "limits": {"cpu": "1", "memory": "1Gi"},
    }
    assert connector["env"] == [{"name": "http_proxy", "value": "http://p:3128"}]
    assert tap["image"] == TAP_IMAGE


def test_the_tap_is_the_image_that_compose_builds() -> None:
    services = yaml.safe_load((ROOT / "compose.yaml").read_text("utf-8"))["services"]
    assert services["api"]["image"] == TAP_IMAGE


def test_passwords_and_keys_come_from_a_secret() -> None:
    """They stand nowhere in the manifest; what is not secret, and set, does."""
    secret = {
        name: "geheim" for name in KAFKA_CLIENT_SETTINGS if re.search(r"password|secret|key\.pem", name)
    }
    settings = Settings(
        kafka_bootstrap_servers="kafka:9093",
        database_url="postgresql://u:geheim@db/jobtrail",
        schema_registry_url="https://u:geheim@schemas",
        events_topic="our.events",
        replication_status_check_interval=9,
        kafka_client={**secret, "security.protocol": "SASL_SSL", "ssl.ca.location": "/ca.pem"},
    )
    manifest = rendered(settings=settings, secret="ours")
    assert "geheim" not in pods.as_yaml(manifest)
    env = {entry["name"]: entry for entry in manifest["spec"]["containers"][1]["env"]}
    assert {name: entry["value"] for name, entry in env.items() if "value" in entry} == {
        "JOBTRAIL_KAFKA_BOOTSTRAP_SERVERS": "kafka:9093",
        "JOBTRAIL_EVENTS_TOPIC": "our.events",
        "JOBTRAIL_REPLICATION_STATUS_CHECK_INTERVAL": "9.0",
        "JOBTRAIL_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "JOBTRAIL_KAFKA_SSL_CA_LOCATION": "/ca.pem",
    }
    variables = {f"JOBTRAIL_KAFKA_{name.upper().replace('.', '_')}" for name in secret}
    assert variables == set(pods.from_secret(settings))
    for variable in variables:
        assert env[variable]["valueFrom"] == {"secretKeyRef": {"name": "ours", "key": variable}}
    assert pods.files(settings) == {"JOBTRAIL_KAFKA_SSL_CA_LOCATION": "/ca.pem"}


def test_without_an_address_of_kafka_here_the_secret_has_it() -> None:
    env = rendered(settings=Settings())["spec"]["containers"][1]["env"]
    variable = "JOBTRAIL_KAFKA_BOOTSTRAP_SERVERS"
    assert env == [
        {"name": variable, "valueFrom": {"secretKeyRef": {"name": "jobtrail-kafka", "key": variable}}}
    ]


@pytest.mark.parametrize("job_type", JobType)
def test_names_are_dns_labels_and_one_for_each_attempt(job_type: JobType) -> None:
    def name(tracked: pods.Tracked) -> str:
        made: str = rendered(job_type=job_type, tracked=tracked)["metadata"]["name"]
        return syntax.dns_label(made)

    existing = pods.Tracked(job_id=2**53 - 1, attempt_number=1023)
    assert name(existing) == name(existing)
    assert name(pods.Tracked()) != name(pods.Tracked())
    assert name(pods.Tracked(job_id=1)) != name(pods.Tracked(job_id=1))
    assert rendered(name="mine")["metadata"]["name"] == "mine"


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0")) | st.sampled_from(
    [
        "1e3",
        "y",
        "N",
        "yes",
        "0o7",
        "0x1F",
        "1_000",
        "1:30",
        ".5",
        "~",
        "null",
        "=",
        "-",
        "- a",
        "{",
        "2026-01-01",
        "\x85",
        "a\u2028 b",
        "a\r\n\tb",
    ]
)


@given(st.lists(TEXT, min_size=1), TEXT)
@hypothesis_settings(deadline=None)
def test_yaml_is_the_same_document_for_every_parser(command: list[str], value: str) -> None:
    """Read back, it is the manifest; and what Go's parser would take for no text stands in quotes."""
    manifest = rendered(*command, environ={"JOB_DEFAULT_ENV_X": value, "JOB_KUBE_LABELS": "y=1e3"})
    text = pods.as_yaml(manifest)
    assert yaml.safe_load(text) == manifest
    for token in yaml.scan(text):
        if isinstance(token, yaml.ScalarToken) and token.plain:
            assert re.match(r"[^\W\d_].", token.value)
            assert token.value.lower() not in {"yes", "no", "on", "off", "true", "false", "null"}


@pytest.mark.parametrize(
    "environ", [{}, {"JOB_DEFAULT_ENV_X": "\udc80"}, {"JOB_KUBE_ANNOTATIONS": "a=\udc80"}]
)
def test_what_is_no_utf8_is_refused(environ: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="no UTF-8"):
        rendered("source", "read" if environ else "\udc80", environ=environ)


def expanded(text: str, env: Mapping[str, str]) -> str:
    """As Kubernetes expands a word of a command and the value of a variable."""
    return re.sub(
        r"\$(\$|\(([^)]*)\))",
        lambda found: "$" if found[1] == "$" else env.get(found[2], found[0]),
        text,
    )


@dataclass
class LocalPod:
    """Runs a pod's containers as processes: same commands, same variables, a folder for the volume."""

    manifest: dict[str, Any]
    folder: Path

    def __post_init__(self) -> None:
        (pipe,) = self.manifest["spec"]["initContainers"]
        for _ in range(2):  # the kubelet may run it again
            with self.start(pipe) as init:
                assert init.wait(30) == 0
        self.connector, self.tap = map(self.start, self.manifest["spec"]["containers"])

    def start(self, container: dict[str, Any]) -> subprocess.Popen[str]:
        env: dict[str, str] = {}
        for entry in container.get("env", []):
            env[entry["name"]] = expanded(entry["value"], env)
        command = [expanded(word, env) for word in container["command"]]
        command[2] = command[2].replace(pods.SHARED, str(self.folder))
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        return subprocess.Popen(
            command,
            env={"PATH": path, "JOBTRAIL_HOME": str(self.folder / "home"), **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def ended(self) -> list[tuple[int, str, str]]:
        """Exit status, stdout and stderr of the connector and the tap."""
        said = [process.communicate(timeout=60) for process in (self.connector, self.tap)]
        return [
            (process.returncode, *one) for process, one in zip((self.connector, self.tap), said, strict=True)
        ]


@pytest.fixture
def settings(kafka: str, topics: Topics, tmp_path: Path) -> Settings:
    return sdk_settings(kafka, topics, tmp_path / "home")


SHOW: Final = (
    "import json, os, sys; print(json.dumps([sys.argv[1:], os.environ['X']]), file=sys.stderr);"
    "sys.stdout.write(sys.argv[1])"
)


def test_a_connector_in_the_pod_is_a_job(settings: Settings, tmp_path: Path) -> None:
    """Its words and variables are what was given, its output passes unchanged, and the job is told."""
    words = [RECORD * 3, "$(X)", "$$", "$HOME", "`id`", "two words", "--", "'\"\n"]
    manifest = rendered(
        sys.executable,
        "-c",
        SHOW,
        *words,
        environ={"JOB_DEFAULT_ENV_X": "a$(PATH)$$b 'c'"},
        settings=settings,
        tracked=pods.Tracked(connection="c-1", workspace="w-1", job_id=7),
    )
    connector, tap = LocalPod(manifest, tmp_path).ended()
    assert (connector[0], tap) == (0, (0, RECORD * 3, ""))
    assert json.loads(connector[2]) == [words, "a$(PATH)$$b 'c'"]
    told = published(settings)
    created = one(told, events.JobCreated)
    assert (created.job_id, created.config_type, created.connection_id) == (7, "sync", "c-1")
    assert created.workspace_id == "w-1"
    assert of_type(told, events.StreamStats)[-1].records_emitted == 3
    assert names(told)[-1] == "AttemptSucceeded"


def test_a_spec_job_is_about_the_image(settings: Settings, tmp_path: Path) -> None:
    manifest = rendered("true", job_type=JobType.SPEC, settings=settings, tracked=pods.Tracked())
    assert [status for status, *_ in LocalPod(manifest, tmp_path).ended()] == [0, 0]
    created = one(published(settings), events.JobCreated)
    assert (created.config_type, created.config_id) == ("get_spec", "airbyte/source-x:1")
    assert created.connection_id is None


def test_an_attempt_that_exists_is_taken(settings: Settings, tmp_path: Path) -> None:
    tracked = pods.Tracked(job_id=9, attempt_number=2)
    manifest = rendered("no-such-command", settings=settings, tracked=tracked)
    assert [status for status, *_ in LocalPod(manifest, tmp_path).ended()] == [127, 0]
    told = published(settings, 9)
    assert "JobCreated" not in names(told)
    assert one(told, events.AttemptStarted).attempt_number == 2
    assert "exit status 127" in (one(told, events.Failure).internal_message or "")


def test_a_connector_that_is_killed_with_its_container_has_failed(settings: Settings, tmp_path: Path) -> None:
    """As the kernel does where memory runs out: nothing is left that could tell how it ended."""
    pod = LocalPod(rendered("sh", "-c", f"echo '{RECORD.strip()}'; sleep 60", settings=settings), tmp_path)
    assert pod.tap.stdout
    assert pod.tap.stdout.readline() == RECORD
    os.killpg(pod.connector.pid, signal.SIGKILL)
    begun = time.monotonic()
    pod.ended()
    assert time.monotonic() - begun < 50
    failure = one(published(settings), events.Failure)
    assert failure.failure_origin == "source"
    assert "it was killed" in (failure.internal_message or "")
