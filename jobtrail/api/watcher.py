"""Who waits for a job need not ask again and again: one look serves all who watch, while somebody does."""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Final

from sse_starlette.event import ServerSentEvent

from jobtrail.api import reads
from jobtrail.api.models import ENDED, JobInfoLightRead
from jobtrail.api.reads import Database
from jobtrail.errors import JobtrailError

#: Seconds between two looks.
LOOK: Final = 0.25
#: Milliseconds after which a client that lost its stream comes back.
COME_BACK: Final = 1000
#: Begins the id of the last event of a stream.
LAST: Final = "end-"


@dataclass(frozen=True, slots=True)
class State:
    """What watchers are told of a job."""

    #: As jobs/get_light answers.
    text: str
    decided: bool

    @classmethod
    def of(cls, job: JobInfoLightRead) -> State:
        """The state in an answer of jobs/get_light."""
        return cls(job.model_dump_json(by_alias=True, exclude_none=True), job.job.status in ENDED)

    @property
    def id(self) -> str:
        """Names the state: the same state has the same id, whichever server says it."""
        return hashlib.blake2b(self.text.encode(), digest_size=8).hexdigest()


def news(seen: str | None, state: State) -> list[ServerSentEvent]:
    """What is new to somebody who has seen the event of that id. Pure.

    Event `job` for a state that was not seen, and `end` behind it where the job is decided; nothing for who
    has seen that.
    """
    if seen == LAST + state.id:
        return []
    found = []
    if seen != state.id:
        found.append(ServerSentEvent(event="job", data=state.text, id=state.id, retry=COME_BACK))
    if state.decided:
        found.append(ServerSentEvent(event="end", data="{}", id=LAST + state.id))
    return found


@dataclass(frozen=True, slots=True)
class Look:
    """One look at all watched jobs."""

    #: Jobs that do not exist are left out.
    states: Mapping[int, State]
    #: Why nothing could be seen; none: it could.
    away: str | None = None


class Watcher:
    """Looks for all who watch. All but `close` is for the server's event loop alone."""

    def __init__(self, reading: Callable[[], AbstractContextManager[Database]]) -> None:
        self._reading = reading
        #: Job id → how many watch it.
        self._watched: Counter[int] = Counter()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._looking: asyncio.Task[None] | None = None
        #: Looks are counted, so that nobody is told of one that began before they came.
        self._begun = self._done = 0
        self._last = Look({})
        #: Set, and replaced, when a look is done.
        self._turn = asyncio.Event()
        self._closing = False

    @property
    def streams(self) -> int:
        """How many watch."""
        return self._watched.total()

    @contextmanager
    def watching(self, job_id: int) -> Iterator[None]:
        """Counts a watcher of the job; the first one starts the looks, which end when nobody watches."""
        self._watched[job_id] += 1
        if self._looking is None or self._looking.done():
            self._loop = asyncio.get_running_loop()
            self._looking = self._loop.create_task(self._look_on(), name="jobtrail-watcher")
        try:
            yield
        finally:
            self._watched[job_id] -= 1
            if not self._watched[job_id]:
                del self._watched[job_id]

    async def looks(self) -> AsyncGenerator[Look, None]:
        """Looks, each begun after it was asked for, until the server stops."""
        while True:
            begun = self._begun
            while self._done <= begun:
                if self._closing or self._looking is None:
                    return
                if self._looking.done():
                    self._looking.result()  # raises what ended it
                    return
                await self._turn.wait()
            yield self._last

    def close(self) -> None:
        """Ends all streams, so that the server can stop. From any thread."""
        self._closing = True
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._tell)

    async def _look_on(self) -> None:
        try:
            while self._watched and not self._closing:
                self._begun += 1
                self._last = await asyncio.to_thread(self._look, tuple(self._watched))
                self._done = self._begun
                self._tell()
                await asyncio.sleep(LOOK)
        finally:
            self._tell()  # whatever ended it: nobody waits for a look that never comes

    def _look(self, job_ids: Collection[int]) -> Look:
        try:
            # One way to Postgres and back, by the very statement of jobs/get_light.
            with self._reading() as database, database.pipeline():
                found = [(job_id, database.execute(*reads.light_query(job_id))) for job_id in job_ids]
                rows = [(job_id, cursor.fetchone()) for job_id, cursor in found]
        except JobtrailError as error:
            return Look({}, str(error))
        return Look({job_id: State.of(reads.light(job_id, row)) for job_id, row in rows if row is not None})

    def _tell(self) -> None:
        turn, self._turn = self._turn, asyncio.Event()
        turn.set()
