"""`jobtrail doctor`: what is configured, what answers, and what to do about the rest."""

from __future__ import annotations

import shutil
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from typing import Final, Literal

from jobtrail.api.database import reading
from jobtrail.api.queries import query
from jobtrail.api.readiness import READY_WITHIN, behind
from jobtrail.api.reads import Database
from jobtrail.cli import claim
from jobtrail.cli.parsing import Parser
from jobtrail.cli.terminal import as_json, line, size, style_of
from jobtrail.cli.up import fallback_notes
from jobtrail.consumers.ends import Log, Topic
from jobtrail.consumers.topics import TopicAdmin
from jobtrail.consumers.waiting import DATABASE_SETTING, database_address, shown_address
from jobtrail.errors import EmbeddedError, JobtrailError, NotFoundError, ServerAwayError
from jobtrail.projections.letters import open_letters
from jobtrail.running import KAFKA_SETTING, kafka_address
from jobtrail.settings import Settings

#: Free bytes of the home below which we warn, and below which Kafka is about to stop.
LITTLE_SPACE: Final = 2_000_000_000
NO_SPACE: Final = 200_000_000


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the answer."""

    level: Literal["ok", "warn", "fail"]
    what: str
    found: str
    #: What to do; empty where all is well.
    remedy: str = ""
    #: What this says of the exit status.
    status: int = 0


def configure(parser: Parser, _name: str) -> None:
    """Declares the options."""
    parser.description = (
        "Checks the settings, Kafka, Postgres, topics, migrations, the projector and the disk."
    )
    parser.add_argument("--json", action="store_true", help="a JSON list of the checks")
    parser.example("jobtrail doctor")
    parser.set_defaults(run=_doctor)


def _doctor(options: Namespace) -> int:
    settings = Settings.from_env()
    checks = []
    for check in examine(settings):
        checks.append(check)
        if not options.json:
            remedy = f"; {check.remedy}" if check.remedy else ""
            line(f"{check.level:<4} {check.what}: {check.found}{remedy}", style=style_of(check.level))
    if options.json:
        as_json([asdict(check) for check in checks])
    return max(check.status for check in checks)


def examine(settings: Settings) -> Iterator[Check]:
    """All checks, in an order in which the first failure explains the later ones."""
    yield Check("ok", "settings", f"JOBTRAIL_HOME is {settings.home}")
    for note in fallback_notes(settings):
        yield Check("warn", "settings", note)
    yield disk(settings.home)
    service = claim.running(settings.home)
    yield (
        Check("ok", "service", f"`jobtrail up` answers at {service.url or '(starting)'}")
        if service
        else Check("ok", "service", f"no `jobtrail up` runs under {settings.home}")
    )
    topic = None
    for check in kafka(settings):
        yield check
        if check.what == "topics" and check.level == "ok":
            topic = Log(settings).topic(settings.events_topic)
    yield from postgres(settings, topic)


def disk(home: Path) -> Check:
    """Free space where the home is, or will be."""
    there = next(path for path in (home.absolute(), *home.absolute().parents) if path.exists())
    free = shutil.disk_usage(there).free
    said = f"{size(free)} free under {home}"
    if free < NO_SPACE:
        return Check("fail", "disk", said, "make room before Kafka and Postgres stop", 1)
    if free < LITTLE_SPACE:
        return Check("warn", "disk", said, "make room soon")
    return Check("ok", "disk", said)


def _failed(what: str, error: JobtrailError, remedy: str = "") -> Check:
    away = isinstance(error, ServerAwayError) or error.exit_status == ServerAwayError.exit_status
    return Check("fail", what, str(error), remedy, 3 if away else 1)


def kafka(settings: Settings) -> Iterator[Check]:
    """Whether Kafka answers, and whether its topics are as the event log needs them."""
    try:
        address = kafka_address(settings)
    except EmbeddedError as error:
        yield _failed("Kafka", error)
        return
    admin = TopicAdmin(settings)
    names = [*settings.projected_topics, settings.dead_letters_topic, settings.alerts_topic]
    origin = f"set by {KAFKA_SETTING}" if settings.kafka_bootstrap_servers else "embedded"
    try:
        admin.ids(names)
    except NotFoundError as error:
        yield Check("ok", "Kafka", f"answers at {address} ({origin})")
        yield Check("fail", "topics", str(error), "`jobtrail up` or `jobtrail projector` makes it", 1)
        return
    except JobtrailError as error:
        yield _failed("Kafka", error)
        return
    yield Check("ok", "Kafka", f"answers at {address} ({origin})")
    try:
        admin.ensure()  # all exist, so that it only checks
        ends = Log(settings).topic(settings.events_topic).ends
    except JobtrailError as error:
        yield _failed("topics", error)
        return
    yield Check("ok", "topics", f"{', '.join(names)}; {len(ends)} partitions, {sum(ends.values()):,} events")


def postgres(settings: Settings, topic: Topic | None) -> Iterator[Check]:
    """Whether Postgres answers, has all tables, and holds what the log says."""
    try:
        url = database_address(settings)
        with reading(settings) as database:
            version = database.info.server_version // 10_000
            origin = f"set by {DATABASE_SETTING}" if settings.database_url else "embedded"
            yield Check("ok", "Postgres", f"version {version} answers at {shown_address(url)} ({origin})")
            check = migrations(database)
            yield check
            if check.level == "fail":
                return
            yield from projection(database, topic)
    except JobtrailError as error:
        yield _failed("Postgres", error)


def migrations(database: Database) -> Check:
    """Whether every file of migrations/ was applied."""
    applied = set()
    with database.transaction():
        tables = database.execute(query("migration_tables")).fetchall()
    for row in tables:
        with database.transaction():
            names = database.execute(query("applied_migrations").replace(b"{schema}", row["schema"].encode()))
            applied |= {name["migration_id"] for name in names}
    wanted = {
        Path(file.name).stem
        for folder in (files("jobtrail") / "migrations").iterdir()
        if folder.is_dir()
        for file in folder.iterdir()
        if file.name.endswith(".sql") and not file.name.endswith(".rollback.sql")
    }
    if missing := sorted(wanted - applied):
        return Check("fail", "migrations", f"{', '.join(missing)} not applied", "`jobtrail migrate`", 1)
    if newer := sorted(applied - wanted):
        return Check("warn", "migrations", f"the database has {', '.join(newer)}", "update this program")
    return Check("ok", "migrations", f"all {len(wanted)} applied")


def projection(database: Database, topic: Topic | None) -> Iterator[Check]:
    """How far the read models are, and what could not be read."""
    if topic is not None:
        late = behind(database, topic)
        said = f"{late:,} events behind the log"
        if late > READY_WITHIN:
            yield Check("fail", "projector", said, "is `jobtrail up` or `jobtrail projector` running?", 1)
        elif late:
            yield Check("warn", "projector", said, "look again; should it stay, no projector runs")
        else:
            yield Check("ok", "projector", said)
    if found := open_letters(database):
        reasons = ", ".join(f"{one.letters:,} {one.reason}" for one in found)
        new = sum(one.new for one in found)
        said = f"messages that could not become events: {reasons}; {new:,} of them new in the last hour"
        yield Check("warn", "dead letters", said, "`jobtrail dead-letters list` shows them")
    else:
        yield Check("ok", "dead letters", "none is open")
