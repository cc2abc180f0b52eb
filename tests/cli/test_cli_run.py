from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from cli_scenes import jobtrail

from jobtrail.consumers.projector import project_until_caught_up
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


def test_run_without_servers_says_what_to_start(settings: Settings, tmp_path: Path) -> None:
    """It starts none itself."""
    mine = Settings(home=tmp_path / "empty", cache=settings.cache)
    found = jobtrail(mine, "run", "--connection", "c-1", *connectors(tmp_path))
    assert (found.returncode in {2, 3}, found.stderr.count("\n")) == (True, 1)
    assert "jobtrail up" in found.stderr
