"""What the documents show exists and works."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
import yaml

from jobtrail import events
from jobtrail.cli.main import COMMANDS
from jobtrail.embedded.jars import Lock
from jobtrail.projections.anomalies import AnomalyKind
from jobtrail.settings import Settings

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_every_command_is_in_the_readme_and_every_command_there_exists() -> None:
    prose = re.sub(r"```.*?```", "", README, flags=re.DOTALL)
    spans = "\n".join(re.findall(r"`([^`]+)`", prose))
    assert set(re.findall(r"jobtrail ([a-z-]+)", spans)) == set(COMMANDS)


def test_every_target_that_the_readme_names_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"make ([a-z]+)", README)) <= targets


def test_every_setting_in_the_readme_exists() -> None:
    known = {*Settings.variables(), "JOBTRAIL_API_TOKENS"}
    named = {name for name in re.findall(r"`(JOBTRAIL_[A-Z_]+)`", README) if not name.endswith("_")}
    assert named <= known


def test_python_in_the_readme_is_python() -> None:
    """That it does what it says is tests/producers/test_sdk.py's."""
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert blocks
    for block in blocks:
        ast.parse(block)


@pytest.mark.parametrize(
    "page",
    ["README.md", "ARCHITECTURE.md", "SECURITY.md", "CHANGELOG.md", "docs/follow.md", "docs/sql.md"],
)
def test_links_and_rooms_exist(page: str) -> None:
    text = (ROOT / page).read_text()
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", text):
        assert (ROOT / page).parent.joinpath(target).exists(), target
    for path in re.findall(
        r"`((?:jobtrail|projections|consumers|producers|migrations|tests)/[\w./]+)`", text
    ):
        assert (ROOT / path).exists(), path


def test_the_glossary_is_there_and_sorted_into_terms() -> None:
    glossary = (ROOT / "ARCHITECTURE.md").read_text().partition("## Glossary")[2]
    for term in ("attempt id", "attempt number", "partial success", "checkpoint", "dead letter"):
        assert f"| {term} |" in glossary


def test_every_kind_of_anomaly_is_known_and_in_the_table_with_what_to_do() -> None:
    """derive.sql finds them, AnomalyKind tells of them, ARCHITECTURE.md shows what that says."""
    derive = (ROOT / "projections" / "derive.sql").read_text()
    found = derive.partition("INSERT INTO found")[2].partition("DELETE FROM anomalies")[0]
    assert set(re.findall(r"'([a-z]+(?:_[a-z]+)+)'", found)) == {*AnomalyKind}
    page = (ROOT / "ARCHITECTURE.md").read_text()
    for kind in AnomalyKind:
        assert f"| `{kind}` | {kind.meaning} | {kind.remedy} |" in page


def test_compose_runs_the_version_of_kafka_that_is_locked() -> None:
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    assert services["kafka"]["image"] == f"apache/kafka:{Lock.read().kafka}"
    assert {"kafka", "postgres", "migrate", "projector", "watchdog", "api"} == set(services)
    for role in ("migrate", "projector", "watchdog", "api"):
        assert services[role]["command"][0] in COMMANDS
        assert all(name in Settings.variables() for name in services[role]["environment"])
    assert all("healthcheck" in services[name] for name in ("kafka", "postgres", "projector", "api"))


def test_every_event_type_says_what_it_is() -> None:
    for event_type in events.EVENT_TYPES:
        assert event_type.__doc__, event_type
