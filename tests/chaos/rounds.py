"""One round of chaos: producers, projectors, faults, and then the comparison with the golden fold."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import signal
import threading
import time
import traceback
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any, Final

import psycopg
from confluent_kafka import Consumer, Message, TopicPartition
from psycopg import sql
from psycopg.rows import dict_row

from chaos.faults import DELAY, LASTS, SESSION, STOPPED, Fault, Plan
from chaos.golden import Seen, Tables, golden_fold
from chaos.proxy import Proxy
from chaos.servers import Servers
from chaos.under_test import Load, Point, produce, project
from chaos.workload import share, workload
from jobtrail import codec
from jobtrail.consumers.topics import TopicAdmin
from jobtrail.kinds import EPOCH
from jobtrail.projections.migrate import migrate
from jobtrail.settings import Settings

PRODUCERS: Final = 3
PARTITIONS: Final = 4
#: What a round suffers at the least.
LEAST_FAULTS: Final = 3
#: Seconds within which a round must have caught up after its last fault.
PATIENCE: Final = 90.0
#: Seconds between two looks at the processes.
TICK: Final = 0.02
#: Said by a projector whose checkpoint was elsewhere: it was replaced, or Postgres forgot.
REPLACED: Final = "reading the checkpoints anew"
#: Said by a producer whose Kafka client was replaced: what waited was sent again, and may be there twice.
GAVE_UP: Final = "the Kafka client gave up"
#: Table → its key. Compared are all columns that the golden fold gives.
KEYS: Final = {
    "jobs": ("job_id",),
    "attempts": ("job_id", "attempt_number"),
    "job_events": ("job_id", "event_id"),
    "stream_stats": ("job_id", "attempt_number", "stream_namespace", "stream_name", "reporter"),
    "stream_statuses": ("job_id", "attempt_number", "stream_namespace", "stream_name", "run_state"),
    "workspaces": ("workspace_id",),
    "heartbeats": ("dataplane_id", "event_id"),
}
#: Columns that are JSON as text.
JSON: Final = frozenset({"body", "streams", "streams_to_reset", "streams_to_refresh", "labels"})
#: Columns that the golden fold leaves out; see there.
LEFT_OUT: Final = frozenset({"failure_summary", "failure_reason", "digest_low", "digest_high"})


@dataclass
class Found:
    """What a round came to."""

    seed: int
    #: Messages in the topics, and different events among them.
    messages: int = 0
    events: int = 0
    confirmed: int = 0
    #: Rows compared.
    rows: int = 0
    faults: list[str] = field(default_factory=list)
    #: How often a projector found its checkpoint elsewhere, and wrote nothing.
    replaced: int = 0
    #: How often a producer's Kafka client gave up for good, and another one took its place.
    clients_replaced: int = 0
    seconds: float = 0.0
    #: Confirmed events that are not in the topics; rows that are missing.
    lost: list[str] = field(default_factory=list)
    #: Messages that are there more often than they were sent; rows that no event gives.
    doubled: list[str] = field(default_factory=list)
    #: Rows and checkpoints that are not as they must be.
    different: list[str] = field(default_factory=list)
    #: Whatever else must not be: a projector that ended by itself, dead letters, no end.
    problems: list[str] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        """Whether all is as it must be."""
        return not (self.lost or self.doubled or self.different or self.problems)

    def __str__(self) -> str:
        return (
            f"seed {self.seed}: {self.messages:,} messages, {self.confirmed:,} confirmed, {self.rows:,} rows,"
            f" {len(self.faults)} faults, {self.replaced} replaced, {self.seconds:.1f} s:"
            f" {len(self.lost)} lost, {len(self.doubled)} doubled, {len(self.different)} different"
            + "".join(f"; {problem}" for problem in self.problems)
        )


class EndedByItselfError(Exception):
    """A process ended that nobody killed."""


class Slot:
    """A projector or a producer, and who took its place."""

    def __init__(self, start: Callable[[int], ForkServerProcess]) -> None:
        self._start = start
        #: How often it was started.
        self.starts = 0
        self.process: ForkServerProcess | None = None
        self.begin()

    def begin(self) -> None:
        """Starts it."""
        self.process = self._start(self.starts)
        self.process.start()
        self.starts += 1

    def signal(self, number: signal.Signals) -> bool:
        """Whether it was there."""
        if self.process is None or self.process.pid is None or self.process.exitcode is not None:
            return False
        os.kill(self.process.pid, number)
        return True

    def ended(self) -> int | None:
        """Its exit status, told once."""
        if self.process is None or (status := self.process.exitcode) is None:
            return None
        self.process.close()
        self.process = None
        return status

    def kill(self) -> None:
        """At the round's end."""
        if self.signal(signal.SIGKILL) and self.process:
            self.process.join()
        self.ended()


