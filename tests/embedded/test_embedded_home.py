"""Where the servers live, who runs them, and who can talk to them."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import stat
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
from conftest import CACHE
from embedded_commands import USE, Command, left, new_home, pid

from jobtrail import embedded, running
from jobtrail.embedded.account import UNPRIVILEGED, Account, reachable
from jobtrail.errors import EmbeddedError

LINUX = sys.platform == "linux"
ROOT = os.geteuid() == 0
as_root = pytest.mark.skipif(not ROOT, reason="only root hands its servers to another account")


@pytest.fixture(scope="module")
def servers() -> Iterator[embedded.EmbeddedServers]:
    """Both servers under a home with blanks, quotes, commas, letters of the world, and 250 characters."""
    with (
        new_home("a b, c='d'", "žluťoučký kůň " * 8, "long " * 20 + "end") as home,
        embedded.servers(home, cache=CACHE, durable=False, on_progress=lambda _: None) as mine,
    ):
        yield mine


def test_a_home_has_spaces_and_any_length(servers: embedded.EmbeddedServers) -> None:
    assert len(str(servers.home)) > 200
    assert " " in str(servers.home)
    with psycopg.connect(servers.database_url) as connection:
        folder = connection.execute("SHOW data_directory").fetchone()
    assert folder == (str(servers.home / "postgres" / "data"),) or folder == ("data",)
    assert running.address(servers.home, "kafka") == servers.kafka_bootstrap_servers
    assert running.address(servers.home, "postgres") == servers.database_url


def test_postgres_wants_a_password_by_scram(servers: embedded.EmbeddedServers) -> None:
    url = urlsplit(servers.database_url)
    assert url.password
    for wrong in ("", ":wrong"):
        address = url._replace(netloc=f"{url.username}{wrong}@{url.hostname}:{url.port}").geturl()
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(address, passfile="/dev/null").close()
    with psycopg.connect(servers.database_url) as connection:
        rules = connection.execute("SELECT DISTINCT auth_method FROM pg_hba_file_rules").fetchall()
        stored = connection.execute("SELECT rolpassword FROM pg_authid WHERE rolcanlogin").fetchall()
    assert rules == [("scram-sha-256",)]
    assert [str(password).startswith("SCRAM-SHA-256$") for (password,) in stored] == [True]


def test_the_password_is_for_this_account_only(servers: embedded.EmbeddedServers) -> None:
    password = urlsplit(servers.database_url).password
    assert password
    holders = [
        path
        for path in (servers.home / "run").iterdir()
        if path.is_file() and password in path.read_text(errors="replace")
    ]
    assert {path.name for path in holders} >= {"postgres.address", "postgres.password"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in holders} == {0o600}
    for folder in ("postgres", "kafka"):
        assert stat.S_IMODE((servers.home / folder).stat().st_mode) == 0o700


def test_servers_listen_on_127_0_0_1_and_on_no_unix_socket(servers: embedded.EmbeddedServers) -> None:
    ports = [urlsplit(servers.database_url).port, urlsplit(f"//{servers.kafka_bootstrap_servers}").port]
    if LINUX:  # all of 127.0.0.0/8 is this machine there
        for port in ports:
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.2", port or 0), 5).close()
    with psycopg.connect(servers.database_url) as connection:
        assert connection.execute("SHOW listen_addresses").fetchone() == ("127.0.0.1",)
        assert connection.execute("SHOW unix_socket_directories").fetchone() == ("",)


@as_root
@pytest.mark.skipif(not LINUX, reason="accounts of processes are read from /proc")
def test_as_root_another_account_runs_the_servers(servers: embedded.EmbeddedServers) -> None:
    names = {
        pwd.getpwuid(Path(f"/proc/{pid(servers.home, name)}").stat().st_uid).pw_name
        for name in ("kafka", "postgres")
    }
    assert len(names) == 1
    assert names <= set(UNPRIVILEGED)
    # ours stay ours, so that the servers cannot change what we read and run
    assert {path.stat().st_uid for path in (servers.home, servers.home / "run")} == {0}


@as_root
def test_as_root_a_home_below_a_closed_folder_is_one_error_and_stays_closed() -> None:
    closed = Path(tempfile.mkdtemp(prefix="jobtrail-closed-"))
    try:
        command = Command(closed / "home", "postgres")
        told = command.failed()
        assert told.count("\n") == 1
        assert f"may not enter {closed} (mode 0700)" in told
        assert "JOBTRAIL_HOME" in told
        assert stat.S_IMODE(closed.stat().st_mode) == 0o700
        assert not left(closed / "home")
    finally:
        shutil.rmtree(closed)


@as_root
def test_as_root_binaries_that_the_account_cannot_reach_are_copied_and_nothing_is_opened() -> None:
    account = Account.choose()
    closed = Path(tempfile.mkdtemp(prefix="jobtrail-closed-"))
    with new_home() as home:
        program = closed / "package" / "bin" / "program"
        program.parent.mkdir(parents=True)
        program.write_text("#!/bin/sh\necho ran\n")
        program.chmod(0o700)
        other = closed / "package" / "other"
        other.write_text("not asked for")
        before = {path: path.stat().st_mode for path in (closed, *closed.rglob("*"))}
        try:
            target = home.parent / "cache" / "package-1"
            for _ in range(2):  # the second finds the copy
                found = reachable(account, closed, ["package/bin"], "package/bin/program", target)
                assert found == target
            ran = subprocess.run(
                [found / "package/bin/program"],
                check=True,
                cwd="/",
                user=account.uid,
                group=account.gid,
                extra_groups=[],
                capture_output=True,
            )
            assert ran.stdout == b"ran\n"
            assert not (target / "package" / "other").exists()
            assert {path: path.stat().st_mode for path in before} == before
            assert not account.can(program)
        finally:
            shutil.rmtree(closed)


@as_root
def test_an_ordinary_account_runs_its_own_servers() -> None:
    """As root the other tests use two accounts. This one needs a Python that the unprivileged one can run."""
    account = Account.choose()
    system = Path("/usr/bin") / f"python{sys.version_info.major}.{sys.version_info.minor}"
    usable = [path for path in (Path(sys.executable).resolve(), system) if account.can(path)]
    packages = [str(Path(embedded.__file__).parents[2]), sysconfig.get_path("platlib")]
    if not usable or not all(account.can(path, "r") for path in (*map(Path, packages), CACHE)):
        pytest.skip(f"{account.name} can run no Python {sys.version_info.minor} with these packages")
    with new_home() as home:
        home.parent.chmod(0o777)
        ran = subprocess.run(
            [usable[0], "-c", USE, home, CACHE, "kafka", "postgres"],
            input="\n",
            capture_output=True,
            text=True,
            check=False,
            cwd="/",
            user=account.uid,
            group=account.gid,
            extra_groups=[],
            env={
                "HOME": str(home.parent),
                "PATH": os.environ["PATH"],
                "PYTHONPATH": os.pathsep.join(packages),
            },
        )
        assert ran.returncode == 0, ran.stderr
        assert ran.stdout.splitlines()[1] == "all there"
        assert home.stat().st_uid == account.uid


def test_a_home_that_cannot_be_written_is_one_error() -> None:
    with tempfile.NamedTemporaryFile() as file:
        home = Path(file.name) / "home"
        with pytest.raises(EmbeddedError, match=r"JOBTRAIL_HOME .* cannot be used") as raised:
            embedded.servers(home, cache=CACHE, on_progress=lambda _: None).__enter__()
        assert "\n" not in str(raised.value)


def test_windows_is_a_clear_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(EmbeddedError, match="on Windows, set JOBTRAIL_KAFKA_BOOTSTRAP_SERVERS and"):
        embedded.servers(tmp_path).__enter__()
    assert embedded.running(tmp_path) is None
