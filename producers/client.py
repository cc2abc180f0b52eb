"""What every Kafka client of the producers shares."""

from __future__ import annotations

import logging
import os
import socket
from typing import Final

from jobtrail.producers.logs import visible
from jobtrail.producers.safe_text import safe_name
from jobtrail.producers.scrub import known
from jobtrail.settings import Settings

log = logging.getLogger("jobtrail")


class Plain(logging.Filter):
    """What is logged is one line of text, without secrets and with its control characters visible."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Rewrites the record; always lets it pass."""
        record.msg, record.args = visible(known.text(record.getMessage())), None
        if record.exc_info:
            trace = known.text(logging.Formatter().formatException(record.exc_info))
            record.exc_text = "\n".join(map(visible, trace.splitlines()))
        return True


PLAIN: Final = Plain()
log.addFilter(PLAIN)


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
