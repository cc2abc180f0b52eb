"""What operators watch, in the text format of Prometheus.

Taken anew for each answer from one look at Kafka and Postgres, so that every server tells the same, whichever
process folds.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from jobtrail.api.models import Readiness
from jobtrail.api.readiness import Look
from jobtrail.projections.letters import Open

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST


def rendered(look: Look) -> str:
    """The answer to a scrape. What is not known is left out, but for its name."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Told(look))
    return generate_latest(registry).decode()


class _Told(Collector):
    def __init__(self, look: Look) -> None:
        self._look = look

    def collect(self) -> Iterator[Metric]:
        readiness = self._look.readiness
        ready = GaugeMetricFamily("jobtrail_ready", "1 where GET /ready answers 200, else 0.")
        ready.add_metric([], float(readiness.ready))
        yield ready
        behind = GaugeMetricFamily(
            "jobtrail_events_behind", "Messages of the event log that are not folded yet."
        )
        if readiness.behind is not None:
            behind.add_metric([], readiness.behind)
        yield behind
        lag = GaugeMetricFamily(
            "jobtrail_projector_lag",
            "Messages of a partition that are not folded yet.",
            labels=["topic", "partition"],
        )
        for (topic, partition), late in self._look.lag.items():
            lag.add_metric([topic, str(partition)], late)
        yield lag
        letters = GaugeMetricFamily(
            "jobtrail_dead_letters_open",
            "Messages that could not become events, and were neither retried nor dropped.",
            labels=["reason"],
        )
        for one in self._look.open_letters or ():
            letters.add_metric([one.reason], one.letters)
        yield letters


EXAMPLE: Final = rendered(
    Look(
        Readiness(ready=True, behind=2),
        {("jobtrail.events", 0): 2, ("jobtrail.registry", 0): 0},
        [Open("unknown_schema", 3, 1)],
    )
)
