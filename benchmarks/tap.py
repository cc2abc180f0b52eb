"""What `jobtrail tap` costs in a pipe, against `cat` and `wc -l`; and a real source with and without it.

    make bench-tap
    .venv/bin/python benchmarks/tap.py [--records N] [--rounds N] [--users N] [--json]

    cat FILE | jobtrail tap --connection ID | wc -c        and in its place  cat  or  wc -l

FILE has records of exactly 400 bytes, then what airbyte-source-faker really printed (installed apart when it
is first asked for; where it cannot be had, that is said and left out), each again and again up to --records.
The tap is the command as users type it, and reports to an embedded broker; what it takes to start and to end
(an empty input) is taken off. Then the faker itself runs for half a minute, into a reader, without and with a
tap between, in turns: what counts is when the reader has everything. Needs Linux.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from results import table, write_section

from jobtrail import embedded
from jobtrail.consumers.topics import TopicAdmin
from jobtrail.demo.faker import FakerError, faker_command
from jobtrail.demo.scenario import faker_catalog
from jobtrail.settings import Settings, default_cache

LINE: Final = 400
LEAST_PER_SECOND: Final = 300_000
MOST_SLOWER: Final = 0.02
#: Of the faker, to record.
RECORDED_USERS: Final = 1_000
Figures = dict[str, float]
Command = Sequence[str | Path]


@dataclass(frozen=True)
class Ended:
    """One process of a pipe."""

    #: Seconds from the pipe's start to its end.
    at: float
    #: Processor seconds, its own and the kernel's for it.
    cpu: float
    output: bytes


def piped(commands: Sequence[Command], environment: Mapping[str, str]) -> list[Ended]:
    """Runs the commands, each reading what the one before prints, to the end of all."""
    ended: dict[int, Ended] = {}
    begun = time.monotonic()
    before: Any = subprocess.DEVNULL
    running = []
    for command in commands:
        process = subprocess.Popen(
            command, stdin=before, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
        )
        if before is not subprocess.DEVNULL:
            before.close()
        before = process.stdout
        running.append(process)

    def wait(place: int, process: subprocess.Popen[bytes]) -> None:
        output = before.read() if place == len(commands) - 1 else b""
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        ended[place] = Ended(time.monotonic() - begun, usage.ru_utime + usage.ru_stime, output)

    threads = [threading.Thread(target=wait, args=each) for each in enumerate(running)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    before.close()
    for process in running:
        if process.returncode:
            raise SystemExit(f"{process.args!r} ended with exit status {process.returncode}")
    return [ended[place] for place in range(len(commands))]


def record(number: int) -> bytes:
    """A line of exactly 400 bytes, in the shape of the faker's users."""
    user = {
        "id": number,
        "created_at": "2009-08-12T18:57:58+00:00",
        "updated_at": "2026-11-25T10:00:00+00:00",
        "name": "Reda",
        "title": "M.Sc.Tech.",
        "email": f"recreative{number}+1@example.com",
        "telephone": "1-302-280-7268",
        "gender": "Other",
        "language": "Tamil",
        "academic_degree": "Master",
        "note": "",
    }
    message = {"type": "RECORD", "record": {"stream": "users", "data": user, "emitted_at": 1_760_000_000_000}}
    missing = LINE - 1 - len(json.dumps(message, separators=(",", ":")))
    user["note"] = "x" * missing
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


@dataclass(frozen=True)
class Sample:
    """Connector output in a file."""

    path: Path
    lines: int
    size: int


def written(path: Path, block: bytes, records: int) -> Sample:
    """The lines again and again, up to so many."""
    lines = block.splitlines(keepends=True)
    whole, rest = divmod(records, len(lines))
    with path.open("wb") as file:
        for _ in range(whole):
            file.write(block)
        file.writelines(lines[:rest])
    return Sample(path, records, path.stat().st_size)


