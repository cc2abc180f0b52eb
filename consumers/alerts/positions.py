"""TOML and YAML with the line of every key: what a message about a mistake needs. Pure."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

#: From the top to a value: names of keys, and numbers of list items, from 0.
Path = tuple[str | int, ...]

_HEADER: Final = re.compile(r"\s*(\[\[?)([^\]\n]+)\]\]?\s*(?:#.*)?$")
_KEY: Final = re.compile(r"\s*((?:[A-Za-z0-9_-]+|\"[^\"\n]*\"|'[^'\n]*')(?:\s*\.\s*[A-Za-z0-9_\"'-]+)*)\s*=")


class SyntaxProblemError(ValueError):
    """The text is no TOML or YAML: carries the line, and what was found."""

    def __init__(self, line: int, found: str) -> None:
        super().__init__(found)
        self.line = line
        self.found = found


@dataclass(frozen=True, slots=True)
class Document:
    """A document's values, and the line of each."""

    values: Any
    lines: Mapping[Path, int]

    def line(self, path: Path) -> int:
        """The line of a value, or of the nearest one around it whose line is known; the first is 1."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)


def read_toml(text: str) -> Document:
    """Raises SyntaxProblemError."""
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        place = re.search(r"\(at line (\d+)", str(error))
        end = text.count("\n") + (not text.endswith("\n"))
        found = re.sub(r"\s*\(at (line|end).*\)$", "", str(error))
        raise SyntaxProblemError(int(place[1]) if place else max(1, end), found) from None
    return Document(values, _toml_lines(text))


def _toml_lines(text: str) -> dict[Path, int]:
    """The lines of tables and keys of a text that is TOML; those within inline tables have their key's."""
    lines: dict[Path, int] = {}
    counts: dict[Path, int] = {}
    table: Path = ()
    skipping = ""  # what ends the string or list that goes on over lines
    for number, line in enumerate(text.splitlines(), 1):
        if skipping:
            skipping = _open_after(line, skipping)
        elif header := _HEADER.match(line):
            path = _resolved(_names(header[2]), counts)
            if header[1] == "[[":
                counts[path] = counts.get(path, -1) + 1
                path = (*path, counts[path])
            lines.setdefault(path, number)
            lines.setdefault(path[:1], number)
            table = path
        elif key := _KEY.match(line):
            path = (*table, *_names(key[1]))
            lines.setdefault(path, number)
            skipping = _open_after(line[key.end() :], "")
    return lines


def _names(dotted: str) -> Path:
    return tuple(name.strip().strip("\"'") for name in dotted.split("."))


def _resolved(names: Path, counts: Mapping[Path, int]) -> Path:
    """With the number of the last item for each list of tables on the way."""
    path: Path = ()
    for place, name in enumerate(names):
        path = (*path, name)
        if path in counts and place < len(names) - 1:
            path = (*path, counts[path])
    return path


def _open_after(line: str, skipping: str) -> str:
    """What still has to come to end the string or list that is open at the end of a line; "": nothing."""
    rest, depth = line, skipping.count("]")
    if skipping in {'"""', "'''"}:
        _, ended, rest = rest.partition(skipping)
        if not ended:
            return skipping
    while rest:
        token = re.search(r'"""|\'\'\'|"(?:[^"\\]|\\.)*"|\'[^\']*\'|[\[\]#]', rest)
        if token is None or token[0] == "#":
            break
        rest = rest[token.end() :]
        if token[0] in {'"""', "'''"}:
            _, ended, rest = rest.partition(token[0])
            if not ended:
                return token[0]
        depth += {"[": 1, "]": -1}.get(token[0], 0)
    return "]" * max(depth, 0)


def read_yaml(text: str) -> Document:
    """Raises SyntaxProblemError, also for a key that is there twice."""
    import yaml

    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        lines: dict[Path, int] = {}
        if root is not None:
            _walk(root, (), lines)
        values = yaml.safe_load(text)
    except SyntaxProblemError:
        raise
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = error.problem or error.context or "it cannot be read"
        raise SyntaxProblemError(mark.line + 1 if mark else 1, problem) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise SyntaxProblemError(1, " ".join(str(error).split()) or "it cannot be read") from None
    return Document(values, lines)


def _walk(node: Any, path: Path, lines: dict[Path, int]) -> None:
    import yaml

    lines.setdefault(path, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            name = str(key.value)
            if name in seen:
                raise SyntaxProblemError(key.start_mark.line + 1, f"{name!r} is there twice")
            seen.add(name)
            lines[*path, name] = key.start_mark.line + 1
            _walk(value, (*path, name), lines)
    elif isinstance(node, yaml.SequenceNode):
        for place, item in enumerate(node.value):
            _walk(item, (*path, place), lines)
