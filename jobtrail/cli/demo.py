"""`jobtrail demo`: three real syncs, tracked live in the home where `jobtrail jobs list` has them later."""

from __future__ import annotations

import sys
import threading
import time
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from jobtrail.cli import claim
from jobtrail.cli.interrupts import leave_in_order
from jobtrail.cli.parsing import Parser
from jobtrail.cli.terminal import line
from jobtrail.embedded.progress import say
from jobtrail.settings import Settings

#: Seconds that the read models may need after the last event.
SETTLE = 15.0
LOOK = 0.3


def configure(parser: Parser, _name: str) -> None:
    """Declares the options."""
    parser.description = (
        "Starts everything that is not running, then syncs with real connectors: one that succeeds, one that "
        "fails in the middle and one that is cancelled. Shows them live, and stays up until Ctrl-C."
    )
    parser.add_argument(
        "--exit",
        action="store_true",
        help="compare what is shown with what was sent, and end; 0 if all holds",
    )
    parser.example("jobtrail demo", "jobtrail demo --exit && echo it holds")
    parser.set_defaults(run=_demo)


@dataclass(frozen=True)
class Stage:
    """Where the demonstration takes place."""

    settings: Settings
    url: str
    wait: Callable[[], object]


def _demo(options: Namespace) -> int:
    settings = Settings.from_env()
    leave_in_order()
    over = False
    try:
        with stage(settings) as here:
            line(f"Jobtrail answers at {here.url}; three syncs begin")
            sys.stdout.flush()
            held = _play(here.settings)
            over = True
            if not options.exit:
                _where_to_look(settings, here)
                line("Ctrl-C ends.")
                sys.stdout.flush()
                here.wait()
            return 0 if held else 1
    except KeyboardInterrupt:
        if not over:
            raise
    return 0


@contextmanager
def stage(settings: Settings) -> Iterator[Stage]:
    """The service of the home: the one that runs, or one of our own."""
    if (found := claim.running(settings.home)) and found.url:
        from jobtrail.consumers.waiting import database_address
        from jobtrail.running import kafka_address

        used = {
            "kafka_bootstrap_servers": kafka_address(settings),
            "database_url": database_address(settings),
        }
        yield Stage(settings.model_copy(update=used), found.url, threading.Event().wait)
        return
    from jobtrail.cli.service import service

    with service(settings) as running:
        yield Stage(running.settings, running.url, running.wait)


def _play(settings: Settings) -> bool:
    """Runs the scenario in a thread while its jobs are shown; whether all is as it must be."""
    from jobtrail.api.database import reading
    from jobtrail.cli import demo_view
    from jobtrail.demo import scenario

    jobs: list[int] = []
    outcome: list[Sequence[scenario.Expected]] = []
    errors: list[BaseException] = []

    def begin(job_id: int, title: str) -> None:
        say(f"job {job_id}: {title}")
        jobs.append(job_id)

    def play() -> None:
        try:
            outcome.append(scenario.play(settings, begin))
        except BaseException as error:  # noqa: BLE001  # raised again below
            errors.append(error)

    player = threading.Thread(target=play, name="jobtrail-demo", daemon=True)
    player.start()
    with reading(settings) as database:
        with demo_view.display() as show:
            until = float("inf")
            while True:
                shown = demo_view.views(database, list(jobs))
                show(shown)
                if not player.is_alive():
                    until = min(until, time.monotonic() + SETTLE)
                    if (shown and all(view.ended for view in shown)) or time.monotonic() > until:
                        break
                time.sleep(LOOK)
        if errors:
            raise errors[0]
        line("")
        return demo_view.print_checks(
            [found for expected in outcome[0] for found in demo_view.check(database, expected)]
        )


def _where_to_look(given: Settings, here: Stage) -> None:
    from jobtrail.cli.up import announcement

    line("")
    for text in announcement(given, here.settings, here.url)[:-1]:
        line(text)
