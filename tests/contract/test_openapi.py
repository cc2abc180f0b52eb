"""The OpenAPI document is true: what it allows to be asked is answered as it says, and never with a 500."""

from __future__ import annotations

import os
import subprocess
import sysconfig
from pathlib import Path

import pytest
from api_scenes import failed_job, project
from running_service import running

from jobtrail.settings import Settings

#: Requests made up for each operation, beside those that schemathesis derives from the document.
EXAMPLES = os.environ.get("SCHEMATHESIS_EXAMPLES", "3")
TOKEN = "a-token-of-sixteen-or-more"
CONFIG = Path(__file__).with_name("schemathesis.toml")


@pytest.mark.timeout(900)
def test_no_500_and_no_undocumented_answer(settings: Settings, database: str, tmp_path: Path) -> None:
    """All checks of schemathesis: what fits is taken, what does not is refused, answers are as documented."""
    # The job of the document's examples, so that they find one.
    project(database, failed_job(42))
    with running(settings.model_copy(update={"read_back_timeout": 30.0}), [TOKEN]) as address:
        done = subprocess.run(
            [
                *(Path(sysconfig.get_path("scripts"), "schemathesis"), "--config-file", CONFIG),
                *("run", f"{address}/openapi.json", "--continue-on-failure", "--max-examples", EXAMPLES),
                *("--header", f"Authorization: Bearer {TOKEN}"),
                *("--warnings", "off", "--no-color", "--request-timeout", "30", "--seed", "1"),
            ],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stdout + done.stderr
