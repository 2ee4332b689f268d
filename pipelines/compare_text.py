"""The results of :mod:`pipelines.compare` and :mod:`pipelines.compare_samples` in words."""

from __future__ import annotations

from typing import Any

_WIDTH = 30
_UNLIKE = 1.5  # how many times longer the documents of one corpus may be without a word about it


def render_samples(result: dict[str, Any]) -> str:
    """How many different answers each file gives, and how that compares with the reference."""
    at, sources = result["compared_at"], result["sources"]
    each = f"{at['smallest']:,}" if at["smallest"] == at["largest"] else f"{at['smallest']:,} to {at['largest']:,}"
    percent = f"{result['level']:.0%} intervals in brackets"
    lines = [
        f"prompts      {result['prompts']:,}; answers are the same if they are {_SAME[result['same_answer']]}",
        *(f"note         {note}" for note in result["notes"]),
        *(f"note         {s['name']}: all samples are taken for one prompt" for s in sources if _unnamed(s, result)),
        "",
        f"{'':<{_WIDTH}} {'samples':>9} {'different':>10}  two are the same            effectively different",
    ]
    for source in sources:
        lines.append(
            f"{_named(source):<{_WIDTH}} {source['samples']:>9,} {source['answers']:>10,}  "
            f"{_share(source['same']):<27} {_effective(source['effective']['2'])}"
        )
    lines += [
        "",
        f"among {each} samples {'a prompt' if result['prompts'] > 1 else 'of each'}",
        f"{'':<{_WIDTH}} {'all answers':<24} {'order 1 (entropy)':<24} {'order 2 (pairs)':<24} by words (Vendi)",
    ]
    for source in sources:
        cells = " ".join(f"{_effective(source['at_size'][str(order)]):<24}" for order in range(3))
        lines.append(f"{_named(source):<{_WIDTH}} {cells} {source['vendi_at_size']:.1f} of 64")
    lines += ["", *(f"covered      {s['name']}: {_covered(s)}" for s in sources), ""]
    for source in sources:
        if source["answers"] == source["samples"]:
            lines.append(f"no answer of {source['name']} came twice")
            continue
        lines.append(f"most frequent answers of {source['name']}")
        lines += [f"  {row['share']:>6.1%}  {_cut(row['text'], 90)}" for row in source["most_frequent"]]
    lines += ["", *verdicts(result), f"({percent})"]
    return "\n".join(lines)


def verdicts(result: dict[str, Any]) -> list[str]:
    """One sentence a source: how many effectively different answers, against how many of the reference."""
    reference = next((source for source in result["sources"] if source["is_reference"]), None)
    lines = []
    for source in result["sources"]:
        if source is reference:
            continue
        a_prompt = " a prompt" if result["prompts"] > 1 else ""
        gives = f"{source['name']} gives {_about(source['effective']['2'])} different answers{a_prompt}"
        if reference is None:
            lines.append(f"{gives}.")
            continue
        against = source["against_reference"]
        lines.append(
            f"{gives} where {reference['name']} gives {_about(reference['effective']['2'])}: {_times(against, result)}"
        )
    return lines


def render_corpora(result: dict[str, Any]) -> str:
    """The measures of two corpora side by side."""
    one, other = result["corpora"]
    lines = [f"{'A' if corpus is one else 'B'}  {_corpus(corpus, result['language'])}" for corpus in (one, other)]
    lines += [
        "",
        f"{'':<{_WIDTH + 4}} {'A':<26} {'B, the reference':<26} worse if  verdict",
    ]
    for row in result["measures"]:
        a = _triple(row["value"], row["low"], row["high"])
        b = _triple(row["reference"], row["reference_low"], row["reference_high"])
        lines.append(f"{row['title']:<{_WIDTH + 4}} {a:<26} {b:<26} {row['worse']:<8}  {_verdict(row, result)}")
    worse = [row for row in result["measures"] if row["worse_than_reference"]]
    lines.append("")
    if result["too_few"]:
        lines.append(
            f"too few      {' and '.join(result['too_few'])}: fewer than 256 documents; which is worse is not said"
        )
    elif worse:
        lines.append(
            f"A is worse than B, as far as variety goes, by {len(worse)} of {len(result['measures'])} measures:"
        )
        lines += [f"  {row['title']}. {row['meaning']}" for row in worse]
    else:
        lines.append("A is worse than B by none of these measures.")
    lengths = [corpus["words"] / corpus["documents"] for corpus in (one, other)]
    if max(lengths) > _UNLIKE * min(lengths):
        lines += [
            "",
            f"note         documents of A have {lengths[0]:,.0f} words on average, those of B {lengths[1]:,.0f}: most",
            "             measures follow the length of texts; compare texts of like lengths to be sure",
        ]
    lines += [
        "",
        f"{result['level']:.0%} intervals; p one-sided for the worse direction, corrected for the number of measures "
        "(Benjamini-Hochberg).",
        "Measures that change with size are those of equal samples: 256 documents, 150 words of each.",
        "Two corpora from different sources differ anyway, in topics for example: what this shows is a difference, and",
        "not its cause. Whether a month of a crawl departs from earlier ones is in statistics/panel.parquet of a run.",
    ]
    return "\n".join(lines)


