"""`jobtrail archive`: copies the event log to files, reads them back, and says what is there."""

from __future__ import annotations

import sys
import time
from argparse import Namespace
from typing import Any, Final

from jobtrail.cli.parsing import Parser
from jobtrail.cli.progress import EVERY, Shown
from jobtrail.cli.terminal import amount, as_json, clock, line, size, span, table, visible
from jobtrail.cli.up import fallback_notes
from jobtrail.errors import UsageError
from jobtrail.settings import Settings

#: In the order of `Settings.projected_topics`.
TOPICS: Final = ("events", "registry", "analytics", "all")
ADDRESS: Final = "folder or fsspec address of the archive (default: JOBTRAIL_ARCHIVE)"


def configure(parser: Parser, _name: str) -> None:
    """Declares the options, and the two subcommands."""
    parser.description = (
        "Copies what is new in the event log to files at TO, and goes on where the last run ended. "
        "Status 1 where offsets left the log before they were copied. `jobtrail archive verify [ADDRESS]` "
        "reads all back; `jobtrail archive list [ADDRESS]` says what is there."
    )
    parser.add_argument("address", nargs="?", metavar="TO", help=ADDRESS)
    parser.add_argument("--topic", choices=TOPICS, default="all", help="which topic (default: all)")
    parser.add_argument(
        "--accept-gap",
        action="store_true",
        help="go on behind offsets that are no longer in the log; the archive keeps that they are missing",
    )
    parser.add_argument("--json", action="store_true", help="what was copied as JSON")
    parser.example(
        "jobtrail archive /backup/jobtrail",
        "JOBTRAIL_ARCHIVE=s3://bucket/jobtrail jobtrail archive --json",
        "jobtrail archive verify /backup/jobtrail",
    )
    parser.set_defaults(run=_copy)
    verify = parser.branch(
        "verify",
        "Reads all files back and checks sums, counts, ranges, gaps and overlaps. "
        "Status 1 with a line for each finding.",
    )
    listed = parser.branch("list", "Lists what is archived, by topic, topic id (oldest first) and partition.")
    for branch, run in ((verify, _verify), (listed, _list)):
        branch.add_argument("address", nargs="?", metavar="ADDRESS", help=ADDRESS)
        branch.set_defaults(run=run)
    verify.add_argument("--json", action="store_true", help="counts and findings as JSON")
    verify.example("jobtrail archive verify /backup/jobtrail")
    listed.add_argument("--json", action="store_true", help="a JSON list of topics")
    listed.example("jobtrail archive list /backup/jobtrail --json")


def _address(options: Namespace, settings: Settings) -> str:
    found: str | None = options.address or settings.archive
    if not found:
        raise UsageError(
            "no archive is named; say where (`jobtrail archive /backup/jobtrail`), or set JOBTRAIL_ARCHIVE"
        )
    return found


def _copy(options: Namespace) -> int:
    settings = Settings.from_env()
    address = _address(options, settings)
    from jobtrail.consumers.archive_copy import Copied, copy_log

    for note in fallback_notes(settings):
        print(f"jobtrail: {visible(note)}", file=sys.stderr)
    topics = dict(zip(TOPICS, settings.projected_topics, strict=False))
    begun = time.monotonic()
    wanted = [topics[options.topic]] if options.topic in topics else settings.projected_topics
    with Shown(sys.stderr, quiet=EVERY) as shown:

        def tell(copied: Copied) -> None:
            shown("archiving", copied.done, copied.wanted)

        copied = copy_log(settings, address, wanted, accept_gaps=options.accept_gap, on_progress=tell)
    seconds = time.monotonic() - begun
    for gap in copied.gaps:
        remedy = (
            ""
            if gap.accepted
            else "; they left the log before they were archived, and nothing behind them was copied."
            " Bring them back, or go on without them by --accept-gap"
        )
        print(f"jobtrail: {visible(f'{gap}{remedy}')}", file=sys.stderr)
    if options.json:
        as_json(
            {
                "messages": copied.messages,
                "files": copied.files,
                "bytes": copied.bytes,
                "seconds": round(seconds, 3),
                "gaps": [_gap(gap) for gap in copied.gaps],
            }
        )
    else:
        line(
            f"archived {amount(copied.messages)} messages in {amount(copied.files)} files"
            f" ({size(copied.bytes)}) in {span(seconds)}"
        )
    return 0 if all(gap.accepted for gap in copied.gaps) else 1


