"""What must not be told is taken out of text: known secrets first, then whatever has the shape of one.

What was there is replaced by its name between asterisks, such as `***password***`. Scrubbing twice gives the
same as once: the projector scrubs what the producer has published, and rows must not depend on who did.

Known are the values that this process was told of (`jobtrail.producers.secret_fields`), in the spellings in
which programs print them. Shapes are those of tokens that say by themselves what they are, passwords in URLs,
and values beside a name that says so. Whoever changes a shape changes the rows of old events, and raises
`jobtrail.projections.tables.VERSION`.

Every pattern takes time in proportion to the text: a connector may print whatever it likes.
"""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote, quote_plus

from jobtrail.events import Failure
from jobtrail.producers.safe_text import safe, shown

#: Characters kept of a message and of a stack trace; with the metadata they fit a Kafka message of 1 MB.
MESSAGE_LIMIT: Final = 50_000
STACKTRACE_LIMIT: Final = 100_000
#: The texts of a Failure, with what is kept of each.
LIMITS: Final[Mapping[str, int]] = {
    "internal_message": MESSAGE_LIMIT,
    "external_message": MESSAGE_LIMIT,
    "stacktrace": STACKTRACE_LIMIT,
}
#: A shorter value is left alone: it stands in any text, and replacing each "on" or "123" would leave none.
SHORTEST: Final = 4
#: From this length on the lines of a longer value are known by themselves: logs have one line at a time.
_SHORTEST_LINE: Final = 16
#: A replacement; what looks like one is never replaced.
_MARK: Final = r"\*\*\*[a-z0-9_]{1,60}\*\*\*"
#: How often what a replacement leaves is looked at again.
_ROUNDS: Final = 8

_NAMES: Final = (
    r"(?:pass(?:word|wd|phrase)|pwd|secret|private[_-]?key|api[_-]?key|access[_-]?key|account[_-]?key"
    r"|(?:access|refresh|auth|bearer|session|id|sas|security)[_-]?token)"
)
#: Of ASCII letters alone, as the projector looks for signs.
_ANY_CASE: Final = re.IGNORECASE | re.ASCII
_SAYS_SO: Final = re.compile(rf"{_NAMES}s?\Z|(?:\A|[_-])(?:tokens?|credentials?|key_id)\Z", _ANY_CASE)
_HUMP: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def says_secret(name: str) -> bool:
    """Whether a field's name says that its value is secret, such as db_password, apiKey or token."""
    return _SAYS_SO.search(_HUMP.sub("_", name)) is not None


@dataclass(frozen=True, slots=True)
class Shape:
    """What a secret looks like."""

    name: str
    #: One of these, in lower case, is in every text that has it.
    signs: tuple[str, ...]
    #: The named group that matched is secret; where there is none, all of it. Compiled when there is a sign:
    #: most processes see none.
    pattern: str
    flags: re.RegexFlag = re.NOFLAG

    def hide(self, text: str) -> str:
        """`text` without it."""
        return re.sub(self.pattern, self._hidden, text, flags=self.flags)

    def _hidden(self, found: re.Match[str]) -> str:
        group = found.lastgroup or 0
        start, end = found.start(group) - found.start(), found.end(group) - found.start()
        return f"{found[0][:start]}***{self.name}***{found[0][end:]}"


