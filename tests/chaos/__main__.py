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
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from chaos.faults import AT_TIMES, draw
from chaos.rounds import PRODUCERS, Found, Round
from chaos.servers import chaos_servers
from jobtrail.settings import Settings, default_cache

ROOT: Final = Path(__file__).parent.parent.parent
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
    parser.add_argument("--seconds", type=float, default=2.5, help="over which they are sent (default 2.5)")
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
            if found.holds:
                this.clean_up()
                shutil.rmtree(folder)
            else:
                for line in itertools.chain(found.lost, found.doubled, found.different):
                    print(f"  {line}")
                print(f"  evidence: {folder}", flush=True)
    if asked.write:
        asked.write.write_text(page(rounds, asked, time.monotonic() - begun), "utf-8")
    if all(found.holds for found in rounds):
        if not asked.home:
            shutil.rmtree(home, ignore_errors=True)
        return 0
    print("does not hold: seed " + ", ".join(str(found.seed) for found in rounds if not found.holds))
    return 1


def page(rounds: Sequence[Found], asked: argparse.Namespace, seconds: float) -> str:
    """The results as Markdown."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    from results import machine

    kinds = Counter(_kind(fault) for found in rounds for fault in found.faults)
    lost, doubled, different, problems = (
        sum(len(getattr(found, name)) for found in rounds)
        for name in ("lost", "doubled", "different", "problems")
    )
    fewest_events, fewest_faults = (
        min(found.events for found in rounds),
        min(len(found.faults) for found in rounds),
    )
    lines = [
        "# Chaos",
        "",
        f'    make chaos CHAOS_ARGS="--rounds {asked.rounds} --seed {asked.seed}"',
        "",
        f"{machine()} {seconds / 60:.0f} minutes, ended {datetime.now(UTC):%Y-%m-%d %H:%M} UTC.",
        "",
        "Each round: three producers and two or three projectors of one group, in topics and a database of their own on",
        "the same servers, faults at named points of the projector's code and at random times, and at the end every table",
        "is compared with the golden fold of the topics, and the topics with the ledgers of what was confirmed to",
        "producers. A seed fixes the events, their sharing out, the faults and their times; how processes interleave is",
        "the machine's. Kafka and Postgres do without fsync: they are killed, the machine is not. Postgres' WAL writer",
        "sleeps 10 s, so that its crash loses seconds of what projectors committed.",
        "",
        f"**{len(rounds)} rounds, {sum(found.events for found in rounds):,} events in"
        f" {sum(found.messages for found in rounds):,} messages, {sum(found.confirmed for found in rounds):,} of them"
        f" confirmed, {sum(len(found.faults) for found in rounds):,} faults: {lost} lost, {doubled} doubled,"
        f" {different} of {sum(found.rows for found in rounds):,} rows different, {problems} other problems.**",
        f"At least {fewest_events:,} events and {fewest_faults} faults a round. "
        f"{sum(found.replaced for found in rounds):,} times a projector found its checkpoint elsewhere and wrote nothing.",
        "",
        "| fault | times |",
        "|---|---|",
        *(f"| {kind} | {times} |" for kind, times in kinds.most_common()),
        "",
        "| seed | events | messages | rows | lost | doubled | different | replaced | s | faults |",
        "|---|---|---|---|---|---|---|---|---|---|",
        *(
            f"| {found.seed} | {found.events} | {found.messages} | {found.rows} | {len(found.lost)} |"
            f" {len(found.doubled)} | {len(found.different)} | {found.replaced} | {found.seconds:.1f} |"
            f" {', '.join(found.faults)}{''.join(' PROBLEM' for _ in found.problems)} |"
            for found in rounds
        ),
    ]
    return "\n".join(lines) + "\n"


def _kind(fault: str) -> str:
    return fault if fault in AT_TIMES else fault.partition(" #")[0]


if __name__ == "__main__":
    sys.exit(main())
