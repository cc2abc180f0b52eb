"""Kafka's jars: locked, verified, downloaded once, and told about."""

from __future__ import annotations

import http.server
import os
import pty
import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from embedded_commands import real_jars

from jobtrail.embedded.jars import Jar, Lock, sha256

#: Resolves the class path of a lock whose text is given, into a cache.
FETCH = """
import sys
from pathlib import Path
from jobtrail.embedded.jars import Lock, class_path
from jobtrail.embedded.progress import say
from jobtrail.errors import EmbeddedError
try:
    found = class_path(Lock.read(Path(sys.argv[1]).read_text()), Path(sys.argv[2]), say)
except EmbeddedError as error:
    sys.exit(f"error: {error}")
print(*found, sep="\\n")
if "jgo" in sys.modules:
    print("jgo was used")
"""


@pytest.fixture(scope="module")
def jars() -> list[Path]:
    """The real jars, in the cache."""
    return real_jars()


@pytest.fixture
def small(jars: list[Path]) -> Lock:
    """The eight smallest jars of the lock, so that a download is quick."""
    sizes = {path.name: path.stat().st_size for path in jars}
    lock = Lock.read()
    return replace(lock, jars=tuple(sorted(lock.jars, key=lambda jar: sizes[jar.file])[:8]))


@pytest.fixture
def repository(jars: list[Path], small: Lock, tmp_path: Path) -> Iterator[Path]:
    """A repository on 127.0.0.1 with these jars, which jgo's settings in the folder tmp_path name."""
    root = tmp_path / "repository"
    for jar in small.jars:
        path = root / place(jar)
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(jars[0].parent / jar.file, path)
    handler = partial(Quiet, directory=str(root))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,)).start()
        settings = f"[repositories]\nhere = http://127.0.0.1:{server.server_port}\n"
        (tmp_path / ".jgorc").write_text(settings)
        yield root
        server.shutdown()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # its name there
        pass


def place(jar: Jar) -> str:
    group, artifact, version = jar.coordinate.split(":")
    return f"{group.replace('.', '/')}/{artifact}/{version}/{jar.file}"


def command(lock: Lock, folder: Path) -> tuple[list[str | Path], dict[str, str]]:
    """A fetch in a process of its own that reaches nothing but 127.0.0.1, and no proxy."""
    text = f'kafka = "{lock.kafka}"\n[jars]\n'
    text += "".join(f'"{jar.coordinate}" = "{jar.sha256}"\n' for jar in lock.jars)
    (folder / "lock").write_text(text)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{taken.getsockname()[1]}"
    proxies = dict.fromkeys(("http_proxy", "https_proxy", "HTTPS_PROXY"), nobody)
    environment = {"HOME": str(folder), "PATH": os.environ["PATH"], "no_proxy": "127.0.0.1", **proxies}
    return [sys.executable, "-c", FETCH, folder / "lock", folder / "cache"], environment


def fetch(lock: Lock, folder: Path) -> subprocess.CompletedProcess[str]:
    arguments, environment = command(lock, folder)
    return subprocess.run(
        arguments, env=environment, cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )


def test_the_cached_jars_are_those_of_the_lock_in_its_order(jars: list[Path]) -> None:
    lock = Lock.read()
    assert [path.name for path in jars] == [jar.file for jar in lock.jars]
    assert [sha256(path) for path in jars] == [jar.sha256 for jar in lock.jars]
    assert f"kafka_2.13-{lock.kafka}.jar" == jars[0].name
    assert len({jar.file for jar in lock.jars}) == len(lock.jars)


@pytest.mark.usefixtures("repository")
def test_a_first_start_says_what_it_downloads_on_stderr_line_by_line(small: Lock, tmp_path: Path) -> None:
    ran = fetch(small, tmp_path)
    assert ran.returncode == 0, ran.stderr
    folder = tmp_path / "cache" / f"kafka-{small.kafka}"
    assert ran.stdout.splitlines()[:-1] == [str(folder / jar.file) for jar in small.jars]
    what = f"downloading Apache Kafka {small.kafka}: 8 jars"
    assert ran.stderr.splitlines() == [what, *(f"{what}: {done} done" for done in (2, 4, 6, 8))]
    assert {path.name for path in folder.iterdir()} == {*(jar.file for jar in small.jars), "download.lock"}


@pytest.mark.usefixtures("repository")
def test_a_first_start_shows_a_bar_on_a_terminal(small: Lock, tmp_path: Path) -> None:
    arguments, environment = command(small, tmp_path)
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        arguments,
        env=environment | {"TERM": "xterm", "COLUMNS": "120"},
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=theirs,
    ) as process:
        os.close(theirs)
        shown = b""
        try:
            while part := os.read(ours, 10_000):
                shown += part
        except OSError:  # Linux says the end so
            pass
    os.close(ours)
    assert process.returncode == 0, shown
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())
    assert f"downloading Apache Kafka {small.kafka}: 8 jars" in text
    assert "━" in text
    assert "100%" in text


def test_with_all_in_the_cache_the_network_is_not_used(jars: list[Path], tmp_path: Path) -> None:
    lock = Lock.read()
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / f"kafka-{lock.kafka}").symlink_to(jars[0].parent)
    ran = fetch(lock, tmp_path)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert len(ran.stdout.splitlines()) == len(lock.jars)  # and no word of jgo


def test_without_network_and_cache_there_is_one_clear_error(small: Lock, tmp_path: Path) -> None:
    ran = fetch(small, tmp_path)
    assert ran.returncode == 1
    what, error = ran.stderr.splitlines()
    assert what.startswith("downloading Apache Kafka")
    assert f"Apache Kafka {small.kafka} is not in {tmp_path}" in error
    assert f"{small.jars[0].file} cannot be downloaded" in error
    assert "connect to the network this once" in error
    assert "JOBTRAIL_KAFKA_BOOTSTRAP_SERVERS" in error
    assert not list((tmp_path / "cache").rglob("*.jar"))


def test_a_repository_that_gives_another_jar_is_one_error_and_nothing_is_kept(
    small: Lock, repository: Path, tmp_path: Path
) -> None:
    bad = small.jars[0]
    with (repository / place(bad)).open("ab") as file:
        file.write(b"more")
    ran = fetch(small, tmp_path)
    assert ran.returncode == 1
    assert ran.stderr.splitlines()[-1].startswith(f"error: {bad.coordinate} is not what the lock says")
    assert not list((tmp_path / "cache").rglob(bad.file))


def test_a_cached_jar_that_was_changed_is_one_error_that_names_it(
    jars: list[Path], small: Lock, tmp_path: Path
) -> None:
    folder = tmp_path / "cache" / f"kafka-{small.kafka}"
    folder.mkdir(parents=True)
    for jar in small.jars:
        shutil.copy(jars[0].parent / jar.file, folder)
    changed = small.jars[3]
    content = bytearray((folder / changed.file).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / changed.file).write_bytes(content)
    ran = fetch(small, tmp_path)
    assert ran.returncode == 1
    (error,) = ran.stderr.splitlines()
    assert error.startswith(f"error: {changed.coordinate} is not what the lock says: {folder / changed.file}")
    assert f"expected {changed.sha256}" in error
