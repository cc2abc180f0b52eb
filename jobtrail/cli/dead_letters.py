"""`jobtrail dead-letters`: messages that could not become events, retried after a fix, or dropped."""

from __future__ import annotations

import base64
import json
import sys
from argparse import ArgumentTypeError, Namespace
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, TextIO

import psycopg

from jobtrail.api.database import CONNECT_TIMEOUT, reading, translated
from jobtrail.cli.environment import account
from jobtrail.cli.parsing import Parser, moment, positive, subcommands
from jobtrail.cli.progress import EVERY, Shown
from jobtrail.cli.terminal import amount, as_json, clock, line, size, table, visible
from jobtrail.consumers.waiting import database_address
from jobtrail.errors import JobtrailError, UsageError
from jobtrail.producers.safe_text import safe_name
from jobtrail.projections import letters
from jobtrail.projections.letters import Group, KeptLetter, Key, Place, Which
from jobtrail.settings import Settings

if TYPE_CHECKING:
    from jobtrail.consumers.retry_letters import Outcome

PLACE: Final = "where it is, as list shows it: topic:partition:offset"
#: Bytes of a value that show prints, unless all are asked for.
SHOWN_BYTES: Final = 1024
#: Bytes in a line of hex.
WIDTH: Final = 16
#: Letters that stay, of which a line says why; --json has all.
SHOWN_REFUSALS: Final = 20


def configure(parser: Parser, _name: str) -> None:
    """Declares the subcommands."""
    commands = subcommands(parser, required=False)
    parser.set_defaults(run=_list, reason=None, since=None, limit=100, all=False, resolved=False, json=False)
    parser.example("jobtrail dead-letters list", "jobtrail dead-letters retry --all")
    listed = commands.add_parser(
        "list",
        help="by reason, or one by one",
        description="Lists the open dead letters: messages of the log that could not become events. By "
        "reason, with one place as an example; with --reason or --all one by one, newest first.",
    )
    _narrow(listed)
    listed.add_argument("--all", action="store_true", help="one by one, of every reason")
    listed.add_argument("--limit", type=positive, default=100, metavar="N", help="at most N (default 100)")
    listed.add_argument("--json", action="store_true", help="as JSON; instants in UTC")
    listed.example(
        "jobtrail dead-letters list",
        "jobtrail dead-letters list --reason unknown_schema --since 2026-03-01T12:00:00Z",
    )
    listed.set_defaults(run=_list, parser=listed)
    show = commands.add_parser(
        "show",
        help="one of them, with all that is known",
        description="Shows one dead letter, open or not: why it is one, its key and value, and whether it "
        "can be read by now. Kafka's headers are not kept.",
    )
    show.add_argument("place", type=_place, metavar="PLACE", help=PLACE)
    show.add_argument(
        "--whole", action="store_true", help=f"all of the value (default: {SHOWN_BYTES:,} bytes)"
    )
    show.add_argument("--json", action="store_true", help="as JSON, with the whole value in base64")
    show.example("jobtrail dead-letters show jobtrail.events:3:1042")
    show.set_defaults(run=_show, parser=show)
    retry = commands.add_parser(
        "retry",
        help="read them again, by the present code",
        description="Reads dead letters again, by the present code. Those that can be read by now give the "
        "rows that they would have given in time, and are published again under their own event id; the "
        "others stay, with status 1 and why.",
    )
    _choose(retry, "every open one")
    retry.add_argument("--yes", action="store_true", help="without asking where --reason or --all chooses")
    retry.example(
        "jobtrail dead-letters retry jobtrail.events:3:1042",
        "jobtrail dead-letters retry --reason unknown_schema --yes",
    )
    retry.set_defaults(run=_retry, parser=retry)
    drop = commands.add_parser(
        "drop",
        help="take them from the lists",
        description="Takes open dead letters from the lists. Their rows stay, with who did it and when "
        "(list --resolved), and a dropped one can be retried by its place. Nothing leaves the log.",
    )
    _choose(drop, "every open one")
    drop.add_argument("--yes", action="store_true", help="without asking")
    drop.example("jobtrail dead-letters drop --reason malformed --yes")
    drop.set_defaults(run=_drop, parser=drop)
    export = commands.add_parser(
        "export",
        help="all of them as JSON lines",
        description="Writes the open dead letters as lines of JSON, key and value in base64, by topic, "
        "partition and offset. An export that was interrupted goes on behind the last place that it has: "
        "--after, into another file.",
    )
    export.add_argument("file", metavar="FILE", help="a file that is not there yet, or - for stdout")
    _narrow(export)
    export.add_argument("--after", type=_place, metavar="PLACE", help="only what is behind this letter")
    export.example(
        "jobtrail dead-letters export letters.jsonl",
        "jobtrail dead-letters export - --reason malformed | jq -r .valueBase64",
    )
    export.set_defaults(run=_export, parser=export)