#: Not a replacement.
_NEW: Final = r"(?!\*\*\*)"
#: No part of a word goes before it, but the end of an escape: a colour's, or \n in a text that is quoted.
_ALONE: Final = r"(?:(?<![A-Za-z0-9])|(?<=[\\\[0-9;][A-Za-z0-9]))"
_KEY: Final = r"[A-Z ]{0,30}PRIVATE KEY(?: BLOCK)?-----"
_QUOTED: Final = (
    rf'"{_NEW}(?P<double>(?:[^"\\\n]|\\.)++)'
    rf"|'{_NEW}(?P<single>(?:[^'\\\n]|\\.)++)"
    # Within a text that is quoted itself.
    rf"|\\++[\"']{_NEW}(?P<escaped>(?:[^\"'\\\n]|\\++[^\"'\\\n])++)"
)
SHAPES: Final = (
    Shape(
        "private_key",
        ("-----begin",),
        rf"-----BEGIN {_KEY}(?:(?:[^-]|-(?!----))*+-----END {_KEY}|[A-Za-z0-9+/=\s\\]*+)",
    ),
    Shape(
        "password",
        ("://",),
        rf"(?<=://)[^\s/?#:@\"'<>]*+:{_NEW}(?P<it>[^\s/?#\"'<>]+)@",
    ),
    Shape(
        "token",
        ("authorization",),
        rf"authorization\\*+[\"']?\s*+[:=]\s*+\\*+[\"']?(?:[a-z]{{1,20}} ++)?+{_NEW}"
        r"(?P<it>[^\s\"',;)\]}\\]{4,}+)",
        _ANY_CASE,
    ),
    Shape(
        "token",
        ("bearer", "basic"),
        rf"{_ALONE}(?:bearer|basic)\s{{1,5}}+(?P<it>(?=[a-z._~+/-]*+[0-9=])[a-z0-9._~+/=-]{{8,}}+)",
        _ANY_CASE,
    ),
    Shape(
        "secret",
        ("pass", "pwd", "secret", "key", "token"),
        rf"{_NAMES}s?\\*+[\"']?\s{{0,5}}+[:=]\s{{0,5}}+(?:{_QUOTED}"
        rf"|{_NEW}(?P<bare>(?!(?:none|null|true|false)\b)[^\s,;&\"'()<>{{}}\[\]\\]++))",
        _ANY_CASE,
    ),
    Shape(
        "signature",
        ("sig=", "signature=", "token="),
        rf"(?<=[?&])(?:sig|token|[a-z-]{{0,20}}signature)={_NEW}(?P<it>[^\s&#\"'<>\\]++)",
        _ANY_CASE,
    ),
    Shape(
        "token",
        ("akia", "asia", "abia", "acca"),
        rf"{_ALONE}A(?:KIA|SIA|BIA|CCA)[A-Z0-9]{{16}}(?![A-Za-z0-9])",
    ),
    Shape(
        "token",
        ("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-"),
        rf"{_ALONE}(?:gh[pousr]_|github_pat_|glpat-)[A-Za-z0-9_-]{{20,}}+",
    ),
    Shape(
        "token",
        ("xox", "xapp-"),
        rf"{_ALONE}(?:xox[a-z]|xapp)-[A-Za-z0-9-]{{10,}}+",
    ),
    Shape(
        "token",
        ("sk-", "sk_", "rk_"),
        rf"{_ALONE}(?:sk-|[sr]k_(?:live|test)_)[A-Za-z0-9_-]{{16,}}+",
    ),
    Shape(
        "token",
        ("eyj",),
        rf"{_ALONE}eyJ[A-Za-z0-9_-]{{8,2000}}+\.[A-Za-z0-9_-]{{8,}}+(?:\.[A-Za-z0-9_-]*+)?",
    ),
    Shape(
        "token",
        ("aiza", "ya29."),
        rf"{_ALONE}(?:AIza[A-Za-z0-9_-]{{35}}|ya29\.[A-Za-z0-9_.-]{{20,}}+)",
    ),
)
#: Where none of these is, in any case of its letters, no shape is.
SIGNS: Final = tuple(sorted({sign for shape in SHAPES for sign in shape.signs}))
#: The same for JSON, where names count too, and letters may be spelled by their numbers.
JSON_SIGNS: Final = (*SIGNS, "credential", *(rf"\{letter}" for letter in "u/bfr"))
#: A text in JSON, and the one that follows a name.
_LITERAL: Final = r'"(?:[^"\\]|\\.)*+"'
_JSON_TEXTS: Final = re.compile(rf"({_LITERAL})(?:(\s*:\s*)({_LITERAL})?)?", re.DOTALL)


def without_shapes(text: str) -> str:
    """`text` without what looks like a secret."""
    lowered = text.lower()
    for shape in SHAPES:
        if any(sign in lowered for sign in shape.signs):
            text = shape.hide(text)
    return text


