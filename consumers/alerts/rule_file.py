"""A file of rules, TOML or YAML, to rules; each mistake is told with its line, field and allowed values."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path as FilePath
from types import MappingProxyType
from typing import Any, Final

from jobtrail.consumers.alerts import rules as r
from jobtrail.consumers.alerts.positions import Document, Path, SyntaxProblemError, read_toml, read_yaml
from jobtrail.errors import UsageError
from jobtrail.kinds import NAME, micros
from jobtrail.near import near

#: Suffix → how it is read.
READERS: Final = MappingProxyType({".toml": read_toml, ".yaml": read_yaml, ".yml": read_yaml})
#: Most bytes of a file.
LARGEST: Final = 1_000_000
UNITS: Final = MappingProxyType({"s": r.SECOND, "m": r.MINUTE, "h": r.HOUR, "d": r.DAY, "w": r.WEEK})
#: Channels that need no declaration.
LOG: Final = "log"
COMMON: Final = ("name", "kind", "severity", "connections", "workspaces", "send")
PAUSE: Final = ("connections", "from", "until", "reason")
WEBHOOK: Final = ("url_env", "secret_env")
TOP: Final = ("rules", "pauses", "webhooks")


@dataclass(frozen=True, slots=True)
class Mistake:
    """What is wrong, and where."""

    line: int
    #: As in rules[1].kind; empty: the file.
    field: str
    #: What was found, and what is allowed.
    found: str

    def __str__(self) -> str:
        return f"{self.field}: {self.found}" if self.field else self.found


class RuleFileError(UsageError):
    """A file of rules has mistakes: carries them, in the order of their lines. The message has the first."""

    def __init__(self, file: FilePath | str, mistakes: Iterable[Mistake]) -> None:
        self.file = str(file)
        self.mistakes = sorted(mistakes, key=lambda mistake: mistake.line)
        more = len(self.mistakes) - 1
        rest = f" (and {more} more; `jobtrail alerts check` shows all)" if more else ""
        super().__init__(f"{self.told(self.mistakes[0])}{rest}")

    def told(self, mistake: Mistake) -> str:
        """As compilers do: file, line, what is wrong."""
        return f"{self.file}:{mistake.line}: {mistake}"


def load(file: FilePath | str) -> r.RuleSet:
    """Reads and checks a file. Raises RuleFileError, and UsageError where there is none that can be read."""
    path = FilePath(file)
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        known = ", ".join(READERS)
        raise UsageError(f"{file}: a file of rules ends with {known}, and this one with {path.suffix!r}")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{file}: cannot be read ({error.strerror or error})") from None
    if len(content) > LARGEST:
        raise UsageError(f"{file}: has {len(content):,} bytes; a file of rules has at most {LARGEST:,}")
    try:
        return parse(reader(content.decode()), file)
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise RuleFileError(file, [Mistake(line, "", "this is no UTF-8; save the file as UTF-8")]) from None
    except SyntaxProblemError as error:
        kind = "TOML" if reader is read_toml else "YAML"
        raise RuleFileError(file, [Mistake(error.line, "", f"no {kind}: {error.found}")]) from None


def parse(document: Document, file: FilePath | str) -> r.RuleSet:
    """The rules of a document. Raises RuleFileError."""
    return _Reading(document, file).rule_set()


class _Reading:
    """One reading of a document; collects its mistakes."""

    def __init__(self, document: Document, file: FilePath | str) -> None:
        self._document, self._file = document, file
        self._mistakes: list[Mistake] = []

    def rule_set(self) -> r.RuleSet:
        top = self._document.values
        if not isinstance(top, dict):
            self._wrong((), "it has no [[rules]]; docs/alerts.md shows one of each kind")
            raise RuleFileError(self._file, self._mistakes)
        self._known((), top, TOP)
        webhooks = self._webhooks(top.get("webhooks", {}))
        pauses = tuple(filter(None, (self._pause(at, table) for at, table in self._tables(top, "pauses"))))
        tables = self._tables(top, "rules")
        found = tuple(filter(None, (self._rule(at, table, webhooks) for at, table in tables)))
        if not tables and not self._mistakes:
            self._wrong((), "it has no [[rules]]; docs/alerts.md shows one of each kind")
        self._unique(tables)
        if self._mistakes:
            raise RuleFileError(self._file, self._mistakes)
        return r.RuleSet(found, pauses, MappingProxyType(webhooks))

    # ---- mistakes

    def _wrong(self, path: Path, found: str) -> None:
        name = "".join(f"[{part + 1}]" if isinstance(part, int) else f".{part}" for part in path)
        self._mistakes.append(Mistake(self._document.line(path), name.removeprefix("."), found))

    def _known(self, path: Path, table: Mapping[str, Any], fields: Iterable[str]) -> None:
        fields = tuple(fields)
        for name in table:
            if name not in fields:
                listed = ", ".join(fields)
                self._wrong((*path, name), f"no such field; known are {listed}{near(str(name), fields)}")

    def _tables(self, top: Mapping[str, Any], name: str) -> list[tuple[Path, Mapping[str, Any]]]:
        listed = top.get(name, [])
        if not isinstance(listed, list):
            self._wrong((name,), f"is {_what(listed)}, and must be a list of tables: [[{name}]]")
            return []
        found: list[tuple[Path, Mapping[str, Any]]] = []
        for place, table in enumerate(listed):
            if isinstance(table, dict):
                found.append(((name, place), table))
            else:
                self._wrong((name, place), f"is {_what(table)}, and must be a table with fields")
        return found

    def _unique(self, tables: list[tuple[Path, Mapping[str, Any]]]) -> None:
        seen: dict[object, Path] = {}
        for path, table in tables:
            name = table.get("name")
            if isinstance(name, str) and name in seen:
                first = self._document.line((*seen[name], "name"))
                self._wrong((*path, "name"), f"{name!r} is the name of the rule in line {first} too")
            elif isinstance(name, str):
                seen[name] = path

    # ---- parts of the file

    def _rule(self, path: Path, table: Mapping[str, Any], webhooks: Mapping[str, r.Webhook]) -> r.Rule | None:
        before = len(self._mistakes)
        name = self._text((*path, "name"), table, required="a name that is this rule's own")
        kind = self._choice((*path, "kind"), table, r.RuleKind, None)
        severity = self._choice((*path, "severity"), table, r.Severity, r.Severity.WARNING)
        connections, workspaces = (
            self._names((*path, field), table.get(field)) for field in ("connections", "workspaces")
        )
        send = self._send(path, table, webhooks)
        if kind is None:
            return None
        self._fields_of(path, table, kind)
        if not kind.by_connection and (connections or workspaces):
            field = "connections" if connections else "workspaces"
            self._wrong((*path, field), f"{kind} is about the whole installation; leave {field} out")
        thresholds = r.defaults(kind)
        for field, threshold in r.THRESHOLDS[kind].items():
            if field in table:
                value = self._measure((*path, field), table[field], threshold)
                thresholds[field] = threshold.default if value is None else value
        if len(self._mistakes) > before or name is None or severity is None:
            return None
        return r.Rule(name, kind, MappingProxyType(thresholds), severity, connections, workspaces, send)

    def _fields_of(self, path: Path, table: Mapping[str, Any], kind: r.RuleKind) -> None:
        """Each field of a rule is one of all rules, or one of its kind."""
        known = (*COMMON, *r.THRESHOLDS[kind])
        for name in table:
            if name in known:
                continue
            owners = [other for other in r.RuleKind if name in r.THRESHOLDS[other]]
            if owners:
                self._wrong(
                    (*path, name),
                    f"belongs to {' and '.join(owners)}; {kind} has {', '.join(r.THRESHOLDS[kind])}",
                )
            else:
                self._wrong(
                    (*path, name), f"no such field; {kind} has {', '.join(known)}{near(str(name), known)}"
                )

    def _send(
        self, path: Path, table: Mapping[str, Any], webhooks: Mapping[str, r.Webhook]
    ) -> tuple[str, ...]:
        if "send" not in table:
            return (LOG,)
        listed = table["send"]
        if not isinstance(listed, list) or not all(isinstance(one, str) for one in listed):
            self._wrong((*path, "send"), f"is {_what(listed)}, and must be a list of names, such as ['log']")
            return ()
        known = (LOG, *webhooks)
        for place, one in enumerate(listed):
            if one not in known:
                self._wrong(
                    (*path, "send", place),
                    f"{one!r} is none of {', '.join(known)}{near(one, known)}; [webhooks.NAME] declares one",
                )
        return tuple(dict.fromkeys(listed))

    def _pause(self, path: Path, table: Mapping[str, Any]) -> r.Pause | None:
        before = len(self._mistakes)
        self._known(path, table, PAUSE)
        connections = self._names((*path, "connections"), table.get("connections"))
        began, ended = (self._moment((*path, field), table, field) for field in ("from", "until"))
        reason = self._text((*path, "reason"), table) or ""
        if began is None or ended is None or len(self._mistakes) > before:
            return None
        if ended <= began:
            self._wrong((*path, "until"), "is not later than `from`")
            return None
        return r.Pause(began, ended, connections, reason)

    def _webhooks(self, tables: Any) -> dict[str, r.Webhook]:
        if not isinstance(tables, dict):
            self._wrong(("webhooks",), f"is {_what(tables)}, and must be tables with a name: [webhooks.NAME]")
            return {}
        found = {}
        for name, table in tables.items():
            path: Path = ("webhooks", name)
            if name == LOG:
                self._wrong(path, "'log' is what `send` calls the log; take another name")
                continue
            if not isinstance(table, dict):
                self._wrong(path, f"is {_what(table)}, and must be a table with url_env")
                continue
            secret = next((field for field in ("url", "secret") if field in table), None)
            if secret:
                self._wrong(
                    (*path, secret),
                    f"must not stand in the file; name the environment variable that holds it: {secret}_env",
                )
                continue
            self._known(path, table, WEBHOOK)
            url = self._variable((*path, "url_env"), table, required=True)
            key = self._variable((*path, "secret_env"), table)
            if url:
                found[str(name)] = r.Webhook(str(name), url, key)
        # One with a mistake is known all the same, so that whoever sends to it is not told of it again.
        return {**{str(name): r.Webhook(str(name), "") for name in tables if name != LOG}, **found}

    # ---- values

    def _text(self, path: Path, table: Mapping[str, Any], required: str = "") -> str | None:
        value = table.get(str(path[-1]))
        if value is None:
            if required:
                self._wrong(path, f"is missing: {required}")
            return None
        if not isinstance(value, str) or not value.strip():
            self._wrong(path, f"is {_what(value)}, and must be a text")
            return None
        if problem := NAME.problem(value):
            self._wrong(path, problem.detail)
            return None
        return value

    def _choice(self, path: Path, table: Mapping[str, Any], choices: Any, default: Any) -> Any:
        value = table.get(str(path[-1]), default)
        known = [str(choice) for choice in choices]
        if value is None:
            self._wrong(path, f"is missing: one of {', '.join(known)}")
            return None
        if not isinstance(value, str) or value not in known:
            shown = repr(value) if isinstance(value, str) else _what(value)
            self._wrong(path, f"{shown} is none of {', '.join(known)}{near(str(value), known)}")
            return None
        return choices(value)

    def _names(self, path: Path, value: Any) -> frozenset[str]:
        if value is None:
            return frozenset()
        if not isinstance(value, list) or not all(isinstance(one, str) and one for one in value):
            self._wrong(path, f"is {_what(value)}, and must be a list of ids in quotation marks")
            return frozenset()
        if not value:
            self._wrong(path, "is an empty list; leave it out for all")
        return frozenset(value)

    def _measure(self, path: Path, value: Any, threshold: r.Threshold) -> float | None:
        if threshold.measure == "span":
            return self._span(path, value, threshold)
        whole = threshold.measure == "count"
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if (
            not number
            or not threshold.lowest <= value <= threshold.highest
            or (whole and value != int(value))
        ):
            kind = "a whole number" if whole else "a number"
            between = f"from {threshold.lowest:g} to {threshold.highest:g}"
            self._wrong(path, f"is {_what(value)}, and must be {kind} {between}: {threshold.meaning}")
            return None
        return float(value)

    def _span(self, path: Path, value: Any, threshold: r.Threshold) -> float | None:
        found = re.fullmatch(r"(\d{1,6})\s*([smhdw])", value) if isinstance(value, str) else None
        if found is None:
            example = '"90s", "15m", "6h", "4d" or "2w"'
            self._wrong(path, f"is {_what(value)}, and must be a span of time such as {example}")
            return None
        span = int(found[1]) * UNITS[found[2]]
        if not threshold.lowest <= span <= threshold.highest:
            self._wrong(path, f"is {value}, and must be from 1m to 400d: {threshold.meaning}")
            return None
        return float(span)

    def _moment(self, path: Path, table: Mapping[str, Any], field: str) -> int | None:
        value = table.get(field)
        example = "write 2026-12-24T00:00:00Z"
        if value is None:
            self._wrong(path, f"is missing; {example}")
            return None
        if isinstance(value, str):
            try:
                value = datetime.fromisoformat(value)
            except ValueError:
                self._wrong(path, f"{value!r} is no moment; {example}")
                return None
        if not isinstance(value, datetime) or value.tzinfo is None:
            self._wrong(path, f"is {_what(value)}, and must be a moment with an offset from UTC; {example}")
            return None
        return micros(value)

    def _variable(self, path: Path, table: Mapping[str, Any], *, required: bool = False) -> str | None:
        name = self._text(path, table, "the environment variable that holds the address" if required else "")
        if name is None:
            return None
        if not re.fullmatch(r"[A-Z_][A-Z0-9_]*", name):
            self._wrong(
                path, "is no name of an environment variable; an address or a key must not stand here"
            )
            return None
        if name.startswith("JOBTRAIL_"):
            self._wrong(path, f"{name!r}: JOBTRAIL_* are Jobtrail's own; take another name")
            return None
        return name


def _what(value: Any) -> str:
    """A value as a message names it."""
    match value:
        case None:
            return "empty"
        case bool():
            return str(value).lower()
        case str():
            return repr(value) if value else "an empty text"
        case dict():
            return "a table"
        case list():
            return "a list of other things" if value else "an empty list"
        case _:
            return str(value)