def _narrow(parser: Parser) -> None:
    parser.add_argument("--reason", metavar="R", help="only those with this reason")
    parser.add_argument("--since", type=moment, metavar="TIME", help="only those that came since then")
    parser.add_argument("--resolved", action="store_true", help="those that were retried or dropped instead")


def _choose(parser: Parser, every: str) -> None:
    parser.add_argument("places", type=_place, nargs="*", metavar="PLACE", help=PLACE)
    parser.add_argument("--reason", metavar="R", help=f"{every} with this reason")
    parser.add_argument("--all", action="store_true", help=every)
    parser.add_argument("--by", metavar="NAME", help="who does it (default: the account)")
    parser.add_argument("--json", action="store_true", help="what was done as JSON")


def _place(text: str) -> Place:
    try:
        return Place.read(text)
    except ValueError:
        raise ArgumentTypeError(
            f"{text!r} is no place; write topic:partition:offset, as list shows it"
        ) from None


@contextmanager
def _writing(settings: Settings) -> Iterator[psycopg.Connection[Any]]:
    url = database_address(settings)
    with (
        translated(url),
        psycopg.connect(
            url, autocommit=True, connect_timeout=CONNECT_TIMEOUT, application_name="jobtrail-dead-letters"
        ) as connection,
    ):
        yield connection


def _list(options: Namespace) -> int:
    which = Which(options.reason, options.since, options.resolved)
    with reading(Settings.from_env()) as database:
        if options.reason is not None:
            letters.check_reason(database, options.reason)
        if options.reason is None and not options.all:
            groups = letters.groups(database, which)
            as_json(_groups_json(groups)) if options.json else _show_groups(groups, which)
            return 0
        found, total = letters.newest(database, which, options.limit)
    if options.json:
        as_json({"deadLetters": [_facts(one) for one in found], "totalCount": total})
    elif not found:
        line(_none(which), style="green")
    else:
        table(
            (
                "place",
                "came",
                "reason",
                "size",
                *(("what became of it",) if which.resolved else ()),
                "detail",
            ),
            [_cells(one, which) for one in found],
            ("size",),
        )
        if total > len(found):
            line(f"{len(found):,} of {total:,} dead letters; --limit shows more", style="dim")
    return 0


def _none(which: Which) -> str:
    kind = "retried or dropped" if which.resolved else "open"
    about = f" with reason {which.reason}" if which.reason else ""
    return f"no {kind} dead letters{about}{f' since {clock(which.since)}' if which.since else ''}"


def _show_groups(groups: Sequence[Group], which: Which) -> None:
    if not groups:
        line(_none(which), style="green")
        return
    table(
        ("reason", "letters", "first", "last", "example"),
        [
            [one.reason, amount(one.letters), clock(one.first_at), clock(one.last_at), one.place]
            for one in groups
        ],
        ("letters",),
    )


def _groups_json(groups: Sequence[Group]) -> dict[str, Any]:
    return {
        "reasons": [
            {
                "reason": one.reason,
                "count": one.letters,
                "firstAt": _instant(one.first_at),
                "lastAt": _instant(one.last_at),
                "example": one.place,
            }
            for one in groups
        ],
        "totalCount": sum(one.letters for one in groups),
    }


def _cells(one: KeptLetter, which: Which) -> list[str]:
    became = [_became(one)] if which.resolved else []
    return [str(one.place), clock(one.broker_at), one.reason, size(one.value_bytes), *became, one.detail]


def _became(one: KeptLetter) -> str:
    if one.resolution is None:
        return "open"
    where = f", as {one.retried_as}" if one.retried_as else ""
    return f"{one.resolution} {clock(one.resolved_at)} by {one.resolved_by}{where}"