class Bench:
    """Where the tap reports to."""

    def __init__(self, address: str, home: Path) -> None:
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("JOBTRAIL_")},
            "JOBTRAIL_HOME": str(home),
            "JOBTRAIL_KAFKA_BOOTSTRAP_SERVERS": address,
        }
        self.tap: Command = [sys.executable, "-m", "jobtrail.cli.main", "tap", "--connection", "benchmark"]

    def middle(self, sample: Sample, command: Command) -> Ended:
        """How a command did between `cat FILE` and a reader."""
        _, ended, reader = piped([["cat", sample.path], command, ["wc", "-c"]], self.environment)
        if command[0] != "wc" and int(reader.output) != sample.size:
            raise SystemExit(f"{reader.output!r} of {sample.size} bytes came out")
        return Ended(max(ended.at, reader.at) if command[0] == "wc" else reader.at, ended.cpu, b"")

    def throughput(self, sample: Sample, rounds: int) -> dict[str, Figures]:
        """Of the tap, cat and wc, medians; the tap's start and end are taken off."""
        commands: dict[str, Command] = {"jobtrail tap": self.tap, "cat": ["cat"], "wc -l": ["wc", "-l"]}
        took: dict[str, list[Ended]] = {name: [] for name in (*commands, "nothing")}
        nothing = Sample(Path(os.devnull), 0, 0)
        for turn in range(rounds):
            took["nothing"].append(self.middle(nothing, self.tap))
            for name in _turned([*commands], turn):
                took[name].append(self.middle(sample, commands[name]))
                _say(f"{sample.lines:,} lines, {name}: {took[name][-1].at:.2f} s")
        idle = statistics.median(one.at for one in took["nothing"])
        idle_cpu = statistics.median(one.cpu for one in took["nothing"])
        found = {}
        for name in commands:
            off, off_cpu = (idle, idle_cpu) if name == "jobtrail tap" else (0.0, 0.0)
            seconds = statistics.median(one.at - off for one in took[name])
            cpu = statistics.median(one.cpu - off_cpu for one in took[name])
            found[name] = {
                "per_second": sample.lines / seconds,
                "mb_per_second": sample.size / 1e6 / seconds,
                "cpu_s": cpu,
                "per_cpu_second": sample.lines / max(cpu, 1e-3),
                "start_and_end_s": off,
            }
        return found

    def sync(self, source: Command, rounds: int) -> Figures:
        """Seconds of a real source with and without a tap behind it, and its processor seconds; medians."""
        clock: dict[str, list[float]] = {"alone": [], "tapped": []}
        cpu: dict[str, list[float]] = {"alone": [], "tapped": []}
        lines: set[int] = set()
        for name in ["alone", "tapped"] * rounds:
            between = [self.tap] if name == "tapped" else []
            ended = piped([source, *between, ["wc", "-l"]], self.environment)
            clock[name].append(ended[-1].at)
            cpu[name].append(sum(one.cpu for one in ended))
            lines.add(int(ended[-1].output))
            _say(f"faker {name}: {clock[name][-1]:.2f} s, {cpu[name][-1]:.2f} s of processor")
        if len(lines) > 1:
            raise SystemExit(f"the runs gave {sorted(lines)} lines")
        found: Figures = {"lines": lines.pop(), "spread": max(clock["alone"]) / min(clock["alone"]) - 1}
        for what, took in (("clock", clock), ("cpu", cpu)):
            alone, tapped = (statistics.median(took[name]) for name in ("alone", "tapped"))
            found |= {
                f"alone_{what}_s": alone,
                f"tapped_{what}_s": tapped,
                f"{what}_more": tapped / alone - 1,
            }
        return found


def _turned(names: list[str], turn: int) -> list[str]:
    turn %= len(names)
    return [*names[turn:], *names[:turn]]


@dataclass(frozen=True)
class Faker:
    """The real source, ready to read."""

    command: list[str]
    folder: Path

    def reading(self, users: int) -> Command:
        """The command that reads so many users, as many purchases, and 100 products."""
        config = {"count": users, "seed": 1, "parallelism": 2}
        paths = {}
        for name, value in (
            ("config", config),
            ("catalog", faker_catalog(self.command, self.folder, config)),
        ):
            paths[name] = self.folder / f"{name}-{users}.json"
            paths[name].write_text(json.dumps(value), "utf-8")
        return [*self.command, "read", "--config", paths["config"], "--catalog", paths["catalog"]]


def faker_in(folder: Path) -> Faker | None:
    """The faker, or None where it cannot be had."""
    try:
        return Faker(faker_command(default_cache() / "demo", _say), folder)
    except FakerError as error:
        _say(f"without airbyte-source-faker: {error}")
        return None


def samples(folder: Path, records: int, faker: Faker | None) -> Iterator[tuple[str, Sample]]:
    """What is sent through the pipes."""
    yield "lines of 400 bytes", written(folder / "400.jsonl", b"".join(map(record, range(10_000))), records)
    if faker is not None:
        printed = subprocess.run(faker.reading(RECORDED_USERS), stdout=subprocess.PIPE, check=True).stdout
        sample = written(folder / "faker.jsonl", printed, records)
        yield f"recorded faker, {sample.size / sample.lines:.0f} bytes a line", sample


