"""When schedules run: cron expressions of five fields, in UTC, as crontab(5) reads them.

Two things that the library reads otherwise are settled here: weekdays are counted from Sunday (0 or 7), and
a day of the month beside a weekday, which cron takes for "either" and the library for "both", is refused.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from apscheduler.triggers.cron import CronTrigger

from jobtrail.errors import SettingError
from jobtrail.settings import PREFIX

_DAYS: Final = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_DAY: Final = f"[0-7]|{'|'.join(_DAYS)}"
_WEEKDAYS: Final = re.compile(rf"(?:(\*)|({_DAY})(?:-({_DAY}))?)(?:/([1-9]))?", re.IGNORECASE)


class Crontab:
    """The instants of a cron expression."""

    def __init__(self, field: str, text: str) -> None:
        """`field` of `Settings` says `text`. Raises SettingError for what is no time or never comes."""
        self.text = text
        try:
            self._trigger = _trigger(text)
            never = self._trigger.get_next_fire_time(None, datetime.now(UTC)) is None
        except ValueError as error:
            raise SettingError(
                PREFIX + field.upper(),
                f"{text!r} is no cron expression ({error})",
                "say minute, hour, day, month and weekday, as in '0 2 * * *'",
            ) from None
        if never:
            raise SettingError(PREFIX + field.upper(), f"{text!r} never comes", "name a day that exists")

    def after(self, moment: datetime) -> datetime:
        """The first instant after `moment`, in UTC."""
        found: datetime = self._trigger.get_next_fire_time(None, moment + timedelta(microseconds=1))
        return found.astimezone(UTC)


def _trigger(text: str) -> CronTrigger:
    fields = text.split()
    if len(fields) != 5:
        raise ValueError(f"{len(fields)} fields, not 5")
    minute, hour, day, month, weekday = fields
    if day != "*" and weekday != "*":
        raise ValueError("a day of the month and a weekday; leave one of them *")
    return CronTrigger(
        minute=minute, hour=hour, day=day, month=month, day_of_week=_weekdays(weekday), timezone=UTC
    )


def _weekdays(field: str) -> str:
    """The weekdays by their names."""
    days: set[int] = set()
    for part in field.split(","):
        found = _WEEKDAYS.fullmatch(part)
        if found is None:
            raise ValueError(f"{part!r} is no weekday")
        every, first, last, step = found.groups()
        low = 0 if every else _number(first)
        high = 6 if every or (step and not last) else _number(last or first)
        if high < low:
            raise ValueError(f"{part!r} goes backwards")
        days.update(day % 7 for day in range(low, high + 1, int(step or 1)))
    return ",".join(_DAYS[day] for day in sorted(days))


def _number(day: str) -> int:
    return int(day) if day.isdigit() else _DAYS.index(day.lower())