def _facts(one: KeptLetter) -> dict[str, Any]:
    """A letter for programs, without its value."""
    return {
        "place": str(one.place),
        "topic": one.topic,
        "topicId": one.topic_id,
        "partition": one.partition,
        "offset": one.offset,
        "brokerAt": _instant(one.broker_at),
        "keptAt": _instant(one.kept_at),
        "reason": one.reason,
        "detail": one.detail,
        "keyBase64": _base64(one.key),
        "valueBytes": one.value_bytes,
        "publishedAt": _instant(one.published_at),
        "resolution": one.resolution,
        "resolvedAt": _instant(one.resolved_at),
        "resolvedBy": one.resolved_by,
        "retriedAs": one.retried_as,
    }


def _instant(found: datetime | None) -> str | None:
    return None if found is None else found.astimezone(UTC).isoformat(timespec="milliseconds")


def _base64(found: bytes | None) -> str | None:
    return None if found is None else base64.b64encode(found).decode()


def _show(options: Namespace) -> int:
    settings = Settings.from_env()
    with reading(settings) as database:
        letter = letters.letter_at(database, options.place)
    from jobtrail.consumers.retry_letters import examine  # and all of the projector

    found = examine(settings, letter)
    if options.json:
        as_json(
            {
                **_facts(letter),
                "valueBase64": _base64(letter.value),
                "schema": found.schema,
                "eventType": found.event_type,
                "fields": found.fields,
                "readableNow": found.why is None,
                "whyNot": found.why,
            }
        )
        return 0
    key = "none" if letter.key is None else f"{_text(letter.key)} ({size(len(letter.key))})"
    fields = "" if found.fields is None else f"{found.event_type} {json.dumps(found.fields)}"
    now = "readable; a retry takes it" if found.why is None else f"not readable: {found.why}"
    for name, said in {
        "place": f"{letter.place}, topic id {letter.topic_id}",
        "came": clock(letter.broker_at),
        "put aside": clock(letter.kept_at),
        "reason": letter.reason,
        "detail": letter.detail,
        "state": _became(letter),
        "schema": found.schema,
        "now": now,
        "fields": fields,
        "key": key,
        "value": "none" if letter.value is None else f"{len(letter.value):,} bytes",
    }.items():
        if said:
            line(f"{name:<10}", said)
    _show_bytes(letter.value or b"", whole=options.whole)
    return 0


def _text(found: bytes) -> str:
    """Bytes as text; those that are none are shown by their number, as control characters are."""
    return visible(found.decode(errors="backslashreplace"))


def _show_bytes(value: bytes, *, whole: bool) -> None:
    shown = value if whole else value[:SHOWN_BYTES]
    for at in range(0, len(shown), WIDTH):
        part = shown[at : at + WIDTH]
        seen = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in part)
        line(f"{at:08x}  {part.hex(' '):<{3 * WIDTH}} {seen}", indent=2)
    if shown:
        line("as text   ", _text(shown))
    if len(shown) < len(value):
        line(f"{len(value) - len(shown):,} bytes more; --whole shows them", style="dim")


def _chosen(options: Namespace, connection: psycopg.Connection[Any]) -> list[tuple[Key, KeptLetter | None]]:
    """The keys of what is chosen; with the letter where it was named. Raises UsageError for none or both."""
    ways = [bool(options.places), options.reason is not None, options.all]
    if sum(ways) != 1:
        raise UsageError(f"say which: places, --reason R, or --all; see `{options.parser.prog} --help`")
    if options.places:
        named = {
            letter.row_key: letter
            for letter in (letters.letter_at(connection, place) for place in options.places)
        }
        return [*named.items()]
    if options.reason is not None:
        letters.check_reason(connection, options.reason)
    return [(key, None) for key in letters.chosen(connection, options.reason)]


def _confirm(options: Namespace, question: str) -> None:
    """Raises UsageError where nobody can be asked, JobtrailError where the answer is no."""
    if options.yes:
        return
    if options.json or not sys.stdin.isatty():
        raise UsageError(f"nobody can be asked here: {question} If so, say --yes")
    if input(f"{question} [y/N] ").strip().lower() not in {"y", "yes"}:
        raise JobtrailError("nothing was done")


