"""Whose fault an exception is, by where it was raised. The exception itself goes its way unchanged."""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import Final

from jobtrail.events import FailureOrigin
from jobtrail.producers.causes import chain

#: Where an exception keeps whose fault it is; kept by pickle, so that a worker process may raise it.
_MARK: Final = "_jobtrail_origin"


@dataclass(frozen=True, slots=True)
class Blame:
    """A block in which what is raised is the fault of `origin`, unless an inner block said otherwise."""

    attempt_id: int
    origin: FailureOrigin

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if error is not None and origin_of(error, self.attempt_id) is None:
            # Not setattr: a frozen exception class refuses it.
            error.__dict__[_MARK] = (self.attempt_id, self.origin)


def origin_of(error: BaseException, attempt_id: int) -> FailureOrigin | None:
    """Whose fault the error, or else what caused it, was marked to be within the attempt."""
    for link in chain(error):
        match link.__dict__.get(_MARK):
            case (int(marked), FailureOrigin() as origin) if marked == attempt_id:
                return origin
    return None
