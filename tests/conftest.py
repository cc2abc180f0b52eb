"""One Kafka and one Postgres for a whole test run, and what a test takes from them.

In containers where a Docker engine answers, else the embedded servers under a home of the run; workers of
pytest-xdist share them. Where neither can be had, tests that need them are skipped with the reason; in CI
they fail.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import NoReturn

import psycopg
import pytest
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from docker_servers import engine_answers, remove, shared
from psycopg import sql

from jobtrail import embedded
from jobtrail.errors import EmbeddedError
from jobtrail.settings import FALLBACKS, Settings, default_cache

#: A locale that does not sort by code points: what is true of the read models must be true there as well.
#: Where the server has none (no sources of locales on the machine), databases get its built-in C.UTF-8:
#: what this locale would find is also held by the test that every text column is COLLATE "C".
LOCALE = "en_US.UTF-8"

#: Where downloads are kept; read before `pytest_configure` clears the environment.
CACHE = Path(os.environ.get("JOBTRAIL_CACHE") or default_cache())

_run_folder = pytest.StashKey[Path]()


def pytest_configure(config: pytest.Config) -> None:
    # The settings of whoever runs the tests are not the tests' settings.
    for name in [*os.environ]:
        if name.startswith("JOBTRAIL_") or name in FALLBACKS.values():
            del os.environ[name]
    worker: dict[str, str] | None = getattr(config, "workerinput", None)
    if worker is None:
        folder = Path(tempfile.mkdtemp(prefix="jobtrail-tests-"))
        folder.chmod(0o755)  # as root, another account runs the servers
    else:
        folder = Path(worker["jobtrail_run_folder"])
    config.stash[_run_folder] = folder


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: object) -> None:
    """Tells a worker of pytest-xdist the folder of the run."""
    node.workerinput["jobtrail_run_folder"] = str(node.config.stash[_run_folder])  # type: ignore[attr-defined]


def pytest_unconfigure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput") or _run_folder not in config.stash:
        return
    folder = config.stash[_run_folder]
    remove(folder)
    embedded.stop(folder / "home", on_progress=lambda _: None)
    shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True)
class Servers:
    """Addresses of the run's servers."""

    kafka: str
    postgres: str


@pytest.fixture(scope="session")
def servers(pytestconfig: pytest.Config) -> Iterator[Servers]:
    folder = pytestconfig.stash[_run_folder]
    if engine_answers():
        found = shared(folder)
        yield Servers(found["kafka"], found["postgres"])
        return
    _provide_locale(folder / "locales")
    home = folder / "home"
    running = embedded.servers(home, durable=False, cache=CACHE, on_progress=lambda _: None)
    try:
        mine = running.__enter__()
    except EmbeddedError as error:
        refuse(f"no Docker engine answers, and the embedded servers do not start: {error}")
    yield Servers(mine.kafka_bootstrap_servers, mine.database_url)
    running.__exit__(None, None, None)


def refuse(reason: str) -> NoReturn:
    """Ends a test that cannot run here: skipped with the reason; in CI failed."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def _provide_locale(folder: Path) -> None:
    """Makes LOCALE for the servers that this run starts, where the machine has its sources only."""
    tools = shutil.which("locale"), shutil.which("localedef")
    if None in tools or folder.exists():
        return
    listed = subprocess.run(["locale", "-a"], capture_output=True, text=True, check=False).stdout
    if "en_us.utf8" in listed.lower().replace("utf-8", "utf8"):
        return
    folder.mkdir(exist_ok=True)
    made = subprocess.run(
        ["localedef", "-i", "en_US", "-f", "UTF-8", str(folder / LOCALE)], capture_output=True, check=False
    )
    if (folder / LOCALE).exists() and made.returncode <= 1:  # 1: made, with warnings
        os.environ["LOCPATH"] = str(folder)


@pytest.fixture(scope="session")
def kafka(servers: Servers) -> str:
    """Bootstrap servers of the run's broker."""
    return servers.kafka


@pytest.fixture(scope="session")
def kafka_admin(kafka: str) -> AdminClient:
    return AdminClient({"bootstrap.servers": kafka, "log_level": 0})


@pytest.fixture(scope="session")
def postgres_admin_url(servers: Servers) -> str:
    """A superuser's address of the run's Postgres."""
    return servers.postgres


@dataclass(frozen=True)
class Topics:
    """Names of topics that are one test's own."""

    events: str
    registry: str
    dead_letters: str
    analytics: str
    alerts: str


@pytest.fixture
def topics(kafka_admin: AdminClient) -> Iterator[Topics]:
    """Topics as Jobtrail makes them: 4 partitions of events, 1 of the others, broker time, kept for ever."""
    yield from _fresh_topics(kafka_admin)


