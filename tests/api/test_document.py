"""The OpenAPI document: every success has an example that its model takes, and integers are int64."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel

import jobtrail.api
from jobtrail.api.app import create_app
from jobtrail.api.examples import EXAMPLES
from jobtrail.projections.anomalies import AnomalyKind
from jobtrail.settings import Settings


@pytest.fixture(scope="module")
def described() -> dict[str, Any]:
    return create_app(Settings(database_url="postgresql://127.0.0.1:1/nowhere")).openapi()


def operations(described: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            yield f"{method} {path}", operation


def test_every_success_answer_with_a_body_has_an_example(described: dict[str, Any]) -> None:
    """Also where a write is durable, and not to be read yet."""
    bodies = {
        (name, code): [*answer.get("content", {}).values()]
        for name, operation in operations(described)
        for code, answer in operation["responses"].items()
        if code in {"200", "201", "202"}
    }
    assert len(bodies) > 50
    assert [which for which, told in bodies.items() if not told or "example" not in told[0]] == []
    later = described["paths"]["/v1/attempt/save_stats"]["post"]["responses"]["202"]["content"]
    assert later["application/json"]["example"].keys() == {"succeeded", "message"}


def models() -> dict[str, type[BaseModel]]:
    return {
        name: value
        for module in pkgutil.iter_modules(jobtrail.api.__path__, "jobtrail.api.")
        for name, value in vars(importlib.import_module(module.name)).items()
        if isinstance(value, type) and issubclass(value, BaseModel)
    }


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_an_answer_of_its_model(name: str) -> None:
    """With all that is needed, and nothing that the model does not know."""
    read = models()[name].model_validate(EXAMPLES[name])
    said = read.model_dump(mode="json", by_alias=True, exclude_unset=True)
    assert said == EXAMPLES[name]


def integers(part: Any, where: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(part, list):
        for number, one in enumerate(part):
            yield from integers(one, f"{where}.{number}")
    elif isinstance(part, dict):
        if part.get("type") == "integer":
            yield where, part
        for name, one in part.items():
            yield from integers(one, f"{where}.{name}")


def test_every_integer_is_int64_also_where_it_may_be_null(described: dict[str, Any]) -> None:
    found = dict(integers(described))
    assert len(found) > 100
    assert [where for where, schema in found.items() if schema.get("format") != "int64"] == []
    committed = described["components"]["schemas"]["AttemptStats"]["properties"]["recordsCommitted"]
    assert committed["anyOf"] == [{"type": "integer", "format": "int64"}, {"type": "null"}]
    assert "format" not in committed


def test_a_read_promises_no_answer_of_a_write(described: dict[str, Any]) -> None:
    assert not {"202", "409"} & described["paths"]["/v1/workspaces/get"]["post"]["responses"].keys()


def test_the_kinds_of_anomalies_are_told(described: dict[str, Any]) -> None:
    kind = described["components"]["schemas"]["AnomalyRead"]["properties"]["kind"]
    assert all(f"{one}: {one.meaning}" in kind["description"] for one in AnomalyKind)
    assert "enum" not in kind  # a newer projector may know more
    asked = {one["name"]: one for one in described["paths"]["/v1/anomalies"]["get"]["parameters"]}
    assert asked["kind"]["schema"]["items"] == {"$ref": "#/components/schemas/AnomalyKind"}
