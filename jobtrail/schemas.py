"""Avro schemas of the event classes. `python -m jobtrail.schemas` (`make schemas`) writes them to avro/."""

from __future__ import annotations

import argparse
import ast
import inspect
import itertools
import json
import sys
import textwrap
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from jobtrail.events import EVENT_TYPES, Event, Record
from jobtrail.fields import field_kind, is_nullable, record_type

Schema = dict[str, Any]
NAMESPACE: Final = "jobtrail"
#: The released schemas, as files.
SCHEMAS: Final = Path(str(files("jobtrail") / "avro"))


def avro_schema(event_type: type[Event]) -> Schema:
    """The Avro schema of an event class, as released in avro/."""
    named: set[str] = set()
    return {"namespace": NAMESPACE, **_record(event_type, named)}


def _record(model: type[BaseModel], named: set[str]) -> Schema:
    named.add(model.__name__)
    return {
        "type": "record",
        "name": model.__name__,
        "doc": inspect.cleandoc(model.__doc__ or ""),
        "fields": [
            _field(name, field, named, field_docs(model)) for name, field in model.model_fields.items()
        ],
    }


def field_docs(model: type[BaseModel]) -> dict[str, str]:
    """The docstring below each field of a class and its bases.

    Read from the source here, and not by pydantic at each start, to keep `import jobtrail` quick.
    """
    docs: dict[str, str] = {}
    for cls in reversed(model.__mro__):
        if not issubclass(cls, (Event, Record)):
            continue
        (definition,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
        assert isinstance(definition, ast.ClassDef)  # noqa: S101  # the source of a class is one
        for field, doc in itertools.pairwise(definition.body):
            match field, doc:
                case ast.AnnAssign(target=ast.Name(name)), ast.Expr(ast.Constant(str(text))):
                    docs[name] = inspect.cleandoc(text)
                case _:
                    pass
    return docs


def _field(name: str, field: FieldInfo, named: set[str], docs: dict[str, str]) -> Schema:
    schema: Schema = {"name": name}
    if name in docs:
        schema["doc"] = docs[name]
    if item := record_type(field):
        items = item.__name__ if item.__name__ in named else _record(item, named)
        return {**schema, "type": {"type": "array", "items": items}, "default": []}
    kind = field_kind(field)
    assert kind is not None, f"{name} has no Kind"  # noqa: S101  # a mistake in an event class, found by any test
    avro: Any = {"type": kind.avro, "logicalType": kind.logical} if kind.logical else kind.avro
    if is_nullable(field):
        return {**schema, "type": ["null", avro], "default": None}
    if not field.is_required() and field.default_factory is None:
        return {**schema, "type": avro, "default": field.default}
    return {**schema, "type": avro}


def schema_file(event_type: type[Event]) -> str:
    """Name of the released schema of this version, below avro/."""
    return f"{event_type.__name__}.v{event_type.version}.avsc"


def rendered(event_type: type[Event]) -> str:
    """The text of the schema file."""
    return json.dumps(avro_schema(event_type), indent=2, ensure_ascii=False) + "\n"


def stale_schemas(folder: Path) -> list[type[Event]]:
    """Event types whose newest schema file is missing or differs from the class."""
    paths = {event_type: folder / schema_file(event_type) for event_type in EVENT_TYPES}
    return [t for t, path in paths.items() if not path.exists() or path.read_text() != rendered(t)]


def main() -> int:
    """Writes what is out of date; with --check, says so and writes nothing (exit status 1)."""
    parser = argparse.ArgumentParser(description="Write avro/ from the event classes.")
    parser.add_argument("--check", action="store_true", help="only say what is out of date")
    check = parser.parse_args().check
    stale = stale_schemas(SCHEMAS)
    for event_type in stale:
        print(f"{'out of date' if check else 'wrote'}: avro/{schema_file(event_type)}")
        if not check:
            (SCHEMAS / schema_file(event_type)).write_text(rendered(event_type))
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
