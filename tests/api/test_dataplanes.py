"""POST dataplanes/health: who is alive, by the clocks of Kafka and Postgres."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from api_scenes import project

from jobtrail import events as e
from jobtrail.api.dataplanes import MOST_RECENT, HealthStatus, health_status
from jobtrail.settings import Settings

pytest_plugins = ["api_client"]
NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
MICRO = timedelta(microseconds=1)


@pytest.mark.parametrize(
    ("silence", "status"),
    [
        (timedelta(0), "HEALTHY"),
        (timedelta(seconds=60), "HEALTHY"),
        (timedelta(seconds=60) + MICRO, "DEGRADED"),
        (timedelta(minutes=5), "DEGRADED"),
        (timedelta(minutes=5) + MICRO, "UNHEALTHY"),
        (timedelta(days=900), "UNHEALTHY"),
        # The broker's clock may be a little ahead of Postgres'.
        (timedelta(seconds=-1), "HEALTHY"),
    ],
)
def test_the_status_follows_from_the_silence(silence: timedelta, status: str) -> None:
    assert health_status(NOW - silence, NOW) == status


def test_one_that_was_never_heard_of_is_unknown() -> None:
    assert health_status(None, NOW) is HealthStatus.UNKNOWN


def heard(database: str, **silence: float) -> None:
    """A heartbeat of each dataplane, that the broker took so many seconds ago; their own clocks are slow."""
    slow = datetime.now(UTC) - timedelta(days=365)
    project(database, [e.DataplaneHeartbeat(dataplane_id=name, occurred_at=slow) for name in silence])
    with psycopg.connect(database) as connection:
        for name, seconds in silence.items():
            connection.execute(
                "UPDATE jobtrail_g1.heartbeats SET received_at = now() - %s * interval '1 second'"
                " WHERE dataplane_id = %s",
                (seconds, name),
            )


def health(http: Any, **body: Any) -> list[dict[str, Any]]:
    answer = http.client.post("/api/v1/dataplanes/health", json=body)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["dataplanes"]
    return found


def test_each_dataplane_has_its_status_whatever_its_own_clock_says(http: Any, settings: Settings) -> None:
    """Heard 10 s, 90 s and an hour ago; by their own clocks it was a year."""
    assert settings.database_url
    heard(settings.database_url, alive=10, late=90, gone=3600)
    found = health(http)
    assert [(one["dataplane_id"], one["status"]) for one in found] == [
        ("alive", "HEALTHY"),
        ("gone", "UNHEALTHY"),
        ("late", "DEGRADED"),
    ]
    assert [len(one["recent_heartbeats"]) for one in found] == [1, 0, 1]


def test_asked_for_by_id_they_are_alone_and_unknown_ones_are_told(http: Any, settings: Settings) -> None:
    assert settings.database_url
    heard(settings.database_url, alive=10, other=10)
    found = health(http, dataplaneIds=["never", "alive", "alive"])
    assert [(one["dataplane_id"], one["status"]) for one in found] == [
        ("alive", "HEALTHY"),
        ("never", "UNKNOWN"),
    ]
    assert "last_heartbeat_timestamp" not in found[1]
    # Generated clients send an empty list, and null, for what is not set.
    assert len(health(http, dataplaneIds=[], organizationId=None)) == 2


def test_the_answer_has_all_that_airbytes_clients_need(http: Any, settings: Settings) -> None:
    """Its required fields, in snake case; instants in milliseconds; the version that one of them told."""
    assert settings.database_url
    now = datetime.now(UTC)
    organization = "5d1c7d1e-0000-4000-8000-000000000001"
    project(
        settings.database_url,
        [
            e.DataplaneHeartbeat(
                dataplane_id="eu-1", occurred_at=now - timedelta(seconds=9), dataplane_version="1.2"
            ),
            e.DataplaneHeartbeat(dataplane_id="eu-1", occurred_at=now),
        ],
    )
    (found,) = health(http, organizationId=organization)
    millis = [int(moment.timestamp() * 1000) for moment in (now, now - timedelta(seconds=9))]
    assert found == {
        "dataplane_id": "eu-1",
        "dataplane_name": "eu-1",
        "dataplane_group_id": "00000000-0000-0000-0000-000000000000",
        "organization_id": organization,
        "status": "HEALTHY",
        "last_heartbeat_timestamp": found["last_heartbeat_timestamp"],
        "recent_heartbeats": found["recent_heartbeats"],
        "dataplane_version": "1.2",
    }
    assert [one["timestamp"] for one in found["recent_heartbeats"]] == pytest.approx(millis, abs=1)
    assert found["last_heartbeat_timestamp"] == found["recent_heartbeats"][0]["timestamp"]


def test_recent_heartbeats_are_bounded(http: Any, settings: Settings) -> None:
    """A dataplane of a thousand workers has thousands in five minutes."""
    assert settings.database_url
    now = datetime.now(UTC)
    project(
        settings.database_url,
        [
            e.DataplaneHeartbeat(dataplane_id="busy", occurred_at=now - timedelta(seconds=number / 10))
            for number in range(MOST_RECENT + 50)
        ],
    )
    (found,) = health(http)
    shown = [one["timestamp"] for one in found["recent_heartbeats"]]
    assert len(shown) == MOST_RECENT
    assert shown == sorted(shown, reverse=True)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"dataplaneIds": ["x" * 1025]}, "dataplaneIds.0"),
        ({"dataplaneIds": ["a\0b"]}, "dataplaneIds.0"),
        ({"dataplaneIds": ["x"] * 1001}, "dataplaneIds"),
        ({"organizationId": 7}, "organizationId"),
    ],
)
def test_what_does_not_fit_is_named(http: Any, body: dict[str, Any], field: str) -> None:
    answer = http.client.post("/v1/dataplanes/health", json=body)
    assert answer.status_code == 422
    assert answer.json()["validationErrors"][0]["propertyPath"] == field
