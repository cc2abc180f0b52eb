"""One example of each answer, for the OpenAPI document. A test holds each against its model."""

from __future__ import annotations

from typing import Any, Final

_CONNECTION: Final = "e735894a-e773-4938-969f-45f53957b75b"
_WORKSPACE: Final = "9a4b7a0e-0001-4a0e-9f2a-000000000001"
_NIL: Final = "00000000-0000-0000-0000-000000000000"
_DURABLE: Final = (
    "accepted and durable in Kafka, but the read models did not show it within 5 s; ask again later"
)
_FAILURE: Final = {
    "timestamp": 1_767_225_700_000,
    "failureOrigin": "source",
    "failureType": "transient_error",
    "externalMessage": "Something went wrong within the source connector",
    "retryable": True,
}
_STREAM: Final = {"streamName": "users", "streamNamespace": "public"}
_COUNTS: Final = {
    "recordsEmitted": 200,
    "bytesEmitted": 20_000,
    "recordsCommitted": 120,
    "bytesCommitted": 12_000,
}
_ATTEMPT_COUNTS: Final = {**_COUNTS, "stateMessagesEmitted": 2}
_JOB: Final = {
    "id": 42,
    "configType": "sync",
    "configId": _CONNECTION,
    "createdAt": 1_767_225_600,
    "updatedAt": 1_767_225_700,
    "startedAt": 1_767_225_601,
    "status": "failed",
    "aggregatedStats": _ATTEMPT_COUNTS,
    "failureReason": {"attemptNumber": 0, **_FAILURE},
}
_WHOLE_JOB: Final = {
    **_JOB,
    "enabledStreams": [{"name": "users", "namespace": "public"}],
    "streamAggregatedStats": [{**_STREAM, **_COUNTS}],
}
_ATTEMPT: Final = {
    "id": 0,
    "attemptId": "43008",
    "attemptNumber": 0,
    "status": "failed",
    "createdAt": 1_767_225_601,
    "updatedAt": 1_767_225_700,
    "endedAt": 1_767_225_700,
    "bytesSynced": 12_000,
    "recordsSynced": 120,
    "totalStats": _ATTEMPT_COUNTS,
    "streamStats": [{**_STREAM, "stats": _ATTEMPT_COUNTS}],
    "failureSummary": {"failures": [_FAILURE], "partialSuccess": True},
}
_ATTEMPT_INFO: Final = {
    "attempt": _ATTEMPT,
    "logType": "formatted",
    "logs": {"logLines": ["2026-01-01 00:01:40 source: read timed out"]},
}
_PUBLIC_JOB: Final = {
    "jobId": 42,
    "status": "failed",
    "jobType": "sync",
    "startTime": "2026-01-01T00:00:00Z",
    "connectionId": _CONNECTION,
    "lastUpdatedAt": "2026-01-01T00:01:40Z",
    "duration": "PT1M40S",
    "bytesSynced": 12_000,
    "rowsSynced": 120,
    "failureReason": {"attemptNumber": 0, **_FAILURE},
}
_STATUS: Final = {
    "id": "4f5c2b1e-6c1a-8d0e-9b55-0d4f1f9a3c21",
    "workspaceId": _WORKSPACE,
    "connectionId": _CONNECTION,
    "jobId": 42,
    "attemptNumber": 0,
    "jobType": "SYNC",
    **_STREAM,
    "runState": "INCOMPLETE",
    "incompleteRunCause": "FAILED",
    "transitionedAt": 1_767_225_700_000,
}

