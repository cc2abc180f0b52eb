"""Parts of other rooms that a command is thin over, and that a version may lack."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from jobtrail.errors import JobtrailError


def part(module: str, name: str) -> Any:
    """`name` of `module`. Raises JobtrailError where this version has it not."""
    try:
        return getattr(import_module(module), name)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
    except AttributeError:
        pass
    raise JobtrailError(f"this version has no {module}.{name}; install one that has it")
