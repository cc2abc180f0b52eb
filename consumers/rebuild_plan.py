"""What a rebuild reads: every partition from its very beginning, from the archive, the topic, or both."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

from jobtrail.consumers.archive import Archive
from jobtrail.consumers.ends import Log, Topic
from jobtrail.errors import LogError, NotFoundError
from jobtrail.projections.shadow import Part
from jobtrail.settings import Settings

Origin = Literal["topic", "archive"]
#: (topic id, partition) → next offset.
Checkpoints = Mapping[tuple[str, int], int]


def plan(settings: Settings, archive: Archive | None, live: Checkpoints, origin: Origin) -> list[Part]:
    """Every part, in no order. `origin` says what is read where both have it.

    The live generation's checkpoints are the ends, so that both can be compared; where it has none, the log's
    end is. Raises LogError naming what neither has, NotFoundError where there is no log at all,
    ServerAwayError.
    """
    log = Log(settings)
    parts: list[Part] = []
    for topic in settings.projected_topics:
        try:
            current = log.topic(topic, begins=True)
        except NotFoundError:
            if archive is None or not archive.topic_ids(topic):
                if topic == settings.analytics_topic:
                    continue  # an older release did not make it, and an archive of that time has none
                raise
            current = Topic("", {})
        if archive is not None:
            parts += _gone(topic, current.topic_id, archive)
        parts += _current(topic, current, archive, live, origin)
    return parts


def _gone(topic: str, current: str, archive: Archive) -> Iterator[Part]:
    """Parts of topics that had the same name and are no more."""
    for topic_id in archive.topic_ids(topic):
        if topic_id != current:
            for partition, (first, end) in archive.extent(topic_id).items():
                if first > 0:
                    raise _gap(topic, partition, 0, first, f"the archive of its id {topic_id} begins there")
                yield Part(topic, topic_id, partition, end, end)


def _current(
    topic: str, current: Topic, archive: Archive | None, live: Checkpoints, origin: Origin
) -> Iterator[Part]:
    archived = archive.extent(current.topic_id) if archive is not None and current.topic_id else {}
    for partition, log_end in current.ends.items():
        begin = current.begins[partition]
        end = live.get((current.topic_id, partition), log_end)
        first, after = archived.get(partition, (0, 0))
        if begin == 0 and origin == "topic":
            yield Part(topic, current.topic_id, partition, 0, end)
            continue
        if begin > 0 and (first > 0 or after < begin):
            until = first if first > 0 else begin
            since = 0 if first > 0 else after
            has = "the archive has not got them either" if archive is not None else "no archive is set"
            raise _gap(topic, partition, since, until, f"the topic begins at {begin}, and {has}")
        yield Part(topic, current.topic_id, partition, min(after, end) if first == 0 else 0, end)


def _gap(topic: str, partition: int, since: int, until: int, why: str) -> LogError:
    return LogError(
        f"topic {topic}, partition {partition}: offsets {since} to {until - 1} are needed and are missing "
        f"({why}); "
        "rebuild with an archive that has them: --archive ADDRESS or JOBTRAIL_ARCHIVE"
    )
