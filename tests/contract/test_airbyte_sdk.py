"""Airbyte's own Python SDK, unchanged, against a running service."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import httpx
import pytest
from airbyte_api import AirbyteAPI, api, models
from airbyte_api.errors import SDKError
from api_scenes import CONNECTION, START, failed_job, project
from running_service import PATIENCE, becomes, running, worker

from jobtrail.settings import Settings

pytest_plugins = ["service_fixtures"]
TOKEN = "a-token-of-sixteen-or-more"


def start(sdk: AirbyteAPI, connection: str, job_type: str = "sync") -> models.JobResponse:
    wanted = models.JobCreateRequest(connection_id=connection, job_type=models.JobTypeEnum(job_type))
    made = sdk.jobs.create_job(request=wanted).job_response
    assert made is not None
    return made


def get(sdk: AirbyteAPI, job_id: int) -> models.JobResponse:
    found = sdk.jobs.get_job(request=api.GetJobRequest(job_id=job_id)).job_response
    assert found is not None
    return found


@pytest.mark.parametrize("prefix", ["/v1", "/public/v1", "/api/public/v1"])
def test_the_sdk_makes_reads_cancels_and_lists_jobs(
    service: str, client: httpx.Client, settings: Settings, database: str, prefix: str
) -> None:
    """Statuses, committed totals and instants are what its own models take."""
    project(database, failed_job(7))
    sdk = AirbyteAPI(server_url=service + prefix, timeout_ms=int(PATIENCE) * 1000)
    assert sdk.health.get_health_check().status_code == 200

    waiting = start(sdk, "connection-1")
    assert (waiting.status, waiting.job_type, waiting.duration) == ("pending", "sync", None)
    with pytest.raises(SDKError, match="already running") as refused:
        start(sdk, "connection-1", "reset")
    assert refused.value.status_code == 409
    with worker(settings, waiting.job_id):
        becomes(client, waiting.job_id, "running")
    becomes(client, waiting.job_id, "succeeded")
    done = get(sdk, waiting.job_id)
    assert (done.status, done.rows_synced, done.bytes_synced) == ("succeeded", 3, 30)
    assert done.last_updated_at is not None
    assert (done.duration or "").startswith("PT")

    second = start(sdk, "connection-1", "refresh")
    cancelled = sdk.jobs.cancel_job(request=api.CancelJobRequest(job_id=second.job_id)).job_response
    assert cancelled is not None
    assert cancelled.status == "cancelled"
    with pytest.raises(SDKError) as missing:
        get(sdk, 123_456)
    assert missing.value.status_code == 404

    def listed(**filters: object) -> list[int]:
        page = sdk.jobs.list_jobs(request=api.ListJobsRequest(**filters)).jobs_response
        assert page is not None
        return [job.job_id for job in page.data]

    assert listed() == [second.job_id, waiting.job_id, 7]
    assert listed(connection_id=CONNECTION, status=models.JobStatusEnum.FAILED) == [7]
    assert listed(job_type=models.JobTypeEnum.REFRESH) == [second.job_id]
    assert listed(limit=1, offset=1, order_by="createdAt|ASC") == [waiting.job_id]
    assert listed(workspace_ids=["workspace-1", "elsewhere"]) == [7]
    assert listed(created_at_end=START + timedelta(days=1), updated_at_start=START) == [7]
    assert listed(created_at_start=datetime.now(UTC) + timedelta(days=1)) == []


def test_with_credentials_the_sdk_gets_its_token_by_itself(settings: Settings) -> None:
    """Where it asks unless told otherwise, and where it is told to; a wrong secret gets none."""
    patient = settings.model_copy(update={"read_back_timeout": PATIENCE})
    with running(patient, (TOKEN, "another-long-enough-token")) as address:

        def sdk(secret: str, **more: str) -> AirbyteAPI:
            credentials = models.SchemeClientCredentials(client_id="any", client_secret=secret, **more)
            return AirbyteAPI(
                server_url=f"{address}/v1", security=models.Security(client_credentials=credentials)
            )

        made = start(sdk(TOKEN), "connection-1")
        elsewhere = sdk(TOKEN, token_url=f"{address}/api/v1/applications/token")
        assert get(elsewhere, made.job_id).connection_id == "connection-1"
        with pytest.raises(Exception, match="Unexpected status code 401 from token endpoint"):
            get(sdk(f"{TOKEN}x"), made.job_id)
        bearer = AirbyteAPI(server_url=f"{address}/v1", security=models.Security(bearer_auth=TOKEN))
        assert get(bearer, made.job_id).job_id == made.job_id
