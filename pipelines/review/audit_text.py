"""The results of :mod:`pipelines.review.audit` in words: three lines that matter, then what they rest on."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from decimal import ROUND_CEILING, Decimal
from typing import Any, Final

_WIDTH: Final = 110
_INDENT: Final = 12
_LISTED: Final = 40  # strata
_PEOPLE: Final = ("nobody", "one person", "two people", "three people", "four people", "five people")


def render(found: Mapping[str, Any]) -> str:
    """What :func:`pipelines.review.audit.audit` found.

    Args:
        found: of that function.
    """
    sections = (_headline(found), _shares(found), _people(found), _slices(found), _strata(found), _missing(found))
    return "\n\n".join("\n".join(lines) for one in sections if (lines := list(one)))


def _headline(found: Mapping[str, Any]) -> Iterator[str]:
    level, share, bound = f"{100 * found['level']:g} %", found["share"], found["reserve_bound"]
    if bound is None:
        yield _line("reserve", "holds no document")
    else:
        seen = f"{bound['machine']:,} of {bound['drawn']:,} labelled documents there not called human"
        yield _line("reserve", f"at most {_ceiling(bound['share'])} of it is machine text ({level} bound; {seen})")
    if share["estimate"] is None:
        yield _line("kept", f"no share of machine text can be given: {_interval(share)}")
    else:
        told = f"{_percent(share['estimate'])} of it is machine text {_interval(share)} ({level} interval)"
        edited = found["shares"]["documents"]["edited"]["estimate"]
        yield _line("kept", told + (f"; {_percent(edited)} edited in part" if edited else ""))
    done = found["progress"]["documents"]
    people = [person for person, one in found["progress"]["by_annotator"].items() if one["documents"]]
    agreed = found["agreement"]
    alpha = "" if agreed["alpha"] is None else f"; α {agreed['alpha']:.2f} [{agreed['low']:.2f}, {agreed['high']:.2f}]"
    yield _line("labels", f"{done['done']:,} of {done['wanted']:,} documents; {_number_of(len(people))}{alpha}")
    yield from _wrapped("", agreed["judgement"])


def _shares(found: Mapping[str, Any]) -> Iterator[str]:
    shares = found["shares"]
    yield "Share of machine text in what is kept"
    for name, key in (("by document", "documents"), ("by capture", "captures")):
        if (one := shares[key]) is None:
            continue
        yield _row(name, one, f"({_METHODS[one['method']]})")
        for label, other in (("Horvitz-Thompson", "horvitz_thompson"), ("prediction-powered", "ppi")):
            if one[other] is not None:
                yield _row(f"  {label}", one[other])
        yield _row("  errors not corrected", one["as_labelled"])
    naive, run = shares["detector"], shares["run"]
    if naive["documents"] is not None:
        captures = f"by capture {_percent(naive['captures'])}"
        yield f"  {'the detector alone':<26}{_percent(naive['documents']):>9}  {captures}"
    if run and run.get("estimate") is not None:
        yield _row("the run's own estimate", run, "(captures after the cut-off)")
    for place, one in shares["places"].items():
        if one.get("estimate") is not None:
            yield _row(f"in {place}/", one, f"({one['labels']:,} labels of {one['documents']:,} documents)")
        else:
            yield f"  {f'in {place}/':<26}{'unknown':>9}  ({one['documents']:,} documents)"


def _people(found: Mapping[str, Any]) -> Iterator[str]:
    everyone = found["annotators"]["by_annotator"]
    if not everyone:
        return
    yield f"{'People':<16}{'documents':>10}{'controls':>10}   machine controls recognised    human controls recognised"
    for person, one in everyone.items():
        counts = found["progress"]["by_annotator"][person]
        yield _person(person, f"{counts['documents']:>10,}{counts['controls']:>10,}", one)
    if len(everyone) > 1:
        yield _person("together", " " * 20, found["annotators"]["pooled"])
    for person, one in ((found["annotators"]["latent"] or {}).get("by_annotator", {})).items():
        rates = (_percent(one[name]) if one[name] is not None else "unknown" for name in ("sensitivity", "specificity"))
        yield f"  {_cut(person, 13):<14}{'by Dawid-Skene':>20}   {'{:<31}{}'.format(*rates)}"


def _slices(found: Mapping[str, Any]) -> Iterator[str]:
    if not found["bounds"]:
        return
    plain = _ceiling(found["bounds"]["as_labelled"]["share"])
    yield f"Bound for the reserve; if people did not err: {plain}. By slice, each holding by itself"
    for column, slices in found["bounds"]["slices"].items():
        for value, bound in slices.items():
            counts = f"{bound['machine']:,} of {bound['drawn']:,} labelled, of {bound['sizes']:,}"
            yield f"  {column:<12}{_cut(value, 22):<24}{_ceiling(bound['share']):>9}  {counts}"


def _strata(found: Mapping[str, Any]) -> Iterator[str]:
    strata = found["strata"]
    columns = list(strata[0])[1 : list(strata[0]).index("documents")] if strata else []
    widths = {name: max(len(name), *(len(_cut(row[name], 20)) for row in strata)) + 2 for name in columns}
    heads = "".join(f"{name:<{width}}" for name, width in widths.items())
    counts = f"{'documents':>10}{'drawn':>7}{'labelled':>9}"
    yield f"  {heads}{counts}{'machine':>9}{'edited':>8}{'cannot tell':>12}{'bound':>10}"
    for row in strata[:_LISTED]:
        names = "".join(f"{_cut(row[name], 20):<{width}}" for name, width in widths.items())
        counts = f"{row['documents']:>10,}{row['drawn']:>7,}{row['labelled']:>9,}"
        said = f"{row['machine']:>9g}{row['edited']:>8g}{row['cannot_tell']:>12g}"
        yield f"  {names}{counts}{said}{_ceiling(row['bound']):>10}"
    if len(strata) > _LISTED:
        yield f"  and {len(strata) - _LISTED:,} more strata; --json lists them all"


def _missing(found: Mapping[str, Any]) -> Iterator[str]:
    for at, sentence in enumerate(found["missing"]):
        yield from _wrapped("" if at else "missing", sentence)


_METHODS: Final = {
    "ppi": "prediction-powered inference",
    "beta": "Horvitz-Thompson, limits by beta distributions",
    "stratified": "Horvitz-Thompson",
}


def _person(name: str, counts: str, errors: Mapping[str, Any]) -> str:
    rates = []
    for of in ("sensitivity", "specificity"):
        rate = errors[of]
        share = "unknown" if rate["share"] is None else f"{_percent(rate['share'])} {_interval(rate)}"
        rates.append(share)
    return f"  {_cut(name, 13):<14}{counts}   {rates[0]:<31}{rates[1]}"


def _row(name: str, one: Mapping[str, Any], note: str = "") -> str:
    share = "unknown" if one["estimate"] is None else _percent(one["estimate"])
    return f"  {name:<26}{share:>9}  {_interval(one):<22}{note}".rstrip()


def _interval(one: Mapping[str, Any]) -> str:
    low, high = one["low"], one["high"]
    return "" if low is None or high is None else f"[{_percent(low)}, {_percent(high)}]"


def _percent(share: float) -> str:
    return f"{100 * share:.{1 if share >= 0.0995 else 2}f} %"


def _ceiling(share: float) -> str:
    """In per cent, never less than it is; of the decimal that the float is written as."""
    return f"{(100 * Decimal(repr(float(share)))).quantize(Decimal('0.01'), ROUND_CEILING)} %"


def _number_of(people: int) -> str:
    return _PEOPLE[people] if people < len(_PEOPLE) else f"{people} people"


def _line(name: str, text: str) -> str:
    return f"{name:<{_INDENT}}{text}"


def _wrapped(name: str, text: str) -> Sequence[str]:
    lines = textwrap.wrap(_shown(text), _WIDTH - _INDENT, break_long_words=False)
    return [_line(name if not at else "", line) for at, line in enumerate(lines)]


def _cut(text: str, width: int) -> str:
    shown = _shown(text)
    return shown if len(shown) <= width else f"{shown[: width - 1]}…"


def _shown(text: str) -> str:
    """Names come from files: nothing in them may steer a terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)
