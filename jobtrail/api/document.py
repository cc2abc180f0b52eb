"""What the OpenAPI document says of all operations alike: who may ask, and how much."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from jobtrail.api.access import BODY_LIMIT, OPEN_PATHS

BEARER: Final = "bearer"
NOT_HERE: Final = "Asked by another name than this machine's own, of a server without tokens."


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
            answers.setdefault("403", _problem(NOT_HERE))
            if "requestBody" in operation:
                answers.setdefault("413", _problem(f"The body has more than {BODY_LIMIT:,} bytes."))
            if path not in OPEN_PATHS:
                operation["security"] = [{BEARER: []}] if needs_token else [{}, {BEARER: []}]
                answers.setdefault("401", _problem("A bearer token is needed."))
    return found


def _problem(description: str) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Problem"}
    return {"description": description, "content": {"application/json": {"schema": schema}}}
