"""The name that was probably meant, for errors about an unknown one."""

from __future__ import annotations

from collections.abc import Iterable


def nearest(name: str, known: Iterable[str], *, cutoff: float = 0.5) -> str | None:
    """The known name that is most like `name`; none where none is like it by `cutoff`, from 0 to 1."""
    import difflib  # only where something is wrong

    found = difflib.get_close_matches(name, [*map(str, known)], n=1, cutoff=cutoff)
    return found[0] if found else None


def near(name: str, known: Iterable[str]) -> str:
    """ "; did you mean …?", or nothing."""  # noqa: D210  # the space belongs to the quotation marks
    found = nearest(name, known)
    return f"; did you mean {found!r}?" if found else ""