def _verify(options: Namespace) -> int:
    address = _address(options, Settings.from_env())
    from jobtrail.consumers.archive_verify import Verified, verify

    verified = Verified()
    findings = []
    with Shown(sys.stderr, quiet=EVERY) as shown:

        def tell(verified: Verified) -> None:
            shown("reading back", verified.messages, verified.wanted)

        for finding in verify(address, verified, tell):
            findings.append(finding)
            print(f"jobtrail: {visible(str(finding))}", file=sys.stderr)
    for gap in verified.accepted:
        print(f"jobtrail: {visible(str(gap))}", file=sys.stderr)
    if options.json:
        as_json(
            {
                "files": verified.files,
                "messages": verified.messages,
                "bytes": verified.bytes,
                "findings": findings,
                "acceptedGaps": [_gap(gap) for gap in verified.accepted],
            }
        )
    else:
        line(
            f"read back {amount(verified.messages)} messages of {amount(verified.files)} files"
            f" ({size(verified.bytes)}): {f'{len(findings):,} findings' if findings else 'all is well'}",
            style="red" if findings else "green",
        )
    return 1 if findings else 0


def _gap(gap: Any) -> dict[str, Any]:
    return {
        "topic": gap.topic,
        "topicId": gap.topic_id,
        "partition": gap.partition,
        "firstOffset": gap.first,
        "nextOffset": gap.next,
        "accepted": gap.accepted,
    }


def _list(options: Namespace) -> int:
    address = _address(options, Settings.from_env())
    from jobtrail.consumers.archive import Archive

    archive = Archive.open(address)
    found: list[dict[str, Any]] = [
        {
            "topic": topic,
            "topicIds": [_of_id(archive, topic, topic_id) for topic_id in archive.topic_ids(topic)],
        }
        for topic in archive.topics()
    ]
    if options.json:
        as_json(found)
        return 0
    rows = [
        [
            topic["topic"],
            f"{nth} of {len(topic['topicIds'])}",
            of_id["topicId"],
            str(part["partition"]),
            str(part["firstOffset"]),
            str(part["nextOffset"]),
            amount(part["missing"]),
            amount(part["messages"]),
            amount(part["files"]),
            size(part["bytes"]),
            clock(None if part["lastBrokerMs"] is None else part["lastBrokerMs"] / 1000),
        ]
        for topic in found
        for nth, of_id in enumerate(topic["topicIds"], 1)
        for part in of_id["partitions"]
    ]
    numbers = ("partition", "from", "to before", "missing", "messages", "files", "size")
    table(("topic", "made", "topic id", *numbers, "last event"), rows, numbers)
    return 0


def _of_id(archive: Any, topic: str, topic_id: str) -> dict[str, Any]:
    from jobtrail.consumers.archive_manifest import gaps

    partitions = []
    for (name, this_id, partition), chain in sorted(archive.chains.items()):
        if (name, this_id) == (topic, topic_id):
            held = [one for one in chain if not one.missing]
            partitions.append(
                {
                    "partition": partition,
                    "firstOffset": chain[0].first_offset,
                    "nextOffset": max(one.next_offset for one in chain),
                    "missing": sum(gap.next - gap.first for gap in gaps(chain)),
                    "messages": sum(one.messages for one in held),
                    "files": len(held),
                    "bytes": sum(one.size for one in held),
                    "firstBrokerMs": min((one.first_broker_ms for one in held if one.messages), default=None),
                    "lastBrokerMs": max((one.last_broker_ms for one in held if one.messages), default=None),
                }
            )
    return {"topicId": topic_id, "partitions": partitions}