@pytest.fixture(scope="module")
def topics_module(kafka_admin: AdminClient) -> Iterator[Topics]:
    """As `topics`, shared by the tests of one module."""
    yield from _fresh_topics(kafka_admin)


def _fresh_topics(kafka_admin: AdminClient) -> Iterator[Topics]:
    mark = uuid.uuid4().hex[:12]
    names = Topics(
        *(f"{name}-{mark}" for name in ("events", "registry", "dead-letters", "analytics", "alerts"))
    )
    kept = {
        "message.timestamp.type": "LogAppendTime",
        "cleanup.policy": "delete",
        "retention.ms": "-1",
        "retention.bytes": "-1",
    }
    new = [NewTopic(name, 4 if name == names.events else 1, 1, config=kept) for name in astuple(names)]
    for made in kafka_admin.create_topics(new).values():
        made.result(30)
    deadline = time.monotonic() + 30
    while not set(astuple(names)) <= kafka_admin.list_topics(timeout=30).topics.keys():
        # The controller has confirmed them; the broker learns of them a moment later.
        assert time.monotonic() < deadline, f"the broker does not know {names} after 30 s"
        time.sleep(0.01)
    yield names
    kafka_admin.delete_topics(list(astuple(names)))  # not waited for


@pytest.fixture(scope="session")
def database_template(postgres_admin_url: str) -> Iterator[str]:
    """Name of a database with the migrations applied, of which each test gets a copy."""
    name = f"template_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(postgres_admin_url, autocommit=True) as connection:
        make = sql.SQL("CREATE DATABASE {} TEMPLATE template0 LOCALE_PROVIDER libc LOCALE {}")
        try:
            connection.execute(make.format(sql.Identifier(name), sql.Literal(LOCALE)))
        except (psycopg.errors.WrongObjectType, psycopg.errors.InvalidParameterValue):
            make = sql.SQL(
                "CREATE DATABASE {} TEMPLATE template0 "
                "LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8' LOCALE 'C' ENCODING 'UTF8'"
            )
            connection.execute(make.format(sql.Identifier(name)))
    prepare_template(_database_url(postgres_admin_url, name))
    yield name
    _drop(postgres_admin_url, name)


def prepare_template(url: str) -> None:
    """Brings an empty database to what tests begin with."""
    try:
        from jobtrail.projections.migrate import migrate
    except ModuleNotFoundError:
        return
    migrate(url)


@pytest.fixture
def database(postgres_admin_url: str, database_template: str) -> Iterator[str]:
    """Address of a fresh database with the migrations applied, dropped after the test."""
    yield from _fresh_database(postgres_admin_url, database_template)


def _fresh_database(postgres_admin_url: str, database_template: str) -> Iterator[str]:
    name = f"test_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(postgres_admin_url, autocommit=True) as connection:
        make = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
        connection.execute(make.format(sql.Identifier(name), sql.Identifier(database_template)))
    yield _database_url(postgres_admin_url, name)
    _drop(postgres_admin_url, name)


@pytest.fixture(scope="module")
def database_module(postgres_admin_url: str, database_template: str) -> Iterator[str]:
    """As `database`, shared by the tests of one module, for laws that try many examples."""
    yield from _fresh_database(postgres_admin_url, database_template)


@pytest.fixture(scope="module")
def second_database(postgres_admin_url: str, database_template: str) -> Iterator[str]:
    """Another one, for what must come out the same elsewhere."""
    yield from _fresh_database(postgres_admin_url, database_template)


def _database_url(admin_url: str, name: str) -> str:
    return f"{admin_url.rpartition('/')[0]}/{name}"


def _drop(admin_url: str, name: str) -> None:
    with psycopg.connect(admin_url, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def settings(kafka: str, topics: Topics, database: str, tmp_path: Path) -> Settings:
    """Settings of a Jobtrail that shares the servers and nothing else."""
    return _settings(kafka, topics, database, tmp_path / "home")


@pytest.fixture(scope="module")
def settings_module(
    kafka: str, topics_module: Topics, database_module: str, tmp_path_factory: pytest.TempPathFactory
) -> Settings:
    """As `settings`, shared by the tests of one module."""
    return _settings(kafka, topics_module, database_module, tmp_path_factory.mktemp("module") / "home")


def _settings(kafka: str, topics: Topics, database: str, home: Path) -> Settings:
    return Settings(
        home=home,
        cache=CACHE,
        kafka_bootstrap_servers=kafka,
        database_url=database,
        partitions=4,
        events_topic=topics.events,
        registry_topic=topics.registry,
        dead_letters_topic=topics.dead_letters,
        analytics_topic=topics.analytics,
        analytics_group=f"analytics-{uuid.uuid4().hex[:12]}",
        alerts_topic=topics.alerts,
        projector_group=f"projector-{uuid.uuid4().hex[:12]}",
    )
