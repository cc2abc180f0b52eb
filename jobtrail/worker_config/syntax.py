"""How the values of worker configuration are written, by Kubernetes' rules. Each parser raises PartError.

    pairs         key=value,key={"json": 1, "as": "today's Airbyte has it"}
    tolerations   key=dedicated,operator=Equal,value=sync,effect=NoSchedule;operator=Exists
    quantities    500m, 1.5, 2Gi

Airbyte passes over parts that it cannot read. Here they are errors: a pod on the wrong node is found late.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from typing import Final, Literal, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field

Operator = Literal["Exists", "Equal"]
Effect = Literal["NoSchedule", "PreferNoSchedule", "NoExecute"]
PullPolicy = Literal["Always", "IfNotPresent", "Never"]
T = TypeVar("T", bound=str)

_OPERATORS: Final[tuple[Operator, ...]] = get_args(Operator)
_EFFECTS: Final[tuple[Effect, ...]] = get_args(Effect)
_PULL_POLICIES: Final[tuple[PullPolicy, ...]] = get_args(PullPolicy)

_NAME: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
_NAME_RULE: Final = "it has {} to 63 letters, digits, '-', '_', '.', with a letter or digit at each end"
_DNS_LABEL: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_DNS_SUBDOMAIN: Final = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*")
_VARIABLE: Final = re.compile(r"[A-Za-z_.-][A-Za-z0-9_.-]*")
_QUANTITY: Final = re.compile(
    r"(?P<number>\d+\.?\d*|\.\d+)(?:(?P<suffix>[KMGTPE]i|[numkMGTPE])|[eE](?P<exponent>[+-]?\d{1,2}))?",
    re.ASCII,
)
_SUFFIXES: Final = {
    **{suffix: Decimal(10) ** (3 * power) for power, suffix in enumerate("num", -3)},
    **{suffix: Decimal(10) ** (3 * power) for power, suffix in enumerate("kMGTPE", 1)},
    **{f"{suffix}i": Decimal(1024) ** power for power, suffix in enumerate("KMGTPE", 1)},
}
#: Kubernetes takes more for this.
_LARGEST: Final = 2**63 - 1


class PartError(ValueError):
    """A part of a value is wrong: carries the part as it was written, and what is wrong with it."""

    def __init__(self, part: str, why: str) -> None:
        super().__init__(f"{part!r} {why}")
        self.part = part
        self.why = why


class Toleration(BaseModel):
    """A taint that pods may meet on their node."""

    model_config = ConfigDict(frozen=True)

    key: str | None = Field(None, description="Absent: any taint; the operator is then Exists.")
    operator: Operator = "Equal"
    effect: Effect | None = Field(None, description="Absent: any effect.")
    value: str | None = Field(None, description="What the taint must have; only with Equal.")


def label_pairs(text: str) -> dict[str, str]:
    """Labels of a pod, or those that its node must have."""
    return _pairs(text, _check_key, _check_label_value)


def annotation_pairs(text: str) -> dict[str, str]:
    """As labels, but values may be any text; commas need braces around them, as JSON objects have."""
    # Kubernetes checks keys of annotations in lower case.
    return _pairs(text, lambda key, part: _check_key(key.lower(), part), lambda _value, _part: None)


def _pairs(
    text: str, check_key: Callable[[str, str], None], check_value: Callable[[str, str], None]
) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in _split(text):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals:
            raise PartError(part, "has no '='")
        if key in found:
            raise PartError(part, f"names {key!r} a second time")
        check_key(key, part)
        check_value(value, part)
        found[key] = value
    return found


def _split(text: str) -> Iterator[str]:
    """The parts between commas that stand in no braces; empty ones are left out."""
    depth = begin = 0
    for at, character in enumerate(text):
        depth += (character == "{") - (character == "}")
        if depth < 0:
            break
        if character == "," and not depth:
            yield from filter(None, [text[begin:at].strip()])
            begin = at + 1
    if depth:
        raise PartError(text[begin:].strip(), "has a brace without its other one")
    yield from filter(None, [text[begin:].strip()])


def _check_key(key: str, part: str) -> None:
    prefix, slash, name = key.rpartition("/")
    if slash and not (len(prefix) <= 253 and _DNS_SUBDOMAIN.fullmatch(prefix)):
        raise PartError(part, f"has a key whose prefix {prefix!r} is no DNS name")
    if not _NAME.fullmatch(name):
        raise PartError(part, f"has the key {name!r}; {_NAME_RULE.format(1)}")


def _check_label_value(value: str, part: str) -> None:
    if value and not _NAME.fullmatch(value):
        raise PartError(
            part,
            f"has the value {value!r}; {_NAME_RULE.format(0)}",
        )


def pairs_text(pairs: Mapping[str, str]) -> str:
    """The pairs as they are written."""
    return ",".join(f"{key}={value}" for key, value in pairs.items())


def tolerations(text: str) -> tuple[Toleration, ...]:
    """Tolerations between semicolons, of key=, operator=, effect= and value=; empty ones are left out."""
    return tuple(_toleration(part) for part in map(str.strip, text.split(";")) if part)


def _toleration(part: str) -> Toleration:
    said: dict[str, str] = {}
    for piece in part.split(","):
        field, equals, value = (text.strip() for text in piece.partition("="))
        if field not in Toleration.model_fields or not equals:
            raise PartError(part, f"has {piece.strip()!r}, which is none of key=, operator=, effect=, value=")
        if field in said:
            raise PartError(part, f"has {field}= twice")
        if value:
            said[field] = value
    operator = _one_of(_OPERATORS, said.get("operator", "Equal"), part, "operator")
    effect = _one_of(_EFFECTS, said["effect"], part, "effect") if "effect" in said else None
    if "key" in said:
        _check_key(said["key"], part)
    elif operator == "Equal":
        raise PartError(part, "has no key; without one the operator is Exists")
    if "value" in said and operator == "Exists":
        raise PartError(part, "has a value, which the operator Exists does not take")
    _check_label_value(said.get("value", ""), part)
    return Toleration(key=said.get("key"), operator=operator, effect=effect, value=said.get("value"))


def _one_of(known: tuple[T, ...], value: str, part: str, what: str = "") -> T:
    for one in known:
        if one == value:
            return one
    raise PartError(part, f"{what and f'has {what}={value}, which '}is none of {', '.join(map(str, known))}")


def tolerations_text(found: tuple[Toleration, ...]) -> str:
    """The tolerations as they are written."""
    return ";".join(pairs_text(one.model_dump(exclude_none=True)) for one in found)


def cpu(text: str) -> str:
    """CPUs, as they were written."""
    amount(text)
    return text


def memory(text: str) -> str:
    """Bytes, as they were written. 400m, which Kubernetes takes for 0.4 bytes, is an error."""
    if amount(text) % 1:
        raise PartError(text, "is no whole number of bytes; a mebibyte is Mi, a megabyte M")
    return text


def amount(text: str) -> Decimal:
    """A quantity as a number of CPUs or bytes."""
    match = _QUANTITY.fullmatch(text)
    if match is None:
        raise PartError(text, "is no quantity such as 500m, 1.5 or 2Gi")
    number = Decimal(match["number"])
    found = (
        number.scaleb(int(match["exponent"]))
        if match["exponent"]
        else number * _SUFFIXES.get(match["suffix"], Decimal(1))
    )
    if found > _LARGEST:
        raise PartError(text, f"is more than {_LARGEST}")
    return found


def pull_policy(text: str) -> PullPolicy:
    """When the node fetches the image."""
    return _one_of(_PULL_POLICIES, text, text)


def pull_secrets(text: str) -> tuple[str, ...]:
    """Names of Secrets, between commas."""
    return tuple(object_name(part) for part in map(str.strip, text.split(",")) if part)


def object_name(text: str) -> str:
    """Name of an object such as a Secret: a DNS name."""
    if len(text) > 253 or not _DNS_SUBDOMAIN.fullmatch(text):
        raise PartError(text, "is no name of a Secret: small letters, digits, '-' and '.'")
    return text


def dns_label(text: str) -> str:
    """Name of a pod: a DNS label, so that the host's name is the pod's."""
    if not _DNS_LABEL.fullmatch(text):
        raise PartError(text, "is no DNS label: 1 to 63 small letters, digits and '-'")
    return text


def image(text: str) -> str:
    """Name of a container image."""
    if not text.isascii() or not text.isprintable() or not text or " " in text:
        raise PartError(text, "is no name of an image")
    return text


def variable_name(text: str) -> str:
    """Name of an environment variable in a container."""
    if not _VARIABLE.fullmatch(text):
        raise PartError(text, "is no name of a variable: letters, digits, '_', '-', '.', no digit first")
    return text
