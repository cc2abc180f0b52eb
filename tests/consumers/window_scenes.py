"""Logs for windows: jobs of every fate over some hours, and what a window holds, worked out in polars.

The second half shares nothing with `jobtrail.consumers.windows`: it looks at whole frames of events, once.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

import polars as pl

from jobtrail import events as e

MINUTE = timedelta(minutes=1)
SOURCES = ("source-faker:6.2", "source-postgres:3.6", None)
DESTINATIONS = ("destination-duckdb:0.5", "destination-jsonl:1.0")
KEY = ["job_id", "attempt_number", "stream_namespace", "stream_name"]
ABOUT = [
    *("connection_id", "connector_role", "connector", "failure_origin", "failure_type"),
    *("stream_namespace", "stream_name"),
]
COUNTS = [
    *("attempts_succeeded", "attempts_failed", "attempts_cancelled", "attempts_timed", "duration_ms"),
    *("longest_ms", "records_emitted", "bytes_emitted", "records_committed", "bytes_committed"),
    *("streams_stalled", "messages_refused"),
]
#: Counts of which one must be other than zero for a window to be anything.
NOTHING = {*COUNTS} - {"longest_ms"}
WHEN = ["window_type", "window_start", "window_end"]

#: What a window is → its counts that are set.
Found = dict[tuple[Any, ...], dict[str, int]]


def log_of(seed: int, jobs: int, until: datetime) -> list[e.JobEvent]:
    """The events of so many jobs in the six hours before `until`, as they happened."""
    chance = random.Random(seed)  # noqa: S311  # no secret
    events: list[e.JobEvent] = []
    for job_id in range(1, jobs + 1):
        begun = until - chance.uniform(20, 340) * MINUTE
        events += _job(chance, job_id, begun, until)
    return events


def delivered(seed: int, events: Sequence[e.JobEvent]) -> list[e.JobEvent]:
    """The same shuffled, so that most come late, and every tenth of them twice."""
    chance = random.Random(seed)  # noqa: S311
    twice = [*events, *chance.choices(events, k=len(events) // 10)]
    chance.shuffle(twice)
    return twice


def _job(chance: random.Random, job_id: int, at: datetime, until: datetime) -> Iterable[e.JobEvent]:
    connection = f"connection-{job_id % 5}" if chance.random() < 0.9 else None
    if chance.random() < 0.9:
        yield e.JobCreated(
            occurred_at=at, job_id=job_id, config_type="sync", config_id="c", connection_id=connection
        )
    for number in range(chance.choice((1, 1, 2))):
        about: dict[str, Any] = {"job_id": job_id, "attempt_number": number}
        begun = at + chance.uniform(0, 5) * MINUTE
        ended = min(begun + chance.uniform(0.5, 150) * MINUTE, until)
        if chance.random() < 0.9:
            images = chance.choice(SOURCES), chance.choice(DESTINATIONS)
            yield e.AttemptStarted(
                occurred_at=begun, source_image=images[0], destination_image=images[1], **about
            )
        for stream in range(chance.choice((1, 2))):
            yield from _stream(chance, {**about, "stream_name": f"s{stream}"}, begun, ended)
        yield from (
            e.AttemptHeartbeat(occurred_at=begun + share * (ended - begun) / 9, **about) for share in range(9)
        )
        yield from _end(chance, about, ended)
        at = ended
    if chance.random() < 0.2:
        yield e.Cancelled(occurred_at=at - chance.uniform(-5, 10) * MINUTE, job_id=job_id)
    if chance.random() < 0.2:
        yield e.JobFailed(occurred_at=at - chance.uniform(-5, 10) * MINUTE, job_id=job_id)


def _stream(
    chance: random.Random, about: dict[str, Any], begun: datetime, ended: datetime
) -> Iterable[e.JobEvent]:
    about = {**about, "stream_namespace": chance.choice((None, "", "public"))}
    if chance.random() < 0.8:
        yield e.StreamStatus(occurred_at=begun, run_state="RUNNING", **about)
        for state in chance.choice(((), ("COMPLETE",), ("RATE_LIMITED", "RUNNING"), ("INCOMPLETE",))):
            yield e.StreamStatus(
                occurred_at=begun + chance.random() * (ended - begun), run_state=state, **about
            )
    pause = chance.random() * (ended - begun)
    for reporter in chance.sample(("source", "platform", "destination", "other"), k=chance.choice((1, 2, 3))):
        counters: dict[str, Any] = dict.fromkeys(
            ("records_emitted", "bytes_emitted", "records_committed", "bytes_committed"), 0
        )
        knows = {name for name in counters if chance.random() < 0.8}
        for sequence in range(1, chance.choice((2, 8, 20))):
            at = begun + chance.random() * (ended - begun)
            if at > begun + pause and chance.random() < 0.8:
                at = begun + pause
            for name, value in counters.items():
                counters[name] = max(0, value + chance.choice((0, 0, 1, 50, 1000, -3)))
            yield e.StreamStats(
                occurred_at=at,
                reporter=reporter,
                sequence=sequence,
                **{name: value for name, value in counters.items() if name in knows},
                **about,
            )


def _end(chance: random.Random, about: dict[str, Any], at: datetime) -> Iterable[e.JobEvent]:
    match chance.choice(("succeeded", "failed", "failed", "cancelled", "failure only", "both", "none")):
        case "succeeded":
            yield e.AttemptSucceeded(occurred_at=at, **about)
        case "failed":
            yield e.AttemptFailed(occurred_at=at, **about)
            yield from (_failure(chance, about, at) for _ in range(chance.choice((0, 1, 2))))
        case "cancelled":
            yield e.Cancelled(occurred_at=at, **about)
        case "failure only":
            yield _failure(chance, about, at)
            yield e.Failure(occurred_at=at - 3 * MINUTE, stream_name="s0", failure_origin="dbt", **about)
        case "both":
            yield e.AttemptSucceeded(occurred_at=at, **about)
            yield e.AttemptFailed(occurred_at=at - MINUTE, **about)
            yield _failure(chance, about, at)


def _failure(chance: random.Random, about: dict[str, Any], at: datetime) -> e.Failure:
    origin = chance.choice(("source", "destination", "airbyte_platform", None))
    kind = chance.choice(("config_error", "system_error", "transient_error", None))
    when = at - chance.uniform(0, 10) * MINUTE
    return e.Failure(occurred_at=when, failure_origin=origin, failure_type=kind, **about)


def said(results: Iterable[e.WindowComputed]) -> Found:
    """What the newest result of each window and partition says, summed over partitions; zeros left out."""
    newest: dict[str, e.WindowComputed] = {}
    for result in results:
        known = newest.get(result.window_id)
        if known is None or (known.sequence, known.event_id) <= (result.sequence, result.event_id):
            newest[result.window_id] = result
    found: Found = {}
    for result in newest.values():
        counts = {name: value for name in COUNTS if (value := getattr(result, name)) is not None}
        if any(counts.get(name) for name in NOTHING):
            what = tuple(getattr(result, name) for name in ("measure", *WHEN, *ABOUT))
            known_counts = found.setdefault(what, dict.fromkeys(counts, 0))
            for name, value in counts.items():
                add: Callable[..., int] = max if name == "longest_ms" else lambda a, b: a + b
                known_counts[name] = add(known_counts[name], value)
    return found


def by_polars(events: Iterable[e.JobEvent]) -> Found:
    """The same from the events themselves."""
    log = {event.event_id: event for event in events}.values()
    frames = {kind: _frame(kind, [x for x in log if isinstance(x, kind)]) for kind in _KINDS}
    windows = _windows([event.occurred_at for event in log])
    attempts = _attempts(frames)
    ended = attempts.drop_nulls("kind").join_where(
        windows, pl.col("at") >= pl.col("window_start"), pl.col("at") < pl.col("window_end")
    )
    is_a = {
        f"attempts_{kind}": (pl.col("kind") == kind).sum() for kind in ("succeeded", "failed", "cancelled")
    }
    roles = pl.concat(
        ended.with_columns(connector_role=pl.lit(role), connector=pl.col(f"{role}_image"))
        for role in ("source", "destination")
    )
    connector = ["connector_role", "connector"]
    why = ["failure_origin", "failure_type"]
    duration = pl.col("duration_ms")
    parts = {
        "attempts": ended.group_by(*WHEN, "connection_id").agg(
            **is_a,
            attempts_timed=duration.count(),
            duration_ms=duration.sum(),
            longest_ms=duration.max().fill_null(0),
        ),
        "connectors": roles.group_by(*WHEN, *connector).agg(**is_a),
        "failures": roles.filter(kind="failed")
        .group_by(*WHEN, *connector, *why)
        .agg(attempts_failed=pl.len()),
        "streams": _streams(frames, windows, attempts),
    }
    found: Found = {}
    for measure, part in parts.items():
        for row in part.iter_rows(named=True):
            counts = {name: row[name] for name in COUNTS if name in row}
            if any(counts.values()):
                what = tuple(row.get(name) for name in (*WHEN, *ABOUT))
                found[measure, *what] = counts
    return found


_KINDS: tuple[type[e.JobEvent], ...] = tuple(t for t in e.EVENT_TYPES if issubclass(t, e.JobEvent))


def _frame(kind: type[e.JobEvent], events: Sequence[e.JobEvent]) -> pl.DataFrame:
    named = {"occurred_at": pl.Datetime("us", "UTC"), "job_id": pl.Int64, "attempt_number": pl.Int64}
    numbers = {"sequence", *COUNTS}
    schema: dict[str, Any] = {
        name: named.get(name, pl.Int64 if name in numbers else pl.String)
        for name in kind.model_fields
        if name in {*named, *numbers, *ABOUT, "event_id", "run_state", "reporter"} or name.endswith("_image")
    }
    return pl.DataFrame([event.model_dump(include={*schema}) for event in events], schema=schema)


def _windows(instants: Sequence[datetime]) -> pl.DataFrame:
    rows = []
    for kind, size, step in (("tumbling", 5, 5), ("hopping", 60, 15)):
        first = min(instants) - timedelta(hours=2)
        start = first.replace(minute=0, second=0, microsecond=0)
        while start <= max(instants):
            rows.append((kind, start, start + size * MINUTE))
            start += step * MINUTE
    instant = pl.Datetime("us", "UTC")
    return pl.DataFrame(rows, dict(zip(WHEN, (pl.String, instant, instant), strict=True)), orient="row")


def _attempts(frames: dict[type[e.JobEvent], pl.DataFrame]) -> pl.DataFrame:
    """One row for each attempt: connection, images, start, and how and when it ended, as in derive.sql."""
    one = ["job_id", "attempt_number"]
    order = ["occurred_at", "event_id"]

    def first(frame: pl.DataFrame, by: list[str], **columns: str) -> pl.DataFrame:
        kept = [pl.col(old).alias(new) for new, old in columns.items()]
        return frame.sort(order).group_by(by).first().select(*by, *kept)

    said_so = pl.concat(
        frames[kind].drop_nulls("attempt_number").select(*one, *order, kind=pl.lit(name))
        for kind, name in (
            (e.AttemptSucceeded, "succeeded"),
            (e.AttemptFailed, "failed"),
            (e.Cancelled, "cancelled"),
        )
    )
    failures = frames[e.Failure].filter(pl.col("stream_name").is_null())
    heard = pl.concat(
        frame.drop_nulls("attempt_number").select(*one, *order)
        for frame in frames.values()
        if "attempt_number" in frame.columns
    )
    started = frames[e.AttemptStarted]
    own = first(said_so, one, own_at="occurred_at", own_id="event_id", own_kind="kind")
    failed = first(failures, one, f_at="occurred_at", f_id="event_id")
    all_ = (
        heard.group_by(one)
        .agg(first_heard=pl.col("occurred_at").min(), heard=pl.col("occurred_at").max())
        .join(own, on=one, how="left")
        .join(failed, on=one, how="left")
        .join(
            first(failures, one, failure_origin="failure_origin", failure_type="failure_type"),
            on=one,
            how="left",
        )
        .join(first(started, one, begun="occurred_at", begun_id="event_id"), on=one, how="left")
        .join(
            first(
                started.filter(pl.any_horizontal(pl.col("source_image", "destination_image").is_not_null())),
                one,
                source_image="source_image",
                destination_image="destination_image",
            ),
            on=one,
            how="left",
        )
        .join(first(frames[e.JobCreated], ["job_id"], connection_id="connection_id"), on="job_id", how="left")
        .with_columns(
            own_kind=pl.coalesce("own_kind", pl.when(pl.col("f_at").is_not_null()).then(pl.lit("failed"))),
            own_at=pl.coalesce("own_at", "f_at"),
            own_id=pl.coalesce("own_id", "f_id"),
        )
    )
    decisions = pl.concat(
        [
            all_.filter(own_kind="succeeded").select(
                "job_id", occurred_at="own_at", event_id="own_id", kind="own_kind"
            ),
            frames[e.JobFailed].select("job_id", *order, kind=pl.lit("failed")),
            frames[e.Cancelled]
            .filter(pl.col("attempt_number").is_null())
            .select("job_id", *order, kind=pl.lit("cancelled")),
        ]
    )
    decided = first(decisions, ["job_id"], d_at="occurred_at", d_id="event_id", d_kind="kind")
    begun = pl.coalesce("begun", "first_heard")
    begun_id = pl.when(pl.col("begun").is_null()).then("d_id").otherwise("begun_id")
    overruled = (
        pl.col("d_kind").is_in(["failed", "cancelled"])
        & ((begun < pl.col("d_at")) | ((begun == pl.col("d_at")) & (begun_id <= pl.col("d_id"))))
        & (
            pl.col("own_at").is_null()
            | (pl.col("own_at") > pl.col("d_at"))
            | ((pl.col("own_at") == pl.col("d_at")) & (pl.col("own_id") > pl.col("d_id")))
            | ((pl.col("own_at") == pl.col("d_at")) & (pl.col("d_kind") == "cancelled"))
        )
    ).fill_null(value=False)
    return (
        all_.join(decided, on="job_id", how="left")
        .with_columns(
            kind=pl.when(overruled).then("d_kind").otherwise("own_kind"),
            at=pl.when(overruled).then("d_at").otherwise("own_at"),
        )
        .with_columns(
            duration_ms=pl.max_horizontal(
                (pl.col("at") - pl.col("begun")).dt.total_microseconds() // 1000,
                pl.when(pl.col("begun").is_not_null()).then(0),
            )
        )
        .with_columns(
            duration_ms=pl.when(pl.col("begun").is_not_null()).then("duration_ms"),
            failure_origin=pl.when(pl.col("kind") == "failed").then("failure_origin"),
            failure_type=pl.when(pl.col("kind") == "failed").then("failure_type"),
        )
    )


def _streams(
    frames: dict[type[e.JobEvent], pl.DataFrame], windows: pl.DataFrame, attempts: pl.DataFrame
) -> pl.DataFrame:
    """Rises of counters and stalls, by connection and stream."""
    empty = pl.col("stream_namespace").replace("", None)
    stats = frames[e.StreamStats].with_columns(empty).sort("sequence", "event_id")
    statuses = frames[e.StreamStatus].with_columns(empty).sort("occurred_at", "event_id")
    streams = pl.concat([stats.select(KEY), statuses.select(KEY)]).unique()
    newest = stats.group_by(*KEY, "reporter").last()

    def value(before: str, counter: str, order: tuple[str, ...]) -> pl.DataFrame:
        """Of each stream and window: what the counter was just before the instant in a column."""
        ranks = pl.col("reporter").replace_strict({name: n for n, name in enumerate(order)}, default=9)
        believed = (
            newest.drop_nulls(counter)
            .with_columns(ranks.alias("order"))
            .sort("order", pl.col(counter) * -1, "reporter", descending=[False, False, True])
            .group_by(KEY, maintain_order=True)
            .first()
            .select(*KEY, "reporter")
        )
        theirs = stats.join(believed, on=[*KEY, "reporter"], nulls_equal=True)
        return (
            theirs.select(*KEY, "occurred_at", "sequence", "event_id", counter)
            .join_where(windows, pl.col("occurred_at") < pl.col(before))
            .sort("sequence", "event_id")
            .group_by(*KEY, *WHEN)
            .last()
            .select(*KEY, *WHEN, pl.col(counter).fill_null(0).alias(f"{counter}_{before}"))
        )

    grid = streams.join(windows, how="cross")
    orders = {"emitted": ("platform", "source"), "committed": ("platform", "destination")}
    for counter in ("records_emitted", "bytes_emitted", "records_committed", "bytes_committed"):
        for instant in ("window_start", "window_end"):
            values = value(instant, counter, orders[counter.rpartition("_")[2]])
            grid = grid.join(values, on=[*KEY, *WHEN], how="left", nulls_equal=True)
        end, start = (pl.col(f"{counter}_window_{side}").fill_null(0) for side in ("end", "start"))
        grid = grid.with_columns((end - start).alias(counter))
    grid = grid.join(
        attempts.select("job_id", "attempt_number", "connection_id", "heard", "at"),
        on=["job_id", "attempt_number"],
    ).with_columns(
        still=(pl.col("records_emitted") == 0) & (pl.col("records_committed") == 0),
        goes_on=(pl.col("heard") >= pl.col("window_end"))
        & (pl.col("at").is_null() | (pl.col("at") >= pl.col("window_end"))),
    )
    told = _by_stream(statuses, "occurred_at", "run_state")
    counted = _by_stream(stats.sort("occurred_at"), "occurred_at", "reporter")

    def runs(stream: tuple[Any, ...], at: datetime) -> bool:
        if stream in told:
            return [state for when, state in told[stream] if when < at][-1:] == ["RUNNING"]
        return bool(counted[stream][0][0] < at)

    rows = grid.rows(named=True)
    still = {
        (*(row[name] for name in KEY), row["window_start"])
        for row in rows
        if row["window_type"] == "tumbling" and row["still"]
    }

    def is_stalled(row: dict[str, Any]) -> bool:
        stream, start, end = tuple(row[name] for name in KEY), row["window_start"], row["window_end"]
        slots = [start + n * 5 * MINUTE for n in range((end - start) // (5 * MINUTE))]
        return (
            row["goes_on"]
            and all((*stream, slot) in still for slot in slots)
            and all(runs(stream, at) for at in (*slots, end))
        )

    return (
        grid.with_columns(streams_stalled=pl.Series([int(is_stalled(row)) for row in rows], dtype=pl.Int64))
        .group_by(*WHEN, "connection_id", "stream_namespace", "stream_name")
        .agg(
            pl.col("records_emitted", "bytes_emitted", "records_committed", "bytes_committed").sum(),
            pl.col("streams_stalled").sum(),
        )
    )


def _by_stream(frame: pl.DataFrame, *columns: str) -> dict[tuple[Any, ...], list[tuple[Any, ...]]]:
    found: dict[tuple[Any, ...], list[tuple[Any, ...]]] = {}
    for row in frame.select(*KEY, *columns).iter_rows():
        found.setdefault(row[: len(KEY)], []).append(row[len(KEY) :])
    return found
