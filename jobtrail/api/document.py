"""What the OpenAPI document says of all operations alike: who may ask, how much, what answers look like."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from jobtrail.api.access import BODY_LIMIT, OPEN_PATHS
from jobtrail.api.examples import EXAMPLES, LATER

BEARER: Final = "bearer"
NOT_HERE: Final = "Asked by another name than this machine's own, of a server without tokens."
JSON: Final = "application/json"
REFERENCE: Final = "#/components/schemas/"


def document(describe: Callable[[], dict[str, Any]], needs_token: bool) -> dict[str, Any]:  # bound once
    """The document of `describe`, which keeps and repeats it, with what the middleware answers."""
    found = describe()
    schemes = found["components"].setdefault("securitySchemes", {})
    if BEARER in schemes:
        return found
    schemes[BEARER] = {
        "type": "http",
        "scheme": "bearer",
        "description": "One of JOBTRAIL_API_TOKENS; a server that has none needs none.",
    }
    for path, methods in found["paths"].items():
        for operation in methods.values():
            answers = operation["responses"]
            _complete(answers)
            answers.setdefault("403", _problem(NOT_HERE))
            if "requestBody" in operation:
                answers.setdefault("413", _problem(f"The body has more than {BODY_LIMIT:,} bytes."))
            if path not in OPEN_PATHS:
                operation["security"] = [{BEARER: []}] if needs_token else [{}, {BEARER: []}]
                answers.setdefault("401", _problem("A bearer token is needed."))
    _int64(found)
    return found


def _problem(description: str) -> dict[str, Any]:
    return {"description": description, "content": {JSON: {"schema": {"$ref": f"{REFERENCE}Problem"}}}}


def _complete(answers: dict[str, Any]) -> None:
    """Gives each success answer its example, and one that cannot be read back yet its shape."""
    told: dict[str, Any] = next((answers[code] for code in ("200", "201") if code in answers), {})
    for code, answer in answers.items():
        if code == "202" and "content" not in answer:
            answer["content"] = {JSON: _later(told.get("content", {}).get(JSON))}
        content = answer.get("content", {}).get(JSON)
        if code.startswith("2") and content is not None and "example" not in content:
            content["example"] = EXAMPLES[content["schema"]["$ref"].removeprefix(REFERENCE)]


def _later(told: dict[str, Any] | None) -> dict[str, Any]:
    """What a write answers that is durable alone: what it answers else, and a message."""
    if told is None:
        return {"schema": {"$ref": f"{REFERENCE}Problem"}}
    message = {"type": "object", "properties": {"message": {"type": "string"}}, "required": ["message"]}
    name = told["schema"]["$ref"].removeprefix(REFERENCE)
    return {"schema": {"allOf": [told["schema"], message]}, "example": {**EXAMPLES[name], "message": LATER}}


def _int64(part: Any) -> None:
    """Integers are int64, wherever one stands: pydantic writes what it is told beside a nullable one."""
    if isinstance(part, list):
        for one in part:
            _int64(one)
    elif isinstance(part, dict):
        if part.get("type") == "integer":
            part["format"] = "int64"
        elif part.get("format") == "int64":
            del part["format"]
        for name, one in part.items():
            if name not in {"example", "examples", "default", "enum", "const"}:
                _int64(one)