#: Name of the model → an answer.
EXAMPLES: Final[dict[str, Any]] = {
    "AdviceRead": {
        "jobId": 42,
        "decision": "retry_at",
        "reason": "2 attempts in a row committed nothing",
        "retryAt": "2026-01-01T00:02:10Z",
    },
    "AnomalyList": {
        "anomalies": [
            {
                "jobId": 42,
                "attemptNumber": 0,
                "kind": "zero_records",
                "detail": "no records were committed",
            }
        ],
        "totalCount": 1,
    },
    "AttemptInfoRead": _ATTEMPT_INFO,
    "AttemptStats": _ATTEMPT_COUNTS,
    "ConnectionSyncProgressRead": {
        "connectionId": _CONNECTION,
        "jobId": 42,
        "configType": "sync",
        "syncStartedAt": 1_767_225_600,
        **_COUNTS,
        "streams": [
            {**_STREAM, "configType": "sync", "status": "running", **_COUNTS, "estimatedRecords": 1_000}
        ],
    },
    "DataplaneHealthListResponse": {
        "dataplanes": [
            {
                "dataplane_id": "eu-1",
                "dataplane_name": "eu-1",
                "dataplane_group_id": _NIL,
                "organization_id": _NIL,
                "status": "HEALTHY",
                "last_heartbeat_timestamp": 1_767_225_600_000,
                "recent_heartbeats": [{"timestamp": 1_767_225_600_000}],
                "dataplane_version": "1.4.0",
            }
        ]
    },
    "Health": {"available": True},
    "JobHistory": {
        "jobId": 42,
        "events": [
            {
                "eventId": "0199a5f0-7c00-7000-8000-000000000001",
                "eventType": "AttemptFailed",
                "occurredAt": "2026-01-01T00:01:40Z",
                "receivedAt": "2026-01-01T00:01:40.012000Z",
                "attemptNumber": 0,
                "body": {
                    "event_id": "0199a5f0-7c00-7000-8000-000000000001",
                    "occurred_at": 1_767_225_700_000_000,
                    "job_id": 42,
                    "attempt_number": 0,
                },
            }
        ],
        "totalEventCount": 1,
        "complete": True,
        "notes": [],
    },
    "JobInfoLightRead": {"job": _JOB},
    "JobInfoRead": {"job": _WHOLE_JOB, "attempts": [_ATTEMPT_INFO]},
    "JobOptionalRead": {"job": _WHOLE_JOB},
    "JobReadList": {"jobs": [{"job": _WHOLE_JOB, "attempts": [_ATTEMPT]}], "totalJobCount": 1},
    "JobResponse": _PUBLIC_JOB,
    "JobsResponse": {"data": [_PUBLIC_JOB]},
    "NewAttemptRead": {"attemptNumber": 1},
    "OperationResult": {"succeeded": True},
    "Problem": {"message": f"job 42: {_DURABLE}", "id": 42},
    "Readiness": {
        "ready": True,
        "reasons": [],
        "degraded": True,
        "warnings": [
            "dead letters: 3 unknown_schema in the last hour; `jobtrail dead-letters list` shows them"
        ],
        "behind": 0,
        "deadLetters": 3,
    },
    "RetryStateRead": {
        "id": "2c9f0a5e-1d37-8b1c-a4a0-7be3d7a1f6c2",
        "jobId": 42,
        "connectionId": _CONNECTION,
        "successiveCompleteFailures": 0,
        "totalCompleteFailures": 1,
        "successivePartialFailures": 1,
        "totalPartialFailures": 1,
    },
    "StreamStatusRead": _STATUS,
    "StreamStatusReadList": {"streamStatuses": [_STATUS]},
    "TokenResponse": {
        "access_token": "one-of-the-servers-tokens",
        "token_type": "Bearer",
        "expires_in": 3600,
    },
    "WorkerConfig": {
        "jobType": "replication",
        "statusCheckInterval": 30.0,
        "cpuRequest": "500m",
        "memoryLimit": "2Gi",
        "nodeSelectors": {"pool": "syncs"},
        "tolerations": [],
        "labels": {},
        "annotations": {},
        "imagePullSecrets": [],
        "imagePullPolicy": "IfNotPresent",
        "socatImage": "alpine/socat:1.7.4.4-r0",
        "busyboxImage": "busybox:1.35",
        "curlImage": "curlimages/curl:7.87.0",
        "environment": {},
        "sources": {
            "statusCheckInterval": "default",
            "cpuRequest": "REPLICATION_JOB_MAIN_CONTAINER_CPU_REQUEST",
            "memoryLimit": "JOB_MAIN_CONTAINER_MEMORY_LIMIT",
            "nodeSelectors": "JOB_KUBE_NODE_SELECTORS",
        },
    },
    "WorkspaceRead": {
        "workspaceId": _WORKSPACE,
        "organizationId": "acme",
        "isDefault": True,
        "name": "Main",
    },
}
#: What is beside the other fields where an answer cannot be read back yet.
LATER: Final = _DURABLE