class Round:
    """A round in topics and a database of its own, under `folder`."""

    def __init__(
        self,
        servers: Servers,
        plan: Plan,
        folder: Path,
        *,
        events: int,
        seconds: float,
        batch_size: int = 400,
        breakage: str | None = None,
    ) -> None:
        self.servers = servers
        self.plan = plan
        self.folder = folder
        self.found = Found(plan.seed)
        self._breakage = breakage
        self._events, self._seconds = events, seconds
        mark = f"{plan.seed}_{uuid.uuid4().hex[:8]}"
        self._database = f"chaos_{mark}"
        self.environment = {
            "JOBTRAIL_HOME": str(folder / "home"),
            "JOBTRAIL_KAFKA_BOOTSTRAP_SERVERS": servers.kafka_proxied,
            "JOBTRAIL_DATABASE_URL": servers.database(self._database, proxied=True),
            "JOBTRAIL_EVENTS_TOPIC": f"events-{mark}",
            "JOBTRAIL_REGISTRY_TOPIC": f"registry-{mark}",
            "JOBTRAIL_DEAD_LETTERS_TOPIC": f"dead-letters-{mark}",
            "JOBTRAIL_ANALYTICS_TOPIC": f"analytics-{mark}",
            "JOBTRAIL_PROJECTOR_GROUP": f"projectors-{mark}",
            "JOBTRAIL_PARTITIONS": str(PARTITIONS),
            "JOBTRAIL_BATCH_SIZE": str(batch_size),
            "JOBTRAIL_KAFKA_SESSION_TIMEOUT_MS": str(int(SESSION * 1000)),
            "JOBTRAIL_KAFKA_RECONNECT_BACKOFF_MAX_MS": "200",
        }
        self.settings = Settings.from_env(
            self.environment
            | {
                "JOBTRAIL_KAFKA_BOOTSTRAP_SERVERS": servers.kafka,
                "JOBTRAIL_DATABASE_URL": servers.database(self._database, proxied=False),
            }
        )
        self._loads = [
            Load(plan.seed, events, datetime.now(UTC), each, PRODUCERS, seconds) for each in range(PRODUCERS)
        ]
        self.projectors: list[Slot] = []
        self.producers: list[Slot] = []
        #: When, and what is to be done then.
        self._later: list[tuple[float, Callable[[], object]]] = []
        self._restarts: list[threading.Thread] = []
        self._known_stops: set[Path] = set()
        self._context = context()

    # What it is made of.

    def prepare(self) -> None:
        """Topics and an empty database, as Jobtrail makes them."""
        (self.folder / "home").mkdir(parents=True, exist_ok=True)
        with psycopg.connect(self.servers.postgres, autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(self._database)))
        migrate(self.database_url)
        with psycopg.connect(self.servers.postgres, autocommit=True) as connection:
            connection.execute("CHECKPOINT")  # a crash loses what a projector wrote, not the tables
        TopicAdmin(self.settings).ensure()

    @property
    def database_url(self) -> str:
        """Its own address, past the proxy."""
        assert self.settings.database_url is not None
        return self.settings.database_url

    def start_projector(self, point: Point | None) -> Slot:
        """One more; when it is started again, it does nothing to itself."""
        number = len(self.projectors)

        def start(times: int) -> ForkServerProcess:
            here = point if times == 0 else None
            args = (self.environment, self.log(number), self._told(number, times), here, self._breakage)
            return self._context.Process(target=project, args=args, daemon=True)

        self.projectors.append(Slot(start))
        return self.projectors[-1]

    def start_producer(self) -> Slot:
        """One more."""
        load = self._loads[len(self.producers)]
        log, ledger = self._producer_log(load.producer), self._ledger(load.producer)

        def start(_times: int) -> ForkServerProcess:
            args = (self.environment, log, ledger, load)
            return self._context.Process(target=produce, args=args, daemon=True)

        self.producers.append(Slot(start))
        return self.producers[-1]

    def log(self, projector: int) -> Path:
        """What a projector said."""
        return self.folder / f"projector-{projector}.log"

    def _told(self, projector: int, times: int) -> Path:
        return self.folder / f"projector-{projector}.{times}.point"

    def _producer_log(self, producer: int) -> Path:
        return self.folder / f"producer-{producer}.log"

    def _ledger(self, producer: int) -> Path:
        return self.folder / f"ledger-{producer}"

    # How it goes.

    def run(self) -> Found:
        """All of it."""
        begun = time.monotonic()
        try:
            self.prepare()
            for point in self.plan.points:
                self.start_projector(point)
            for _ in range(PRODUCERS):
                self.start_producer()
            self._until_the_faults_are_over()
            self.until_caught_up()
        except Exception:  # noqa: BLE001  # told with the seed; the next round runs
            self.found.problems.append(traceback.format_exc())
        finally:
            self._calm()
            self.end_processes()
        self.judge()
        self.found.seconds = time.monotonic() - begun
        return self.found

    def _until_the_faults_are_over(self) -> None:
        begun = time.monotonic()
        faults = list(self.plan.faults)
        while (
            faults
            or self._later
            or any(thread.is_alive() for thread in self._restarts)
            or any(slot.process for slot in self.producers)
        ):
            while faults and time.monotonic() - begun >= faults[0].at:
                self._do(faults.pop(0))
            self.look_after()
            if time.monotonic() - begun > PATIENCE:
                self.found.problems.append(f"producers and faults do not end within {PATIENCE} s")
                return
            time.sleep(TICK)
        while len(self.found.faults) < LEAST_FAULTS:  # some that were planned met nobody
            self._do(Fault(0, "kill -9 a projector", 0))
            self.look_after()
            time.sleep(TICK)

    def look_after(self) -> None:
        """Does what is due; starts again what was killed; notes what ended by itself."""
        now = time.monotonic()
        due = [what for at, what in self._later if at <= now]
        self._later = [each for each in self._later if each[0] > now]
        for what in due:
            what()
        self._look_after_projectors()
        self._look_after_producers()

    def _look_after_projectors(self) -> None:
        for number, slot in enumerate(self.projectors):
            told = self._told(number, slot.starts - 1)
            point = self.plan.points[number] if number < len(self.plan.points) else None
            if point and told not in self._known_stops and told.exists():
                self._known_stops.add(told)
                self.found.faults.append(str(point))
                if point.signal == signal.SIGSTOP:
                    self._after(STOPPED, lambda slot=slot: slot.signal(signal.SIGCONT))  # type: ignore[misc]
            if (status := slot.ended()) is not None:
                if status != -signal.SIGKILL:
                    raise EndedByItselfError(f"projector {number}, status {status}; see {self.log(number)}")
                slot.begin()

    def _look_after_producers(self) -> None:
        for number, slot in enumerate(self.producers):
            if (status := slot.ended()) is not None and status != 0:
                if status != -signal.SIGKILL:
                    raise EndedByItselfError(f"producer {number}, status {status}; see {self.folder}")
                if self.plan.resumed[number]:
                    slot.begin()

    def _after(self, seconds: float, what: Callable[[], object]) -> None:
        self._later.append((time.monotonic() + seconds, what))

    def _do(self, fault: Fault) -> None:
        """Lets it happen, and notes it if there was anybody to suffer it."""
        what, _, whose = fault.name.rpartition(" ")
        proxy = self.servers.kafka_proxy if "Kafka" in fault.name else self.servers.postgres_proxy
        match fault.name:
            case "kill -9 a projector" | "kill -9 a producer":
                slots = self.projectors if whose == "projector" else self.producers
                done = self._one_of(slots, fault.victim, signal.SIGKILL) is not None
            case "stop a projector beyond its session":
                done = self._stop(fault.victim)
            case "cut Postgres' connections" | "cut Kafka's connections":
                done = proxy.cut() > 0
            case "terminate Postgres' backends":
                done = self._terminate() > 0
            case "delay Postgres" | "delay Kafka" | "refuse Postgres" | "refuse Kafka":
                done = self._hinder(proxy, refuse=what == "refuse")
            case "crash Postgres" | "restart Kafka" | "kill -9 Kafka":
                done = self._restart(fault.name)
            case _:
                raise NotImplementedError(fault.name)
        if done:
            self.found.faults.append(fault.name)

    def _stop(self, victim: int) -> bool:
        slot = self._one_of(self.projectors, victim, signal.SIGSTOP)
        if slot is not None:
            self._after(STOPPED, lambda: slot.signal(signal.SIGCONT))
        return slot is not None

    def _hinder(self, proxy: Proxy, *, refuse: bool) -> bool:
        if refuse:
            proxy.refusing = True
            proxy.cut()
            self._after(LASTS, lambda: setattr(proxy, "refusing", False))
        else:
            proxy.delay = DELAY
            self._after(LASTS, lambda: setattr(proxy, "delay", 0.0))
        return True

    @staticmethod
    def _one_of(slots: Sequence[Slot], victim: int, number: signal.Signals) -> Slot | None:
        """The first that is there, from the victim on."""
        for at in range(len(slots)):
            slot = slots[(victim + at) % len(slots)]
            if slot.signal(number):
                return slot
        return None

    def _terminate(self) -> int:
        end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s"
        try:
            with psycopg.connect(self.servers.postgres, autocommit=True, connect_timeout=2) as connection:
                return connection.execute(end, (self._database,)).rowcount
        except psycopg.OperationalError:  # it is being crashed just now
            return 0

    def _restart(self, name: str) -> bool:
        """In a thread: other faults come meanwhile. One at a time."""
        if any(thread.is_alive() for thread in self._restarts):
            return False

        def restart() -> None:
            try:
                if name == "crash Postgres":
                    self.servers.crash_postgres()
                else:
                    self.servers.restart_kafka(kill="kill" in name)
            except Exception:  # noqa: BLE001  # of another thread: told with the round
                self.found.problems.append(traceback.format_exc())

        thread = threading.Thread(target=restart, name=name, daemon=True)
        thread.start()
        self._restarts.append(thread)
        return True

    def until_caught_up(self, patience: float = PATIENCE) -> None:
        """Waits until the checkpoints are at the ends of the topics; a problem if they do not get there."""
        deadline = time.monotonic() + patience
        ends = self.ends()
        while (checkpoints := self.checkpoints()) != ends:
            self.look_after()
            if time.monotonic() > deadline:
                self.found.problems.append(f"not caught up within {patience} s: {checkpoints} of {ends}")
                return
            time.sleep(TICK)

    def ends(self) -> dict[tuple[str, int], int]:
        """(topic, partition) → offset after its last message, of those that have any."""
        with self._consumer() as consumer:
            places = [(self.settings.events_topic, part) for part in range(PARTITIONS)]
            places.append((self.settings.registry_topic, 0))
            ends = {
                place: consumer.get_watermark_offsets(TopicPartition(*place), timeout=30)[1]
                for place in places
            }
        return {place: end for place, end in ends.items() if end}

    def checkpoints(self) -> dict[tuple[str, int], int]:
        """(topic, partition) → next offset to fold."""
        with psycopg.connect(self.database_url) as connection:
            rows = connection.execute(
                "SELECT topic, log_partition, next_offset FROM jobtrail.checkpoints WHERE next_offset > 0"
            )
            return {(topic, partition): end for topic, partition, end in rows}

    def _calm(self) -> None:
        """No fault outlives its round."""
        for thread in self._restarts:
            thread.join()
        for proxy in (self.servers.kafka_proxy, self.servers.postgres_proxy):
            proxy.delay, proxy.refusing = 0.0, False

    def end_processes(self) -> None:
        """Kills all, and counts what projectors said."""
        for slot in [*self.projectors, *self.producers]:
            slot.kill()
        for log in self.folder.glob("projector-*.log"):
            self.found.replaced += log.read_text().count(REPLACED)

    # What is found.

    def judge(self) -> None:
        """Holds the topics against the ledgers, and the read models against the golden fold of the topics."""
        found = self.found
        try:
            log = self.read_log()
            copies = Counter(seen.event.event_id for seen in log)
            found.messages, found.events = len(log), len(copies)
            ledgers = [ledger.read_text().split() for ledger in sorted(self.folder.glob("ledger-*"))]
            confirmed = {event_id for ledger in ledgers for event_id in ledger}
            found.confirmed = len(confirmed)
            found.lost += [f"confirmed event {event_id}" for event_id in sorted(confirmed - copies.keys())]
            sent = self._sent()
            found.doubled += [
                f"event {event_id}: {times} messages, sent {sent[event_id]} times at most"
                for event_id, times in copies.items()
                if times > sent[event_id]
            ]
            self._compare(golden_fold(log), self.read_tables())
            if (ends := self.ends()) != (checkpoints := self.checkpoints()):
                found.different.append(f"checkpoints {checkpoints}, ends of the topics {ends}")
            with psycopg.connect(self.database_url) as connection:
                letters = connection.execute("SELECT reason, detail FROM jobtrail.dead_letters").fetchall()
            found.problems += [f"dead letter: {letter}" for letter in letters]
        except Exception:  # noqa: BLE001  # told with the seed
            found.problems.append(traceback.format_exc())
        if not found.holds:
            told = {name: getattr(found, name) for name in ("lost", "doubled", "different", "problems")}
            (self.folder / "found.json").write_text(json.dumps(told, indent=1, ensure_ascii=False))
            (self.folder / "plan.txt").write_text(f"{self.plan}\ndone: {found.faults}\n")

    def _sent(self) -> Counter[str]:
        """Event id → how often it can have been sent: whenever its producer or its client began."""
        sent: Counter[str] = Counter()
        for load, slot in zip(self._loads, self.producers, strict=True):
            clients = self._producer_log(load.producer).read_text().count(GAVE_UP)
            self.found.clients_replaced += clients
            for event in share(
                workload(load.seed, load.count, load.begin), load.seed, load.producer, PRODUCERS
            ):
                sent[event.event_id] += slot.starts + clients
        return sent

    def read_log(self) -> list[Seen]:
        """Both topics, whole."""
        left = self.ends()
        found = []
        deadline = time.monotonic() + PATIENCE
        with self._consumer() as consumer:
            consumer.assign([TopicPartition(*place, 0) for place in left])
            while left:
                assert time.monotonic() < deadline, f"the log is not read within {PATIENCE} s"
                for message in consumer.consume(10_000, 0.05):
                    assert message.error() is None, message.error()
                    found.append(seen(message))
                    place = str(message.topic()), int(message.partition() or 0)
                    if (message.offset() or 0) + 1 >= left.get(place, 0):
                        left.pop(place, None)
        return found

    def read_tables(self) -> Tables:
        """The read models, as the golden fold shows them."""
        tables: Tables = {}
        with psycopg.connect(self.database_url, row_factory=dict_row) as connection:
            for name, key in KEYS.items():
                select = sql.SQL("SELECT * FROM jobtrail_g1.{}").format(sql.Identifier(name))
                rows = [read_row(row) for row in connection.execute(select)]
                tables[name] = {tuple(row[column] for column in key): row for row in rows}
        return tables

    def _compare(self, expected: Tables, actual: Tables) -> None:
        for table, rows in expected.items():
            there = actual[table]
            self.found.rows += len(rows)
            self.found.lost += [f"{table} {key}" for key in rows.keys() - there.keys()]
            self.found.doubled += [f"{table} {key}" for key in there.keys() - rows.keys()]
            for key in rows.keys() & there.keys():
                if rows[key] != there[key]:
                    names = [name for name in there[key] if rows[key].get(name) != there[key][name]]
                    shown = [f"{name} {there[key][name]!r}, not {rows[key].get(name)!r}" for name in names]
                    self.found.different.append(f"{table} {key}: {'; '.join(shown)}")

    @contextlib.contextmanager
    def _consumer(self) -> Iterator[Consumer]:
        """Reads past the proxy, in no group."""
        consumer = Consumer(
            {
                "bootstrap.servers": self.servers.kafka,
                "group.id": "chaos-reader",
                "enable.auto.commit": False,
                "log_level": 0,
            }
        )
        try:
            yield consumer
        finally:
            consumer.close()

    def clean_up(self) -> None:
        """Drops its database and topics, so that the next round is as quick."""
        with psycopg.connect(self.servers.postgres, autocommit=True) as connection:
            drop = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)")
            connection.execute(drop.format(sql.Identifier(self._database)))
        settings = self.settings
        topics = [settings.events_topic, settings.registry_topic, settings.dead_letters_topic]
        TopicAdmin(settings)._admin.delete_topics(topics)


def context() -> ForkServerContext:
    """Processes are forked from one that has imported what they need, and nothing else of this one's."""
    os.environ["PYTHONPATH"] = os.pathsep.join(
        dict.fromkeys(
            [str(Path(__file__).parent.parent), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
        )
    ).rstrip(os.pathsep)
    forked = multiprocessing.get_context("forkserver")
    forked.set_forkserver_preload(["chaos.under_test"])
    return forked


def seen(message: Message) -> Seen:
    """A message, decoded."""
    return Seen(
        codec.decode(message.value()),
        int(message.partition() or 0),
        int(message.offset() or 0),
        EPOCH + timedelta(milliseconds=message.timestamp()[1]),
    )


def read_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of a table as the golden fold gives it."""
    shown = {
        name: str(value)
        if isinstance(value, uuid.UUID)
        else json.loads(value)
        if name in JSON and value is not None
        else value
        for name, value in row.items()
        if name not in LEFT_OUT
    }
    if "digest_low" in row:
        shown["one_body"] = row["digest_low"] == row["digest_high"]
    return shown
