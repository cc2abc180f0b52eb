"""What every Kafka client of the producers shares."""

from __future__ import annotations

import logging
import os
import socket

from jobtrail.producers.safe_text import safe_name
from jobtrail.settings import Settings

log = logging.getLogger("jobtrail")


def client_config(settings: Settings, address: str) -> dict[str, str | int]:
    """Settings of librdkafka that every client has: where Kafka is, and what JOBTRAIL_KAFKA_* says.

    The client's own log stays silent; its errors come through callbacks and are said in our words.
    """
    return {
        "client.id": "jobtrail",
        # A worker is heard again soon after an outage, well within the limit of the watchdog.
        "reconnect.backoff.max.ms": 1000,
        **settings.kafka_client,
        "bootstrap.servers": address,
        "log_level": 2,
    }


def worker_name(settings: Settings) -> str:
    """JOBTRAIL_WORKER, else the host's name and the process id."""
    return safe_name(settings.worker or f"{socket.gethostname()}:{os.getpid()}")
