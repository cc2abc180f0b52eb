"""What a scheduled run did."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Report:
    """The same for people and for programs."""

    #: One line.
    text: str
    #: In JSON's names.
    facts: Mapping[str, int | str]
