"""What a DAG does with AirbyteHook, run by the Python of tests/contract/airflow-requirements.txt.

Each step is told to the test as a line of JSON; the connection comes from AIRFLOW_CONN_AIRBYTE_DEFAULT.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from airflow.providers.airbyte.hooks.airbyte import AirbyteHook
from airflow.sdk.exceptions import AirflowException


def tell(step: str, found: Any) -> None:
    print(f"STEP {json.dumps([step, found])}", flush=True)


def main(connection_id: str) -> None:
    hook = AirbyteHook()
    tell("test", hook.test_connection())

    job = hook.submit_sync_connection(connection_id)
    tell("submitted", job.job_id)
    hook.wait_for_job(job.job_id, wait_seconds=0.1, timeout=120)
    details = hook.get_job_details(job.job_id)
    tell("waited", [hook.get_job_status(job.job_id), details.rows_synced, details.bytes_synced])

    again = hook.submit_reset_connection(connection_id)
    tell("cancelled", [again.job_id, hook.cancel_job(again.job_id).status])
    try:
        hook.wait_for_job(again.job_id, wait_seconds=0.1, timeout=120)
    except AirflowException as error:
        tell("refused", str(error))


if __name__ == "__main__":
    main(sys.argv[1])
