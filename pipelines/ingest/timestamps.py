"""Capture times as crawls write them, brought to aware UTC ``datetime``.

parse_time("2020-01-31T12:00:00Z")   # WARC 1.0, section 5.4
parse_time("2020-01")                # reduced precision, WARC 1.1: the first moment of the span
parse_time(1580472000)               # seconds, milliseconds, microseconds or nanoseconds since 1970
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from email.utils import parsedate_to_datetime

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_REDUCED = re.compile(r"(\d{4})(?:-(\d{2}))?\Z")
_COMPACT = re.compile(r"(\d{4})(\d{2})(\d{2})(\d{2})(\d{2})(\d{2})(\d{3})?\Z")  # with or without milliseconds
_SLASHES = re.compile(r"(\d{4})/(\d{2})/(\d{2})(?!\d)")
_NUMBER = re.compile(r"-?\d{9,19}(?:\.\d+)?\Z")

# Each unit covers 1970 to 5138 in its own range: 1e11 seconds, then a factor of 1,000 for each finer unit.
_SECONDS_LIMIT = 10**11


def parse_time(value: object) -> datetime | None:
    """A capture time from a string (ISO 8601, 14 or 17 digits, HTTP date, epoch), number or ``date``; else ``None``.

    A time without a zone is UTC. Fractions below a microsecond are cut off. The unit of a number (s, ms, us, ns) is
    guessed by its magnitude.
    """
    try:
        if isinstance(value, str):
            return _from_string(value.strip())
        if isinstance(value, datetime):
            return _as_utc(value)
        if isinstance(value, date):
            return datetime(value.year, value.month, value.day, tzinfo=UTC)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return _from_number(value)
    except (ValueError, OverflowError, TypeError):
        return None
    return None


def _as_utc(when: datetime) -> datetime:
    return when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)


def _from_string(text: str) -> datetime | None:
    text = _SLASHES.sub(r"\1-\2-\3", text, count=1) if text[4:5] == "/" else text
    if text[4:5] == "-" and len(text) > 9:
        try:
            return _as_utc(datetime.fromisoformat(text))
        except ValueError:
            pass
    if reduced := _REDUCED.match(text):
        return datetime(int(reduced[1]), int(reduced[2] or 1), 1, tzinfo=UTC)
    if compact := _COMPACT.match(text):
        year, month, day, hour, minute, second, milli = (int(part or 0) for part in compact.groups())
        return datetime(year, month, day, hour, minute, second, milli * 1000, tzinfo=UTC)
    if _NUMBER.match(text):
        return _from_number(float(text) if "." in text else int(text))
    try:
        return _as_utc(datetime.fromisoformat(text))
    except ValueError:
        pass
    if text.upper().endswith(" UTC"):
        return _as_utc(datetime.fromisoformat(text[:-4].rstrip()))
    return _as_utc(parsedate_to_datetime(text))


def _from_number(number: int | float) -> datetime | None:
    if number != number:  # NaN
        return None
    micros_per_unit = 1_000_000
    size = abs(number)
    while size >= _SECONDS_LIMIT and micros_per_unit > 1:
        size /= 1000
        micros_per_unit //= 1000
    if size >= _SECONDS_LIMIT:
        return _EPOCH + timedelta(microseconds=int(number) // 1000)
    return _EPOCH + timedelta(microseconds=int(number * micros_per_unit))
