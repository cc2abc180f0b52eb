"""A client of the config API as a worker has it."""

from __future__ import annotations

from typing import Any

import httpx
import psycopg

CONNECTION = "0b3f4bd4-5b5b-4a0e-9f2a-000000000001"
WORKSPACE = "5ae6b09b-fdec-41af-aaf7-7d94cfc33ef6"
STREAMS = [
    {"name": "users", "namespace": "public", "syncMode": "incremental"},
    {"name": "orders", "syncMode": "full_refresh"},
]


class Worker:
    """Speaks to one service."""

    def __init__(self, client: httpx.Client) -> None:
        self.client = client

    def post(self, path: str, body: Any, key: str | None = None) -> httpx.Response:
        headers = {"Idempotency-Key": key} if key else {}
        return self.client.post(f"/api/v1/{path}", json=body, headers=headers)

    def done(self, path: str, body: Any, status: int = 200, key: str | None = None) -> Any:
        answer = self.post(path, body, key)
        assert answer.status_code == status, (path, answer.status_code, answer.text)
        return answer.json() if answer.content else None

    def job(self, connection: str = CONNECTION, **fields: Any) -> int:
        """A new sync of its own connection, in WORKSPACE."""
        scope = {"scopeType": "workspace", "scopeId": WORKSPACE}
        body = {"configType": "sync", "connectionId": connection, "streams": STREAMS, **scope, **fields}
        found: int = self.done("jobs/create", body)["job"]["id"]
        return found

    def attempt(self, job_id: int) -> dict[str, int]:
        """A new attempt of the job: what names it in requests."""
        number = self.done("attempt/create_new_attempt_number", {"jobId": job_id})["attemptNumber"]
        return {"jobId": job_id, "attemptNumber": number}

    def read(self, job_id: int) -> Any:
        return self.done("jobs/get_without_logs", {"id": job_id})

    def anomalies(self) -> list[str]:
        found = self.client.get("/v1/anomalies").json()["anomalies"]
        return [f"{one['kind']}: {one['detail']}" for one in found]


def counted(name: str, namespace: str | None = None, **stats: int) -> dict[str, Any]:
    """Counters of a stream."""
    return {"streamName": name, "streamNamespace": namespace, "stats": stats}


def forget_read_models(database: str) -> None:
    """As after a loss of all that can be made again from the log."""
    with psycopg.connect(database) as connection:
        tables = connection.execute(
            "SELECT string_agg(format('jobtrail_g1.%I', tablename), ', ') FROM pg_tables"
            " WHERE schemaname = 'jobtrail_g1' AND tablename NOT LIKE '%yoyo%'"
        ).fetchone()
        assert tables is not None
        connection.execute(f"TRUNCATE {tables[0]}, jobtrail.checkpoints".encode())