def verdicts(found: dict[str, Any]) -> list[dict[str, Any]]:
    """What must hold."""
    rate = found["pipes"]["lines of 400 bytes"]["jobtrail tap"]["per_cpu_second"]
    bounds = [
        {
            "bound": f"tap: at least {LEAST_PER_SECOND:,} records of 400 bytes for each second of one core",
            "found": f"{rate:,.0f}",
            "holds": rate >= LEAST_PER_SECOND,
        }
    ]
    if found["sync"] is not None:
        slower = found["sync"]["clock_more"]
        bounds.append(
            {
                "bound": f"a faker run is at most {MOST_SLOWER:.0%} slower with it, by the clock",
                "found": f"{slower:+.1%}",
                "holds": slower <= MOST_SLOWER,
            }
        )
    return bounds


def rendered(found: dict[str, Any], bounds: list[dict[str, Any]]) -> str:
    """Tables."""
    rows = [
        [
            what,
            f"`{name}`",
            f"{at['per_second']:,.0f}",
            f"{at['mb_per_second']:,.0f}",
            f"{at['cpu_s']:.2f}",
            f"{at['per_cpu_second']:,.0f}",
        ]
        for what, pipes in found["pipes"].items()
        for name, at in pipes.items()
    ]
    idle = found["pipes"]["lines of 400 bytes"]["jobtrail tap"]["start_and_end_s"]
    parts = [
        table(["what passes", "through", "records/s", "MB/s", "CPU s", "records per CPU s"], rows),
        f"Start and end of the tap, taken off above: {idle:.2f} s.",
    ]
    if (sync := found["sync"]) is not None:
        header = [f"the faker, {sync['lines']:,} lines", "alone, s", "with a tap, s", "more"]
        rows = [
            [
                name,
                f"{sync[f'alone_{what}_s']:.2f}",
                f"{sync[f'tapped_{what}_s']:.2f}",
                f"{sync[f'{what}_more']:+.1%}",
            ]
            for name, what in (("by the clock", "clock"), ("processor, of all in the pipe", "cpu"))
        ]
        parts += [
            table(header, rows),
            f"The runs alone differ by up to {sync['spread']:.1%} among themselves, by the clock.",
        ]
    held = [[one["bound"], one["found"], "holds" if one["holds"] else "**does not hold**"] for one in bounds]
    return "\n\n".join([*parts, table(["bound", "found", ""], held)])


def main() -> int:
    """Measures and prints; with --check returns 1 where a bound does not hold."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--records", type=int, default=1_500_000, help="lines of each file (1,500,000)")
    parser.add_argument("--rounds", type=int, default=5, help="of which medians are taken (5)")
    parser.add_argument(
        "--users", type=int, default=150_000, help="that the faker makes; 0: without it (150,000)"
    )
    parser.add_argument("--write", action="store_true", help="write the section of RESULTS.md")
    parser.add_argument("--check", action="store_true", help="exit status 1 where a bound does not hold")
    parser.add_argument("--json", action="store_true", help="figures for a program")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="jobtrail-bench-")))
        home.chmod(0o755)  # as root, another account may run a server
        servers = stack.enter_context(embedded.servers(home, postgres=False, on_progress=_say))
        # Else each tap waits at its end for topics that nobody has made.
        TopicAdmin(Settings(home=home, kafka_bootstrap_servers=servers.kafka_bootstrap_servers)).ensure()
        bench = Bench(servers.kafka_bootstrap_servers, home)
        faker = faker_in(home) if options.users else None
        found: dict[str, Any] = {
            "pipes": {
                what: bench.throughput(sample, options.rounds)
                for what, sample in samples(home, options.records, faker)
            },
            "sync": None,
        }
        if faker is not None:
            found["sync"] = {
                "users": options.users,
                **bench.sync(faker.reading(options.users), options.rounds),
            }
    bounds = verdicts(found)
    text = rendered(found, bounds)
    print(json.dumps({**found, "bounds": bounds}, indent=1) if options.json else text)
    if options.write:
        how = (
            f"{options.records:,} lines in each file, {options.rounds} rounds in turns, medians; a broker "
            "on the same machine."
        )
        write_section("The tap in a pipe", text, command="make bench-tap", settings=how)
    return int(options.check and not all(bound["holds"] for bound in bounds))


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
