"""argparse as our commands use it: examples in the help, errors as UsageError, the near name suggested."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, NoReturn

from jobtrail.errors import UsageError
from jobtrail.near import near

#: As `jobtrail.kinds.JOB_ID` has it; that module takes longer to load than a command may.
LARGEST_JOB_ID: Final = 2**53 - 1
LARGEST_ATTEMPT_NUMBER: Final = 1023


class Parser(argparse.ArgumentParser):
    """A parser whose help keeps its line breaks and whose errors are ours."""

    def __init__(self, *args: Any, **options: Any) -> None:
        options.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        options.setdefault("allow_abbrev", False)
        super().__init__(*args, **options)
        self._branches: dict[str, Parser] = {}

    def example(self, *lines: str) -> None:
        """Shows the lines below the options."""
        shown = "\n".join(f"  {line}" for line in lines)
        self.epilog = f"example{'s' * (len(lines) > 1)}:\n{shown}"

    def branch(self, name: str, description: str) -> Parser:
        """A subcommand of a command that also works without one and takes an argument: argparse has none."""
        self._branches[name] = Parser(prog=f"{self.prog} {name}", description=description)
        return self._branches[name]

    def format_help(self) -> str:
        """The help, with the description in lines of at most 80 characters."""
        self.description = textwrap.fill(self.description or "", 80)
        return super().format_help()

    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> argparse.Namespace:  # type: ignore[override]  # noqa: D102
        if args and args[0] in self._branches:
            return self._branches[args[0]].parse_args(args[1:], namespace)
        options: argparse.Namespace
        options, unknown = self.parse_known_args(args, namespace)
        if unknown:
            parser: Parser = getattr(options, "parser", self)
            known = parser._option_string_actions if unknown[0].startswith("-") else ()
            parser.error(f"{unknown[0]!r} is not known{near(unknown[0], known)}")
        return options

    def error(self, message: str) -> NoReturn:
        """Raises UsageError."""
        raise UsageError(f"{message}; see `{self.prog} --help`")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            known = [str(choice) for choice in action.choices]
            suggestion = near(str(value), known)
            raise argparse.ArgumentError(action, f"{value!r} is none of {', '.join(known)}{suggestion}")


def subcommands(parser: Parser, *, required: bool = True) -> argparse._SubParsersAction[Parser]:
    """Makes the parser want a subcommand, or take one."""
    return parser.add_subparsers(required=required, metavar="COMMAND", parser_class=Parser, title="commands")


def job_id(text: str) -> int:
    """A job id from the command line."""
    if not text.isascii() or not text.isdigit() or int(text[:20]) > LARGEST_JOB_ID:
        raise argparse.ArgumentTypeError(f"{text!r} is no job id (a number from 0 to {LARGEST_JOB_ID})")
    return int(text)


def attempt_number(text: str) -> int:
    """An attempt number from the command line."""
    if not text.isascii() or not text.isdigit() or int(text[:20]) > LARGEST_ATTEMPT_NUMBER:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no attempt number (from 0 to {LARGEST_ATTEMPT_NUMBER})"
        )
    return int(text)


def moment(text: str) -> datetime:
    """An instant from the command line."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no moment with an offset from UTC; write 2026-03-01T12:00:09Z or …T14:00:09+02:00"
        )
    return found


def positive(text: str) -> int:
    """A number from 1 to a million."""
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:20]) <= 1_000_000:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 to 1,000,000")
    return int(text)


def seconds(text: str) -> float:
    """A time span from 0 to a day, in seconds."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 86_400:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds from 0 to 86,400")
    return value
