"""The page that operators look at, and what they do from it: asked first, then done under a name."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, Literal

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, Response

from jobtrail.api.context import Context, context
from jobtrail.api.database import translated
from jobtrail.api.fields import FilterText
from jobtrail.consumers.rebuild import state
from jobtrail.consumers.retry_letters import Outcome, Retry, examine
from jobtrail.consumers.waiting import database_address
from jobtrail.errors import ConflictError, FieldError, JobtrailError
from jobtrail.projections import letters
from jobtrail.projections.letters import Key, Place, Resolution
from jobtrail.web.errors import PageRoute
from jobtrail.web.forms import DONE, confirmed, done, done_before, form_of, name_in
from jobtrail.web.live import Look, Stream
from jobtrail.web.pages import Page, render
from jobtrail.web.rebuilding import running, start_rebuild
from jobtrail.web.service import operations_page

PAGE: Final = "/operations"
ABOVE: Final = {PAGE: "Operations"}
LETTERS: Final = PAGE + "/letters/{action}"
REBUILD: Final = f"{PAGE}/rebuild"
#: Seconds for which one form acts on letters; whoever has more asks again, or takes the command.
WITHIN: Final = 10.0
#: Letters that one transaction drops.
DROPPED_AT_ONCE: Final = 1_000
#: Letters that stay, of which the page says why, and characters of that.
SHOWN_REFUSALS: Final = 5
SHOWN_DETAIL: Final = 200
#: What a rebuild does.
REBUILDING: Final = (
    (
        "New read models are made from the event log, beside the live ones, which everybody reads meanwhile. "
        "Then both are compared, and the new ones take their place, also where rows differ. A result that is "
        "empty or shorter is refused."
    ),
    (
        "It keeps all processors of this machine busy, and the page shows how far it is. `jobtrail rebuild "
        "cancel` ends it, and `jobtrail rebuild --verify-only` compares alone."
    ),
)

router = APIRouter(include_in_schema=False, route_class=PageRoute)
Action = Literal["retry", "drop"]
BECOMES: Final[dict[Action, Resolution]] = {"retry": "retried", "drop": "dropped"}


@router.get(PAGE)
def operations(request: Request) -> Response:
    """What operators look at; and what was done from here."""
    page, said = _looking(request)(), done_before(request)
    answer = HTMLResponse(render(Page(page.template, page.parts, {**page.values, "done": said})))
    if said:
        answer.delete_cookie(DONE, path=PAGE)
    return answer


@router.get(f"/live{PAGE}")
def live_operations(request: Request) -> Any:
    """The same as it changes."""
    return Stream(request.app.state.pages, str(request.url), _looking(request))


def _looking(request: Request) -> Look:
    shared, readings = context(request), request.app.state.readings

    def look() -> Page:
        seen = readings.take()  # before the connection, as it takes one itself
        # Not one snapshot: what runs is seen as it is now, and what came of it must not be older.
        with shared.writing() as database:
            return operations_page(database, shared.settings, seen)

    return look


@router.get(LETTERS)
def confirm_letters(
    request: Request, action: Action, place: FilterText = "", reason: FilterText = ""
) -> Response:
    """Asks whether these dead letters are meant: the one at a place, or the open ones with a reason."""
    if place:
        return _confirm_one(context(request), action, _place(place))
    with context(request).reading() as database:
        count, now = letters.waiting(database, _reason(reason))
    if not count:
        raise _none_open(reason)
    said = reason.replace("_", " ")
    which = f"the dead letter with the reason {said}" if count == 1 else f"{count:,} dead letters: {said}"
    return _confirm(
        action, which, [_will(action, count), "Those that come from now on are left alone."], now.isoformat()
    )


def _confirm_one(shared: Context, action: Action, place: Place) -> Response:
    with shared.reading() as database:
        letter = letters.letter_at(database, place)
    letters.to_be(BECOMES[action], letter)
    what = [f"It was put aside as {letter.reason.replace('_', ' ')}: {letter.detail}"]
    if action == "retry":
        why = examine(shared.settings, letter).why
        what.append("It can be read by now." if why is None else f"It still cannot be read: {why}")
    return _confirm(action, f"dead letter {letter.place}", [*what, _will(action, 1)])


def _will(action: Action, count: int) -> str:
    """What will happen."""
    one = count == 1
    if action == "retry":
        return (
            f"{'It is' if one else 'They are'} read again by this release. What can be read gives the rows "
            "that it would have given in time, and is published again under its own event id; what cannot "
            "stays open."
        )
    return (
        f"{'It leaves' if one else 'They leave'} this list; nothing leaves the log. Who did it, and when, "
        f"stays on record, and {'it' if one else 'each'} can still be retried by its place."
    )


def _confirm(action: Action, which: str, what: Sequence[str], until: str = "") -> Response:
    return confirmed(
        f"{action.title()} {which}",
        what,
        ABOVE,
        button=f"{action.title()}",
        leave="Leave as it is",
        hidden={"until": until} if until else {},
    )


@router.post(LETTERS)
async def act_on_letters(
    request: Request, action: Action, place: FilterText = "", reason: FilterText = ""
) -> Response:
    """Retries or drops them, and says what came of it."""
    form = await form_of(request)
    by = name_in(form, {"retry": "retries them", "drop": "drops them"}[action])
    until = None if place else _until(form.get("until", ""))
    lines = await run_in_threadpool(_act_on_letters, context(request), action, place, reason, until, by)
    return done(request, PAGE, *lines)


def _act_on_letters(  # noqa: PLR0917  # what, which, and who
    shared: Context, action: Action, place: str, reason: str, until: datetime | None, by: str
) -> list[str]:
    with shared.reading() as database:
        if place:
            letter = letters.letter_at(database, _place(place))
            letters.to_be(BECOMES[action], letter)
            keys = [letter.row_key]
        else:
            keys = letters.chosen(database, _reason(reason), until)
    if not keys:
        raise _none_open(reason)
    if action == "drop":
        lines, stay = [f"Dropped by {by}: {_counted(_drop(shared, keys, by))}."], 0
    else:
        outcomes, why = _retry(shared, keys, by)
        lines, stay = _said(outcomes, by), sum(one.published is None for one in outcomes)
        if why:
            lines.append(f"Then it ended: {why}")
    if not place:
        with shared.reading() as database:
            left = letters.waiting(database, reason)[0] - stay
        if left > 0:
            lines.append(
                f"{left:,} more of this reason are open and were left for now; {action} again, or run "
                f"`jobtrail dead-letters {action} --reason {reason}`"
            )
    return lines


def _drop(shared: Context, keys: Sequence[Key], by: str) -> int:
    """How many were dropped in time."""
    dropped, until = 0, time.monotonic() + WITHIN
    for start in range(0, len(keys), DROPPED_AT_ONCE):
        if start and time.monotonic() >= until:
            break
        with shared.writing() as database:
            dropped += letters.drop(database, keys[start : start + DROPPED_AT_ONCE], by)
    return dropped


def _retry(shared: Context, keys: Sequence[Key], by: str) -> tuple[list[Outcome], str]:
    """What came of those that were tried in time, and why it ended early. Raises where nothing was done."""
    outcomes: list[Outcome] = []
    try:
        with translated(database_address(shared.settings)), Retry(shared.settings, by) as retry:
            for outcome in retry.run(keys, WITHIN):
                outcomes.append(outcome)  # noqa: PERF402  # they are done, whatever is raised later
    except JobtrailError as error:
        if not outcomes:
            raise
        return outcomes, str(error)
    return outcomes, ""


def _said(outcomes: Sequence[Outcome], by: str) -> list[str]:
    retried = [one for one in outcomes if one.published is not None]
    stay = [one for one in outcomes if one.published is None]
    if len(retried) == 1:
        lines = [f"Retried by {by}: {retried[0].place}, published as {retried[0].published}."]
    else:
        lines = [f"Retried by {by}: {_counted(len(retried))}."]
    if stay:
        lines[0] += f" {_counted(len(stay)).capitalize()} {'stays' if len(stay) == 1 else 'stay'} open:"
    lines += [
        f"{one.place}: {one.reason.replace('_', ' ')}: {one.detail}"[:SHOWN_DETAIL]
        for one in stay[:SHOWN_REFUSALS]
    ]
    if rest := Counter(one.reason.replace("_", " ") for one in stay[SHOWN_REFUSALS:]).most_common():
        lines.append("and " + ", ".join(f"{count:,} more: {reason}" for reason, count in rest))
    return lines


def _counted(count: int) -> str:
    return "no dead letter" if not count else f"{count:,} dead letter{'s' * (count != 1)}"


def _place(text: str) -> Place:
    try:
        return Place.read(text)
    except ValueError:
        raise FieldError("place", f"{text!r} is none; it is topic:partition:offset") from None


def _reason(text: str) -> str:
    if not text:
        raise FieldError("reason", "say which dead letters: those with a reason, or the one at a place")
    return text


def _until(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise FieldError("until", "it is no instant; go back to the page of operations and begin there")
    return found


def _none_open(reason: str) -> ConflictError:
    return ConflictError(f"no open dead letter has the reason {reason!r} any more; nothing was done")


@router.get(REBUILD)
def confirm_rebuild(request: Request) -> Response:
    """Asks whether a rebuild is meant."""
    with context(request).writing() as database:
        found = state(database)
    if found.running:
        raise running()
    what = [*REBUILDING]
    if found.unfinished is not None:
        what.insert(
            0, f"Generation {found.unfinished.generation} was left unfinished: it goes on from there."
        )
    return confirmed("Rebuild the read models", what, ABOVE, button="Rebuild", leave="Leave them as they are")


@router.post(REBUILD)
async def rebuild(request: Request) -> Response:
    """Starts it, in a process of its own."""
    by, shared = name_in(await form_of(request), "rebuilds"), context(request)
    await run_in_threadpool(start_rebuild, shared, by)
    return done(request, PAGE, f"Rebuild begun by {by}.")
