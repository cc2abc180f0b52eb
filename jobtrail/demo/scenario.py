"""Three real syncs for `jobtrail demo`: one succeeds, one fails in the middle, one is cancelled.

What each source really printed is kept beside Jobtrail and counted with plain JSON, so that what Jobtrail
shows can be compared with it.
"""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from jobtrail.api.models import JobStatus
from jobtrail.demo import source as small_source
from jobtrail.demo.faker import FakerError, faker_command
from jobtrail.demo.tee import records
from jobtrail.embedded.progress import say
from jobtrail.events import CancelRequested
from jobtrail.producers.job import offline_job_id
from jobtrail.producers.publisher import Publisher
from jobtrail.producers.run import RunResult, run
from jobtrail.settings import Settings

#: Users that the faker makes; as many purchases, and 100 products.
FAKER_COUNT: Final = 6_000
#: The failing sync: records of each stream, and after how many in all it fails.
FAILING_COUNT, FAILS_AFTER = 3_000, 4_500
#: The cancelled sync: seconds for each record, and after how many it is cancelled.
SLOW, CANCELLED_AFTER = 0.005, 350
CONNECTIONS: Final = (
    "d0000000-0000-4000-8000-000000000001",
    "d0000000-0000-4000-8000-000000000002",
    "d0000000-0000-4000-8000-000000000003",
)


@dataclass(frozen=True, slots=True)
class Sync:
    """One sync of the scenario, and how it must end."""

    title: str
    connection_id: str
    source: str
    destination: str
    #: What the source printed, once it has run.
    printed: Path
    status: JobStatus
    #: Whose fault it must be; None: nobody's.
    origin: str | None = None
    partial_success: bool | None = None
    #: Records after which somebody asks that it be cancelled.
    cancel_after: int | None = None


@dataclass(frozen=True, slots=True)
class Scenario:
    """The syncs, in their order."""

    syncs: Sequence[Sync]
    #: Where they keep their files; whoever prepared it removes it.
    folder: Path


@dataclass(frozen=True, slots=True)
class Expected:
    """What a job must look like when its sync is over."""

    job_id: int
    title: str
    status: JobStatus
    #: Stream → records that the source really printed.
    sent: Mapping[str, int]
    origin: str | None = None
    partial_success: bool | None = None


def prepare(home: Path, on_progress: Callable[[str], None] = say, cache: Path | None = None) -> Scenario:
    """Makes ready what the syncs need, in a new folder under `home`.

    The faker is installed under `cache` (default: `home`) when it is not there; where it cannot be had, that
    is said, and a small source of our own takes its place.
    """
    (home / "demo").mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="syncs-", dir=home / "demo"))
    try:
        title, succeeding = _faker(folder, on_progress, (cache or home) / "demo")
        return Scenario(
            (
                Sync(
                    title,
                    CONNECTIONS[0],
                    *_commands(folder / "succeeds", succeeding),
                    status=JobStatus.SUCCEEDED,
                ),
                Sync(
                    "a source that fails in the middle",
                    CONNECTIONS[1],
                    *_commands(folder / "fails", _small(count=FAILING_COUNT, fail_after=FAILS_AFTER)),
                    status=JobStatus.FAILED,
                    origin="source",
                    partial_success=True,
                ),
                Sync(
                    "a slow source that is cancelled",
                    CONNECTIONS[2],
                    *_commands(folder / "cancelled", _small(count=100_000, slow=SLOW)),
                    status=JobStatus.CANCELLED,
                    partial_success=True,
                    cancel_after=CANCELLED_AFTER,
                ),
            ),
            folder,
        )
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def play(
    settings: Settings, on_job: Callable[[int, str], object], on_progress: Callable[[str], None] = say
) -> list[Expected]:
    """Runs the syncs one after the other; gives what must be shown of them.

    `on_job` is told each job's id and title before its sync begins.
    """
    scenario = prepare(settings.home, on_progress, settings.cache)
    try:
        with Publisher(settings) as publisher:
            return [_play(sync, publisher, on_job) for sync in scenario.syncs]
    finally:
        shutil.rmtree(scenario.folder, ignore_errors=True)


