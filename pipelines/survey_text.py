"""A survey for people: some ten lines a shard, no wider than 100 columns."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Sequence

from pipelines.survey import OTHERS, Survey, by_count

_WIDTH = 100
_INDENT = 14
_TOP = 5
_LISTED = 20
_MEASURABLE = 10**6  # bytes; the time for less says little
_FORMATS = {"warc": "WARC", "arc": "ARC", "wacz": "WACZ", "parquet": "Parquet", "jsonl": "JSON Lines"}
_UNITS = {"parquet": "row", "jsonl": "line"}


def render(found: Survey) -> str:
    """The survey of a shard."""
    shape = (_FORMATS.get(found.format, found.format), found.codec, bytes_of(found.size), _speed(found))
    lines = [f"{found.shard}: {', '.join(word for word in shape if word)}"]
    if found.records or found.damages:
        lines += [*_facts(found), *_damage(found)]
    return "\n".join([*lines, *_wrapped(headline(found))])


def render_total(found: Survey, shards: int, broken: Sequence[str]) -> str:
    """The sum over several shards, with the names of those that are not whole."""
    size = ", ".join(word for word in (bytes_of(found.size), _speed(found)) if word)
    state = f"{len(broken):,} of them damaged or not read" if broken else "all of them whole"
    names = ", ".join(broken[:_LISTED]) + (f" and {len(broken) - _LISTED:,} more" if len(broken) > _LISTED else "")
    lines = [f"{shards:,} shards, {state}: {size}", *_facts(found), *_paragraph("not whole", names)]
    return "\n".join([*lines, *_wrapped(headline(found))])


def headline(found: Survey) -> str:
    """The sentence that matters."""
    if found.unread and not found.records and not found.damages:
        return f"cannot be read: {found.unread}"
    unit = _UNITS.get(found.format, "record")
    parts = [f"{found.read:,} of {_many(found.records, unit)} can be read"]
    if found.refused:
        fit = "does not fit its header" if found.refused == 1 else "do not fit their headers"
        parts.append(f"{found.refused:,} more {fit} (ingest.mismatches=keep takes them)")
    stretches = _many(found.damages, "stretch", "stretches")
    if found.damages == found.unmeasured:
        parts.append(f"{stretches} {_verb(found.damages)} lost" if found.damages else "nothing is lost")
    else:
        upto = "at most " if found.at_most else ""
        more = f" and {found.unmeasured:,} of unknown length" if found.unmeasured else ""
        measured = _many(found.damages - found.unmeasured, "stretch", "stretches")
        parts.append(f"{upto}{_many(found.lost_bytes, 'byte')} in {measured}{more} are lost")
    if found.unread and found.records:
        parts.append(f"reading stopped early: {found.unread}")
    return "; ".join(parts)


def bytes_of(size: int) -> str:
    """A size for people, in decimal units."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= factor:
            return f"{size / factor:,.1f} {unit}"
    return _many(size, "byte")


def _speed(found: Survey) -> str:
    return f"{found.size / 1e6 / found.seconds:,.1f} MB/s" if found.size >= _MEASURABLE else ""


def _facts(found: Survey) -> list[str]:
    captured = ""
    if found.first_capture and found.last_capture:
        captured = f"{found.first_capture:%Y-%m-%d %H:%M:%S} to {found.last_capture:%Y-%m-%d %H:%M:%S}"
    hosts = f"{len(found.hosts):,}{'+' if OTHERS in found.hosts else ''}: {_top(found.hosts)}" if found.hosts else ""
    facts = [
        (f"{_UNITS.get(found.format, 'record')}s", _records(found)),
        ("captured", captured),
        ("hosts", hosts),
        ("HTTP status", _top(found.statuses)),
        ("types", _top(found.content_types)),
        ("documents", _documents(found)),
        ("rejects", _top(found.rejects, len(found.rejects))),
        ("digests", _digests(found)),
    ]
    return [line for name, what in facts if what for line in _paragraph(name, what)]


def _records(found: Survey) -> str:
    kinds = Counter({name or "no type": number for name, number in found.types.items()})
    types = f"{_top(kinds, len(kinds))}" if kinds else ""
    unread = Counter({name or "no type": number for name, number in found.unread_types.items()})
    more = f"only the header of {_top(unread, len(unread))}" if unread else ""
    said = "; ".join(part for part in (types, more) if part)
    return f"{found.records:,}: {said}" if said else f"{found.records:,}"


def _documents(found: Survey) -> str:
    if found.quick and not found.documents:
        return "" if not found.types else "not looked for (--quick)"
    languages = f"; {_top(found.languages)}" if found.languages else ""
    return f"{found.documents:,}, {found.characters:,} characters{languages}" if found.documents else "none"


def _digests(found: Survey) -> str:
    if not found.types:
        return ""
    parts = [_top(found.digests)] if found.digests else []
    if found.undigested:
        parts.append(f"{_many(found.undigested, 'record')} without any")
    if found.unfit > found.refused:
        parts.append(f"{_many(found.unfit, 'record')} kept with a digest or length that does not fit")
    return "; ".join(parts)


def _damage(found: Survey) -> list[str]:
    lines = []
    for one in found.damage[:_LISTED]:
        length = "length unknown" if one.length is None else _many(one.length, "byte")
        what = f"at {one.offset:,}, {length}, {one.reason}: {one.detail}"
        lines += _wrapped(what)
    if found.damages > _LISTED:
        lines.append(f"  and {found.damages - _LISTED:,} more; --json lists them")
    return lines


def _wrapped(sentence: str) -> list[str]:
    return textwrap.wrap(sentence, _WIDTH, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False)


def _paragraph(name: str, what: str) -> list[str]:
    return textwrap.wrap(
        what, _WIDTH, initial_indent=f"  {name:<{_INDENT - 2}}", subsequent_indent=" " * _INDENT, break_on_hyphens=False
    )


def _top(names: Counter[str], most: int = _TOP) -> str:
    ordered = [item for item in by_count(names) if item[0] != OTHERS]
    shown = ", ".join(f"{name} {number:,}" for name, number in ordered[:most])
    rest = names.total() - sum(number for _, number in ordered[:most])
    return f"{shown}, others {rest:,}" if rest else shown


def _many(number: int, one: str, several: str = "") -> str:
    return f"{number:,} {one if number == 1 else several or one + 's'}"


def _verb(number: int) -> str:
    return "is" if number == 1 else "are"