def _who(options: Namespace) -> str:
    return safe_name(options.by or account("jobtrail dead-letters"))


def _counted(count: int) -> str:
    return f"{count:,} dead letter{'s' * (count != 1)}"


def _retry(options: Namespace) -> int:
    from jobtrail.consumers.retry_letters import Retry

    settings = Settings.from_env()
    with _writing(settings) as connection:
        chosen = _chosen(options, connection)
    for _, letter in chosen:
        if letter is not None:
            letters.to_be("retried", letter)
    if chosen and not options.places:
        _confirm(options, f"Retry {_counted(len(chosen))}?")
    outcomes: list[Outcome] = []
    try:
        if chosen:
            with (
                translated(database_address(settings)),
                Shown(sys.stderr, quiet=EVERY) as shown,
                Retry(settings, _who(options)) as retry,
            ):
                for outcome in retry.run([key for key, _ in chosen]):
                    outcomes.append(outcome)
                    shown("retrying", len(outcomes), len(chosen))
    except (JobtrailError, KeyboardInterrupt):
        if outcomes:  # they are done
            _report_retried(outcomes, options)
        raise
    _report_retried(outcomes, options)
    return 1 if any(one.published is None for one in outcomes) else 0


def _report_retried(outcomes: Sequence[Outcome], options: Namespace) -> None:
    retried = [one for one in outcomes if one.published is not None]
    stay = [one for one in outcomes if one.published is None]
    if options.json:
        as_json(
            {
                "retried": [{"place": str(one.place), "publishedAs": str(one.published)} for one in retried],
                "stay": [
                    {"place": str(one.place), "reason": one.reason, "detail": one.detail} for one in stay
                ],
            }
        )
        return
    for one in stay[:SHOWN_REFUSALS]:
        print(f"jobtrail: {visible(f'{one.place} stays: {one.reason}: {one.detail}')}", file=sys.stderr)
    if len(stay) > SHOWN_REFUSALS:
        reasons = Counter(one.reason for one in stay[SHOWN_REFUSALS:]).most_common()
        rest = ", ".join(f"{count:,} {visible(reason)}" for reason, count in reasons)
        print(f"jobtrail: and {len(stay) - SHOWN_REFUSALS:,} more stay: {rest}", file=sys.stderr)
    if outcomes:
        line(f"retried {_counted(len(retried))}; {len(stay):,} stay open", style="red" if stay else "green")
    else:
        line("nothing to retry")


def _drop(options: Namespace) -> int:
    with _writing(Settings.from_env()) as connection:
        chosen = _chosen(options, connection)
        for _, letter in chosen:
            if letter is not None:
                letters.to_be("dropped", letter)
        if chosen:
            _confirm(options, f"Drop {_counted(len(chosen))}?")
        dropped = letters.drop(connection, [key for key, _ in chosen], _who(options))
    if options.json:
        as_json({"dropped": dropped})
    else:
        line(f"dropped {_counted(dropped)}" if chosen else "nothing to drop")
    return 0


def _export(options: Namespace) -> int:
    which = Which(options.reason, options.since, options.resolved)
    with reading(Settings.from_env()) as database:
        if options.reason is not None:
            letters.check_reason(database, options.reason)
        after = None if options.after is None else letters.letter_at(database, options.after)
        found = letters.every(database, which, after)
        if options.file == "-":
            _write(found, sys.stdout)
            return 0
        written = _to_file(options.file, lambda file: _write(found, file))
    line(f"exported {_counted(written)} to {options.file}")
    return 0


def _to_file(name: str, write: Callable[[TextIO], int]) -> int:
    try:
        with open(name, "x", encoding="ascii") as file:  # noqa: PTH123  # a name as the caller wrote it
            return write(file)
    except FileExistsError:
        raise UsageError(f"{name} is there already; name another file, or - for stdout") from None
    except OSError as error:
        raise UsageError(f"{name} cannot be written: {error.strerror or error}") from None


def _write(found: Iterator[KeptLetter], file: TextIO) -> int:
    written = 0
    for one in found:
        file.write(json.dumps({**_facts(one), "valueBase64": _base64(one.value)}) + "\n")
        written += 1
    return written