def _play(sync: Sync, publisher: Publisher, on_job: Callable[[int, str], object]) -> Expected:
    job_id = offline_job_id()
    on_job(job_id, sync.title)
    over = threading.Event()
    if sync.cancel_after is not None:
        cancel = (sync.printed, sync.cancel_after, job_id, publisher, over)
        threading.Thread(target=_cancel, args=cancel, name="jobtrail-demo-cancel", daemon=True).start()
    try:
        play_sync(sync, publisher, job_id)
    finally:
        over.set()
    return Expected(job_id, sync.title, sync.status, records(sync.printed), sync.origin, sync.partial_success)


def play_sync(sync: Sync, publisher: Publisher, job_id: int | None = None) -> RunResult:
    """Runs one sync."""
    return run(
        source=sync.source,
        destination=sync.destination,
        connection_id=sync.connection_id,
        job_id=job_id,
        labels={"demo": sync.title},
        publisher=publisher,
        quiet=True,
    )


def _cancel(printed: Path, after: int, job_id: int, publisher: Publisher, over: threading.Event) -> None:
    """Asks for cancellation once the source has printed `after` records."""
    while not over.wait(0.1):
        if records(printed).total() >= after:
            publisher.deliver(CancelRequested(job_id=job_id, requested_by="jobtrail demo"))
            return


def _commands(
    folder: Path, source: tuple[list[str], dict[str, Any], dict[str, Any]]
) -> tuple[str, str, Path]:
    """Source and destination as commands, with their files in `folder`, and where the source's output is."""
    command, config, catalog = source
    folder.mkdir()
    printed = folder / "printed.jsonl"
    here = [sys.executable, "-m"]
    reading = [*command, "read", "--config", _file(folder / "source.json", config)]
    reading += ["--catalog", _file(folder / "catalog.json", catalog)]
    writing = [*here, "jobtrail.demo.destination", "write", "--config"]
    writing += [_file(folder / "destination.json", {"path": str(folder / "written")})]
    return (
        shlex.join([*here, "jobtrail.demo.tee", str(printed), "--", *reading]),
        shlex.join([*writing, "--catalog", str(folder / "catalog.json")]),
        printed,
    )


def _small(**config: float) -> tuple[list[str], dict[str, Any], dict[str, Any]]:
    return [sys.executable, "-m", "jobtrail.demo.source"], config, small_source.configured_catalog()


def _faker(
    folder: Path, on_progress: Callable[[str], None], cache: Path
) -> tuple[str, tuple[list[str], dict[str, Any], dict[str, Any]]]:
    """The title of the first sync and its source."""
    config = {"count": FAKER_COUNT, "seed": 1, "parallelism": 2}
    try:
        command = faker_command(cache, on_progress)
        return "airbyte-source-faker", (command, config, faker_catalog(command, folder, config))
    except FakerError as error:
        on_progress(f"{error}; the small source of the demonstration takes the place of airbyte-source-faker")
        return "a small source", _small(count=FAKER_COUNT)


def faker_catalog(command: list[str], folder: Path, config: dict[str, Any]) -> dict[str, Any]:
    """The configured catalog of all the faker's streams, asked for once. Raises FakerError."""
    kept = Path(command[0]).parent.parent / "streams.json"
    if not kept.exists():
        made = folder / "streams.json"
        _file(made, _discover(command, folder, config))
        made.replace(kept)  # whole or not at all
    return {
        "streams": [
            {"stream": stream, "sync_mode": "full_refresh", "destination_sync_mode": "append"}
            for stream in json.loads(kept.read_text("utf-8"))
        ]
    }


def _discover(command: list[str], folder: Path, config: dict[str, Any]) -> list[dict[str, Any]]:
    """The streams that a source has. Raises FakerError."""
    began = time.monotonic()
    asked = [*command, "discover", "--config", _file(folder / "discover.json", config)]
    try:
        answer = subprocess.run(asked, capture_output=True, text=True, check=False, timeout=120)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise FakerError(f"airbyte-source-faker does not start: {error}") from error
    for line in answer.stdout.splitlines():
        message = json.loads(line) if line.startswith("{") else {}
        if message.get("type") == "CATALOG":
            streams: list[dict[str, Any]] = message["catalog"]["streams"]
            return streams
    last = (answer.stderr.strip() or answer.stdout.strip() or "nothing").splitlines()[-1]
    took = time.monotonic() - began
    raise FakerError(
        f"airbyte-source-faker names no streams (exit status {answer.returncode}, {took:.0f} s): {last}"
    )


def _file(path: Path, content: object) -> str:
    path.write_text(json.dumps(content), "utf-8")
    return str(path)
