"""`jobtrail worker-config` and its endpoint, as people and programs meet them."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from jobtrail.cli.main import run
from jobtrail.job_types import JobType
from jobtrail.worker_config.config import WorkerConfig, documented

pytest_plugins = ["api_client"]


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOB_KUBE_LABELS", "team=data")
    monkeypatch.setenv("CHECK_JOB_KUBE_LABELS", "team=checks")
    monkeypatch.setenv("JOB_DEFAULT_ENV_TOKEN", "geheim")


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = run(["worker-config", *arguments])
    shown = capsys.readouterr()
    return status, shown.out, shown.err


def test_show_says_where_each_value_came_from(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = said(capsys, "show", "check")
    lines = [text.split("  ") for text in out.splitlines()]
    cells = {text[0]: [cell.strip() for cell in text if cell.strip()] for text in lines}
    assert (status, err) == (0, "")
    assert cells["labels"] == ["labels", "team=checks", "CHECK_JOB_KUBE_LABELS"]
    assert cells["image pull policy"] == ["image pull policy", "IfNotPresent", "default"]
    assert cells["status check interval"] == ["status check interval", "1 s", "default"]
    assert cells["variable TOKEN"] == ["variable TOKEN", "(set)", "JOB_DEFAULT_ENV_TOKEN"]
    assert "geheim" not in out


def test_show_without_a_type_shows_all(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = said(capsys, "show")
    assert [text for text in out.splitlines() if text.startswith("Job type")] == [
        f"Job type {job_type}" for job_type in JobType
    ]
    _, out, _ = said(capsys, "show", "--json")
    assert [one["jobType"] for one in json.loads(out)] == [*JobType]


def test_variables_lists_what_the_code_reads(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = said(capsys, "variables")
    assert status == 0
    rows = {text.split()[0]: text.split() for text in out.splitlines()}
    assert rows.keys() == {"variable", *(one.variable for one in documented())}
    assert rows["SPEC_JOB_KUBE_LABELS"][1:4] == ["k1=v1,k2=v2", "-", "JOB_KUBE_LABELS"]
    _, out, _ = said(capsys, "variables", "--json")
    assert json.loads(out) == [one._asdict() for one in documented()]


def test_render_prints_one_pod_as_yaml_or_json(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All after -- is the connector's, as it stands."""
    monkeypatch.setenv("JOBTRAIL_KAFKA_BOOTSTRAP_SERVERS", "kafka:9092")
    arguments = ["render", "check", "--image", "x:1", "--connection", "c", "--job", "7", "--attempt", "0"]
    command = ["source", "check", "--config", "c.json", "--", "-x", "--json"]
    status, out, err = said(capsys, *arguments, "--", *command)
    assert (status, err) == (0, "")
    manifest = yaml.safe_load(out)
    assert manifest["metadata"]["name"] == "jobtrail-check-7-0"
    assert manifest["metadata"]["labels"]["team"] == "checks"
    assert manifest["spec"]["containers"][0]["command"][4:] == command
    _, out, _ = said(capsys, *arguments, "--json", "--", *command)
    assert json.loads(out) == manifest


def test_render_says_what_the_pod_needs_beside_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOBTRAIL_KAFKA_SSL_CA_LOCATION", "/ca.pem")
    status, out, err = said(capsys, "render", "spec", "--image", "x:1", "--secret", "ours", "--", "source")
    assert status == 0
    assert yaml.safe_load(out)["kind"] == "Pod"
    assert "the Secret ours with the keys JOBTRAIL_KAFKA_BOOTSTRAP_SERVERS" in err
    assert "JOBTRAIL_KAFKA_SSL_CA_LOCATION: the tap's image must have the file /ca.pem" in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["show", "chek"], ["none of spec, check, discover, replication, default", "did you mean 'check'"]),
        (["render", "check", "--image", "a b", "--", "x"], ["--image", "'a b' is no name of an image"]),
        (["render", "check", "--image", "x", "--name", "A", "--", "x"], ["--name", "no DNS label"]),
        (
            ["render", "check", "--image", "x", "--secret", "A", "--", "x"],
            ["--secret", "no name of a Secret"],
        ),
        (["render", "check", "--", "x"], ["--image"]),
        (["render", "check", "--image", "x"], ["CMD"]),
        (["render", "check", "--image", "x", "--config-type", "snc", "--", "x"], ["did you mean 'sync'"]),
    ],
)
def test_wrong_usage_is_status_2(
    arguments: list[str], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, err = said(capsys, *arguments)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert all(word in err for word in words)


@pytest.mark.parametrize(
    "command", [["show"], ["show", "check"], ["render", "check", "--image", "x", "--", "y"]]
)
def test_a_malformed_variable_is_one_line_and_status_2(
    command: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOB_KUBE_NODE_SELECTORS", "disk=ssd,zone\x1b[2J")
    status, out, err = said(capsys, *command)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("jobtrail: JOB_KUBE_NODE_SELECTORS: ")
    assert "has no '='; it is written k1=v1,k2=v2" in err
    assert "\x1b" not in err


@pytest.mark.parametrize("prefix", ["/api/v1", "/v1"])
def test_over_http_it_is_what_the_command_shows(
    http: Any, prefix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for job_type in JobType:
        answer = http.client.get(f"{prefix}/worker_configs/{job_type}")
        assert answer.status_code == 200
        _, out, _ = said(capsys, "show", job_type, "--json")
        assert answer.json() == json.loads(out)
        assert answer.json()["sources"]["environment"] == "JOB_DEFAULT_ENV_*"
        assert "geheim" not in answer.text


def test_an_unknown_type_is_422_and_names_those_that_are(http: Any) -> None:
    answer = http.client.get("/v1/worker_configs/sync")
    assert answer.status_code == 422
    assert answer.json()["validationErrors"][0]["propertyPath"] == "jobType"
    assert all(str(job_type) in answer.json()["message"] for job_type in JobType)


def test_a_malformed_variable_of_the_server_is_503_and_named(
    http: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOB_KUBE_TOLERATIONS", "key=a,operator=Equals")
    answer = http.client.get("/v1/worker_configs/check")
    assert answer.status_code == 503
    assert answer.json()["message"].startswith("JOB_KUBE_TOLERATIONS: 'key=a,operator=Equals'")


def test_the_answer_is_described(http: Any) -> None:
    described = http.client.get("/openapi.json").json()
    operation = described["paths"]["/v1/worker_configs/{jobType}"]["get"]
    assert {"200", "422", "503"} <= operation["responses"].keys()
    fields = described["components"]["schemas"]["WorkerConfig"]["properties"]
    assert fields.keys() == {info.alias for info in WorkerConfig.model_fields.values()}
    assert all(field.get("description") for name, field in fields.items() if name != "jobType")