class Secrets:
    """What is known to be secret; any thread may add to it and scrub."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        self._known: re.Pattern[str] | None = None
        self._lock = threading.Lock()

    def add(self, found: Iterable[tuple[str, str]]) -> None:
        """From now on these are known: the name of each, and its value.

        Values of fewer than 4 characters are left out, for they stand in any text.
        """
        with self._lock:
            for name, value in found:
                mark = f"***{re.sub('[^a-z0-9]+', '_', name.lower())[:60].strip('_') or 'secret'}***"
                for spelling in _spellings(value):
                    self._names.setdefault(spelling, mark)
            # The longest first: a secret may be part of another.
            known = sorted(self._names, key=len, reverse=True)
            self._known = re.compile("|".join([_MARK, *map(re.escape, known)])) if known else None

    def text(self, text: str) -> str:
        """`text` without what is known to be secret, and what looks like it."""
        for _ in range(_ROUNDS):
            scrubbed = text
            if self._known is not None:
                scrubbed = self._known.sub(lambda found: self._names.get(found[0], found[0]), scrubbed)
            scrubbed = without_shapes(scrubbed)
            if scrubbed == text:
                break
            text = scrubbed
        return text

    def fit(self, text: str, limit: int) -> str:
        """The same without control characters: at most `limit` characters, head and tail, with a note.

        It is cut after it is scrubbed, so that no half of a secret is left, and looked at again.
        """
        for _ in range(_ROUNDS):
            fitting = safe(shown(self.text(text)), limit)
            if fitting == text:
                break
            text = fitting
        return text

    def json_text(self, text: str) -> str:
        """JSON with each of its texts scrubbed, and those whose names say that they are secret replaced.

        All else stays as it is spelled.
        """
        return _JSON_TEXTS.sub(self._literals, text)

    def fields(self, facts: Mapping[str, Any]) -> dict[str, Any]:
        """Those fields of a Failure that scrubbing and its limits change, as they are then."""
        changed = {}
        for name, limit in LIMITS.items():
            if isinstance(said := facts.get(name), str) and (fitting := self.fit(said, limit)) != said:
                changed[name] = fitting
        if isinstance(said := facts.get("metadata"), str) and (fitting := self.json_text(said)) != said:
            changed["metadata"] = fitting
        return changed

    def failure(self, event: Failure) -> Failure:
        """The same failure, fit to be published."""
        changed = self.fields(dict(event))
        return event.model_copy(update=changed) if changed else event

    def _literals(self, found: re.Match[str]) -> str:
        first, between, second = found.groups("")
        if not second:
            return self._literal(first) + between
        name = _spoken(first)
        if name is not None and says_secret(name) and re.fullmatch(_MARK, second[1:-1]) is None:
            second = '"***secret***"'
        return self._literal(first) + between + self._literal(second)

    def _literal(self, literal: str) -> str:
        said = _spoken(literal)
        if said is None:
            return literal
        text = said
        for _ in range(_ROUNDS):  # a control character that is shown may end a word
            scrubbed = shown(self.text(text))
            if scrubbed == text:
                break
            text = scrubbed
        return literal if text == said else json.dumps(text)


def _spoken(literal: str) -> str | None:
    """What a text of JSON says; None where it is none after all."""
    try:
        return str(json.loads(literal))
    except ValueError:
        return None


def _spellings(value: str) -> Iterator[str]:
    """How programs print a value: as it is, in JSON, as Python's repr, in a URL, in base64, line by line."""
    if len(value) < SHORTEST:
        return
    data = value.encode("utf-8", "surrogatepass")
    encoded = base64.b64encode(data).decode().rstrip("=")
    in_urls = {quote(data, safe=""), quote(data), quote_plus(data)}
    yield from {
        value,
        json.dumps(value)[1:-1],
        json.dumps(value, ensure_ascii=False)[1:-1],
        repr(value)[1:-1],
        *in_urls,
        *(re.sub("%..", lambda found: found[0].lower(), in_url) for in_url in in_urls),
    }
    if len(encoded) >= 2 * SHORTEST:
        yield from {encoded, encoded.replace("+", "-").replace("/", "_")}
    lines = value.splitlines()
    if len(lines) > 1:
        yield from (line.strip() for line in lines if len(line.strip()) >= _SHORTEST_LINE)


#: What this process was told of. All that it publishes, logs and prints of failures is scrubbed of it.
known: Final = Secrets()
#: What whoever knows no secret can take out: the projector, so that its rows are the same on every machine.
shapes: Final = Secrets()