_SAME = {
    "near-duplicates": "the same words, or nearly (Jaccard similarity 0.8)",
    "same words": "the same words in the same order",
}


def _named(source: dict[str, Any]) -> str:
    name = source["name"]
    tail = " (reference)" if source["is_reference"] else ""
    room = _WIDTH - len(tail)
    return (name if len(name) <= room else f"…{name[len(name) - room + 1 :]}") + tail


def _unnamed(source: dict[str, Any], result: dict[str, Any]) -> bool:
    return result["prompt_names"] == [""] and not source["name"].endswith(".txt")


def _covered(source: dict[str, Any]) -> str:
    share = source["coverage"]
    return f"about {share:.0%} of further samples would be answers that were already given"


def _share(found: dict[str, float | None]) -> str:
    value, low, high = (found[name] for name in ("value", "low", "high"))
    return f"{_percent(value)} [{_percent(low)}, {_percent(high)}]"


def _percent(value: float | None) -> str:
    return "?" if value is None else f"{100 * value:.3g} %"


def _effective(found: dict[str, float | None]) -> str:
    value, low, high = (found[name] for name in ("value", "low", "high"))
    if value is None:
        return f"at least {_least(low)}"
    if high is None:
        return f"{_number(value)} [at least {_least(low)}]"
    return f"{_number(value)} [{_number(low)}, {_number(high)}]"


def _about(found: dict[str, float | None]) -> str:
    words = _effective(found)
    return words if found["value"] is None else f"about {words}"


def _number(value: float | None) -> str:
    if value is None:
        return "?"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _least(value: float | None) -> str:
    """A lower limit: the leading three digits, rounded down."""
    if value is None or value < 1000:
        return _number(value)
    step = 10 ** (len(str(int(value))) - 3)
    return f"{int(value) // step * step:,}"


def _times(against: dict[str, Any], result: dict[str, Any]) -> str:
    found, p = against["ratio"], against["p_value"]
    told = "p < 1e-8" if p < 1e-8 else f"p = {p:.2g}"
    value, low, high = found["value"], found["low"], found["high"]
    if p > 1 - result["level"]:
        return f"no difference shown ({told}); the ratio may be from {low:.3g} to {_most(high)}."
    if high is not None and high < 1:
        if not value:
            return f"at most one for each {_least(1 / high)} of theirs; {told}."
        fold = f"{_number(1 / value)} [{_number(1 / high)}, {_number(1 / low) if low > 0 else 'no limit'}]"
        return f"one for each {fold} of theirs; {told}."
    many = f"at least {_least(low)}" if value is None else f"{_number(value)} [{_number(low)}, {_most(high)}]"
    return f"{many} times as many; {told}."


def _most(high: float | None) -> str:
    return "no limit" if high is None else _number(high)


def _corpus(corpus: dict[str, Any], language: str) -> str:
    kind = "reserve of a finished run" if corpus["kind"] == "reserve" else "shards as they are, with copies"
    more = corpus["documents_read"] - corpus["documents"]
    left = f"; {more:,} of other languages left out" if more else ""
    lost = sum(corpus["rejects"].values())
    refused = f"; {lost:,} records gave no document" if lost else ""
    size = f"{corpus['documents']:,} documents in {language!r}, {corpus['words']:,} words"
    return f"{corpus['name']}: {size} ({kind}{left}{refused})"


def _triple(value: float | None, low: float | None, high: float | None) -> str:
    if value is None:
        return "not known"
    if low is None or high is None:
        return f"{value:.4g}"
    return f"{value:.4g} [{low:.4g}, {high:.4g}]"


def _verdict(row: dict[str, Any], result: dict[str, Any]) -> str:
    p = row["p_adjusted"]
    if p is None:
        return "not comparable"
    told = "p < 0.0001" if p < 1e-4 else f"p = {p:.2g}"
    if row["worse_than_reference"]:
        return f"WORSE, {told}"
    return f"not worse, {told}" if not result["too_few"] else "too few"


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
