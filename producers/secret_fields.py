"""Which values of a connector's configuration are secret: what its spec marks, and what names say.

A spec marks a field with `airbyte_secret: true` (Airbyte protocol, ConnectorSpecification); it may stand in
nested objects, lists and any branch of oneOf, anyOf and allOf. No connector is asked for its spec, for that
would start it once more. Without a spec, and beside it, a field is secret whose name says so (password,
client_secret, apiKey, access_token, credentials_json, …).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from jobtrail.errors import UsageError
from jobtrail.producers.client import log
from jobtrail.producers.connector import option
from jobtrail.producers.scrub import known, says_secret

#: Most levels that are looked at.
_DEPTH: Final = 64
#: Variables of the environment are often short words; their values are known from this length on.
_SHORTEST_OF_ENVIRONMENT: Final = 8


def hide_secrets(config: Mapping[str, Any], spec: Mapping[str, Any] | None = None) -> None:
    """From now on no failure of this process, and no log that it keeps, tells the secrets of `config`.

    `spec` is the connector's specification (or its `connectionSpecification`, or the SPEC message with it).
    """
    known.add(secrets_of(config, spec))


def secrets_of(config: Mapping[str, Any], spec: Mapping[str, Any] | None = None) -> Iterator[tuple[str, str]]:
    """The name and value of each secret."""
    yield from _named(config, "", 0)
    if spec is not None:
        root = _schema(spec)
        yield from _marked(config, "", [root], root, 0)


def hide_environment(environ: Mapping[str, str]) -> None:
    """The same of variables whose names say so: a connector that is started has them too."""
    known.add(
        (name, value)
        for name, value in environ.items()
        if len(value) >= _SHORTEST_OF_ENVIRONMENT and says_secret(name)
    )


def hide_files(configs: Iterable[Path], specs: Iterable[Path] = ()) -> None:
    """The same of files that somebody named. Raises UsageError for one that cannot be read."""
    schemas: list[dict[str, Any] | None] = [_object(path, "the spec") for path in specs]
    for path in configs:
        config = _object(path, "the configuration")
        for spec in schemas or [None]:
            hide_secrets(config, spec)


def hide_command(argv: Sequence[str], specs: Iterable[Path] = ()) -> None:
    """The same of the file after --config in a connector's command, where it can be read here.

    Where it cannot (a path within a container), that is said on the log.
    """
    path = option(argv, "--config")
    try:
        hide_files([Path(path)] if path else [], specs)
    except UsageError as error:
        log.warning("%s; of its secrets only what looks like one is hidden, unless --config names it", error)


def _object(path: Path, what: str) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{what} {str(path)!r} cannot be read: {error}") from None
    if not isinstance(found, dict):
        raise UsageError(f"{what} {str(path)!r} is no JSON object")
    return found


def _schema(spec: Mapping[str, Any]) -> Mapping[str, Any]:
    """The JSON schema in a SPEC message, a specification, or itself."""
    for name in ("spec", "connectionSpecification"):
        inner = spec.get(name)
        if isinstance(inner, Mapping):
            spec = inner
    return spec


def _named(value: Any, name: str, depth: int) -> Iterator[tuple[str, str]]:
    """What names say is secret."""
    if depth > _DEPTH:
        return
    match value:
        case Mapping():
            for key, part in value.items():
                yield from _named(part, str(key), depth + 1)
        case list():
            for part in value:
                yield from _named(part, name, depth + 1)
        case _ if says_secret(name.removesuffix("_json")) or says_secret(name.removesuffix("_info")):
            yield from _said(value, name)


def _marked(
    value: Any, name: str, schemas: Sequence[Any], root: Mapping[str, Any], depth: int
) -> Iterator[tuple[str, str]]:
    """What one of the schemas of a value marks."""
    if depth > _DEPTH:
        return
    branches = [*_branches(schemas, root)]
    if any(schema.get("airbyte_secret") is True for schema in branches):
        yield from _all(value, name, depth)
        return
    if isinstance(value, Mapping):
        for key, part in value.items():
            inner = [found for schema in branches for found in _of_key(schema, str(key))]
            yield from _marked(part, str(key), inner, root, depth + 1)
    elif isinstance(value, list):
        inner = [schema["items"] for schema in branches if "items" in schema]
        inner = [one for items in inner for one in (items if isinstance(items, list) else [items])]
        for part in value:
            yield from _marked(part, name, inner, root, depth + 1)


def _of_key(schema: Mapping[str, Any], key: str) -> Iterator[Any]:
    for holder in ("properties", "patternProperties"):
        properties = schema.get(holder)
        if isinstance(properties, Mapping):
            # A pattern is not matched: too much is hidden rather than too little.
            yield from [properties[key]] if key in properties else ()
            yield from properties.values() if holder == "patternProperties" else ()
    yield schema.get("additionalProperties")


def _branches(schemas: Iterable[Any], root: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The schemas and all that they are made of."""
    pending, seen = [*schemas], set[int]()
    while pending:
        schema = pending.pop()
        if not isinstance(schema, Mapping) or id(schema) in seen:
            continue
        seen.add(id(schema))
        yield schema
        for name in ("oneOf", "anyOf", "allOf"):
            if isinstance(branches := schema.get(name), list):
                pending += branches
        if isinstance(reference := schema.get("$ref"), str) and reference.startswith("#/"):
            found: Any = root
            for step in reference[2:].split("/"):
                found = found.get(step) if isinstance(found, Mapping) else None
            pending.append(found)


def _all(value: Any, name: str, depth: int) -> Iterator[tuple[str, str]]:
    """Each value in a secret one."""
    if depth > _DEPTH:
        return
    match value:
        case Mapping():
            for key, part in value.items():
                yield from _all(part, str(key), depth + 1)
        case list():
            for part in value:
                yield from _all(part, name, depth + 1)
        case _:
            yield from _said(value, name)


def _said(value: Any, name: str) -> Iterator[tuple[str, str]]:
    """One secret, and what is secret within it where it is JSON, as the keys of service accounts are."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return
    yield name, str(value)
    if isinstance(value, str) and value.lstrip().startswith("{"):
        try:
            inner = json.loads(value)
        except (ValueError, RecursionError):
            return
        yield from _named(inner, name, 0)
