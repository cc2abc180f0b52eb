"""AirbyteHook of Airflow's provider, unchanged, against a running service.

Airflow is installed apart, into the cache, on the first run: its requirements are not ours.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from conftest import CACHE, refuse
from running_service import PATIENCE, running, worker

from jobtrail.demo.apart import InstallError, environment_of
from jobtrail.settings import Settings

HERE = Path(__file__).parent
CONNECTION = "0b3f4bd4-5b5b-4a0e-9f2a-00000000000a"
TOKEN = "a-token-of-sixteen-or-more"


@pytest.fixture(scope="session")
def airflow_python() -> Path:
    try:
        folder = environment_of(
            HERE / "airflow-requirements.txt", "Airflow's hook", CACHE, lambda: sys.executable, print
        )
    except InstallError as error:
        refuse(f"Airflow's hook cannot be installed: {error}")
    return folder / "bin" / "python"


def steps(python: Path, home: Path, connection: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """What the hook tells of each step, while it goes on."""
    environment = {
        **os.environ,
        "AIRFLOW_HOME": str(home),
        "AIRFLOW_CONN_AIRBYTE_DEFAULT": json.dumps(connection),
    }
    with subprocess.Popen(
        [python, str(HERE / "airflow_hook.py"), CONNECTION],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as hook:
        said = []
        for line in hook.stdout or ():
            said.append(line)
            if line.startswith("STEP "):
                step, found = json.loads(line.removeprefix("STEP "))
                yield step, found
    assert hook.returncode == 0, "".join(said)


@pytest.mark.timeout(300)  # the first run installs Airflow
@pytest.mark.parametrize("tokens", [(), (TOKEN,)], ids=["without credentials", "with credentials"])
def test_the_hook_tests_submits_waits_and_cancels(
    settings: Settings, airflow_python: Path, tmp_path: Path, tokens: Sequence[str]
) -> None:
    """As Airflow's operators and sensors use it; with credentials it gets its bearer token by itself."""
    patient = settings.model_copy(update={"read_back_timeout": PATIENCE})
    with running(patient, tokens) as address:
        connection: dict[str, Any] = {"conn_type": "airbyte", "host": f"{address}/api/public/v1"}
        connection["extra"] = {"timeout": PATIENCE}
        if tokens:
            connection |= {"login": "jobtrail", "password": tokens[0]}
        told = steps(airflow_python, tmp_path / "airflow", connection)
        assert next(told) == ("test", [True, "Connection successfully tested"])
        step, job_id = next(told)
        assert step == "submitted"
        with worker(settings, job_id):
            pass
        assert next(told) == ("waited", ["succeeded", 3, 30])
        step, (second, status) = next(told)
        assert (step, status, second > job_id) == ("cancelled", "cancelled", True)
        step, why = next(told)
        assert (step, "was cancelled" in why) == ("refused", True)
        assert next(told, None) is None
