"""Rounds of chaos, one after the other on the same servers; what they came to is written to a file."""

from __future__ import annotations

import argparse
import itertools
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from results import machine

from chaos.faults import AT_TIMES, draw
from chaos.rounds import PRODUCERS, Found, Round
from chaos.servers import chaos_servers
from jobtrail.settings import Settings, default_cache

EXAMPLES: Final = """
examples:
  make chaos                                          200 rounds, written to benchmarks/CHAOS.md
  make chaos CHAOS_ARGS="--rounds 1 --seed 17"        the one with seed 17 again; writes nothing

exit status: 0 every round holds; 1 one does not, and its folder is named
"""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="chaos",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=200, help="how many (default 200)")
    parser.add_argument(
        "--seed", type=int, default=1, help="of the first round; the next has the next (default 1)"
    )
    parser.add_argument(
        "--events", type=int, default=8_000, help="that each round's jobs make (default 8000)"
    )
    parser.add_argument("--seconds", type=float, default=1.8, help="over which they are sent (default 1.8)")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write seeds, faults and counts here")
    parser.add_argument(
        "--home", type=Path, help="folder for servers and evidence (default: a temporary one)"
    )
    return parser.parse_args()


def main() -> int:
    asked = arguments()
    cache = Settings.from_env().cache or default_cache()
    home = asked.home or Path(tempfile.mkdtemp(prefix="jobtrail-chaos-"))
    home.mkdir(parents=True, exist_ok=True)
    home.chmod(0o755)  # as root, another account runs the servers
    rounds: list[Found] = []
    begun = time.monotonic()
    with chaos_servers(home / "servers", cache) as servers:
        for seed in range(asked.seed, asked.seed + asked.rounds):
            plan = draw(seed, seconds=asked.seconds, producers=PRODUCERS)
            folder = home / f"seed-{seed}"
            this = Round(servers, plan, folder, events=asked.events, seconds=asked.seconds)
            rounds.append(found := this.run())
            print(found, flush=True)
            if asked.write:
                asked.write.write_text(page(rounds, asked.seed, time.monotonic() - begun), "utf-8")
            if found.holds:
                this.clean_up()
                shutil.rmtree(folder)
            else:
                for line in itertools.chain(found.lost, found.doubled, found.different):
                    print(f"  {line}")
                print(f"  evidence: {folder}", flush=True)
    if all(found.holds for found in rounds):
        if not asked.home:
            shutil.rmtree(home, ignore_errors=True)
        return 0
    print("does not hold: seed " + ", ".join(str(found.seed) for found in rounds if not found.holds))
    return 1


HEAD: Final = """# Chaos

    make chaos CHAOS_ARGS="--rounds {rounds} --seed {seed} --write benchmarks/CHAOS.md"

{machine} {minutes:.1f} minutes.

Each round: three producers and two or three projectors of one group, in topics and a database of their
own on the same servers; faults at named points of the projector's code and at random times. At the end
the topics are held against the ledgers of what was confirmed to producers, and every row of the seven
merged tables, with derived statuses, ends and retry counts, against the golden fold of the topics
(`tests/chaos/golden.py`, which says what it leaves out). A projector or producer that ends by itself is
a problem too.

A seed fixes the events, who sends them, the faults and their times; how processes interleave is the
machine's. Kafka and Postgres do without fsync: they are killed, the machine is not. Postgres' WAL writer
sleeps 10 s, so that a crash loses seconds of what projectors committed, and they have to notice.

**{done} rounds, {events:,} events in {messages:,} messages, {confirmed:,} events confirmed to their
producers, {faults:,} faults: {lost} lost, {doubled} doubled, {different} of {rows:,} rows different,
{problems} other problems.** At least {fewest_events:,} events and {fewest_faults} faults a round.
Projectors found their checkpoint elsewhere, and wrote nothing, {replaced:,} times. Producers' Kafka clients
gave up for good, and were replaced, {clients_replaced:,} times.

Doubled are rows that no event gives, and messages that are there more often than they can have been sent.

| fault | times |
|---|---|
{kinds}

| seed | events | messages | rows | lost | doubled | different | replaced | s | faults |
|---|---|---|---|---|---|---|---|---|---|
{each}
"""


def page(found: Sequence[Found], first: int, seconds: float) -> str:
    """The results as Markdown."""
    kinds = Counter(_kind(fault) for each in found for fault in each.faults)
    summed = {
        name: sum(len(getattr(each, name)) for each in found)
        for name in ("lost", "doubled", "different", "problems", "faults")
    } | {
        name: sum(getattr(each, name) for each in found)
        for name in ("events", "messages", "confirmed", "rows", "replaced", "clients_replaced")
    }
    return HEAD.format(
        rounds=len(found),
        seed=first,
        machine=machine(),
        minutes=seconds / 60,
        done=len(found),
        fewest_events=min(each.events for each in found),
        fewest_faults=min(len(each.faults) for each in found),
        kinds="\n".join(f"| {kind} | {times} |" for kind, times in kinds.most_common()),
        each="\n".join(map(_line, found)),
        **summed,
    )


def _line(found: Found) -> str:
    cells = [found.seed, found.events, found.messages, found.rows]
    cells += [len(found.lost), len(found.doubled), len(found.different), found.replaced]
    faults = ", ".join([*found.faults, *("PROBLEM" for _ in found.problems)])
    return f"| {' | '.join(map(str, cells))} | {found.seconds:.1f} | {faults} |"


def _kind(fault: str) -> str:
    return fault if fault in AT_TIMES else fault.partition(" #")[0]


if __name__ == "__main__":
    sys.exit(main())
