from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import psycopg
from cli_scenes import jobtrail

from jobtrail.consumers.projector import project_until_caught_up
from jobtrail.producers.spool_send import spooled
from jobtrail.settings import Settings


def connectors(folder: Path, **config: Any) -> tuple[str, ...]:
    """Options for the small source and the small destination of the demonstration."""
    source, destination = folder / "source.json", folder / "destination.json"
    source.write_text(json.dumps({"count": 250, **config}))
    destination.write_text(json.dumps({"path": str(folder / "written")}))
    module = f"'{sys.executable}' -m jobtrail.demo"
    return (
        "--source",
        f"{module}.source read --config '{source}'",
        "--destination",
        f"{module}.destination write --config '{destination}'",
    )


def test_run_reports_a_job_and_says_how_it_went(settings: Settings, tmp_path: Path) -> None:
    """Status 0 for a success; the read models say what was written."""
    found = jobtrail(settings, "run", "--connection", "c-1", "--json", *connectors(tmp_path))
    assert found.returncode == 0, found.stderr
    result = json.loads(found.stdout)
    written = {path.stem: len(path.read_text().splitlines()) for path in (tmp_path / "written").iterdir()}
    assert {stream["streamName"]: stream["recordsCommitted"] for stream in result["streams"]} == written
    project_until_caught_up(settings)
    shown = json.loads(jobtrail(settings, "jobs", "show", str(result["jobId"]), "--json").stdout)
    assert (shown["job"]["status"], shown["job"]["configId"]) == ("succeeded", "c-1")
    assert shown["job"]["aggregatedStats"]["recordsCommitted"] == sum(written.values()) == 500


def test_run_of_a_connector_that_fails_is_status_1(settings: Settings, tmp_path: Path) -> None:
    """The source is at fault, and its last words are kept."""
    found = jobtrail(settings, "run", "--connection", "c-1", *connectors(tmp_path, fail_after=300))
    assert found.returncode == 1
    assert "Traceback" not in found.stderr
    project_until_caught_up(settings)
    (entry,) = json.loads(jobtrail(settings, "jobs", "list", "--json").stdout)["jobs"]
    assert entry["job"]["status"] == "failed"
    summary = entry["attempts"][0]["failureSummary"]
    assert (summary["failures"][0]["failureOrigin"], summary["partialSuccess"]) == ("source", True)
    shown = jobtrail(settings, "jobs", "show", str(entry["job"]["id"]), "--logs").stdout
    assert "the demonstration source ends with exit status 1" in shown


def test_a_job_of_run_or_tap_has_the_scope_that_is_named(settings: Settings, tmp_path: Path) -> None:
    """And one that does not fit is refused in the words of the options, before anything runs."""
    scope = ("--scope-type", "workspace", "--scope-id", "w-1")
    assert jobtrail(settings, "run", "--connection", "c-1", *scope, *connectors(tmp_path)).returncode == 0
    assert jobtrail(settings, "tap", "--connection", "c-2", *scope).returncode == 0
    project_until_caught_up(settings)
    with psycopg.connect(settings.database_url or "") as connection:
        rows = connection.execute("SELECT scope_type, scope_id, workspace_id FROM jobtrail.jobs").fetchall()
    assert rows == [("workspace", "w-1", "w-1")] * 2
    for command in (("run", "--source", "false"), ("tap",)):
        for wrong, says in (
            (("--scope-id", "w-1"), "--scope-type: the scope 'w-1' needs it"),
            (("--scope-type", "organization"), "--scope-id: which organization is meant is not said"),
            ((*scope, "--workspace", "w-2"), "--workspace: 'w-2' is not the workspace 'w-1'"),
        ):
            found = jobtrail(settings, *command, "--connection", "c-1", *wrong)
            assert (found.returncode, says in found.stderr) == (2, True), found.stderr


def test_run_without_servers_keeps_the_job_on_the_disk_and_says_what_to_start(
    settings: Settings, tmp_path: Path
) -> None:
    """It starts none itself; without a spool either, nothing runs untracked."""
    mine = Settings(home=tmp_path / "empty", cache=settings.cache)
    arguments = ("run", "--connection", "c-1", *connectors(tmp_path))
    kept = jobtrail(mine, *arguments)
    assert kept.returncode == 0, kept.stderr
    assert "jobtrail up" in kept.stderr
    assert "`jobtrail spool send` delivers them" in kept.stderr
    assert sum(left.events for left in spooled(mine)) > 3
    refused = jobtrail(mine, *arguments, JOBTRAIL_SPOOL="off")
    assert (refused.returncode in {2, 3}, refused.stderr.count("\n")) == (True, 1)
    assert "jobtrail up" in refused.stderr
