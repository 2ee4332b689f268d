"""The measures of the collapse panel: what each is, and its value with an interval on a state.

A working example::

    from pipelines.statistics.panel.against import compare
    from pipelines.statistics.panel.state import state_of
    found = measures(state_of(texts))
    found["mattr"]                      # Estimate(value, low, high, se)
    compare(state_of(later), [state_of(month) for month in months_before])["mattr"].p_value

Some measures rise or fall with the size of a corpus by themselves. :func:`measures` gives them for the whole of it,
:func:`equal_measures` for its equal sample (:mod:`pipelines.statistics.panel.equal`), and :func:`comparable` whichever
may be compared between corpora of different sizes.
"""

from __future__ import annotations

import math

import numpy as np
from scipy import special

from pipelines.statistics.panel.catalogue import HIGHER, LOWER, MEASURES, NEITHER, Measure, measure
from pipelines.statistics.panel.drift import quantiles
from pipelines.statistics.panel.equal import EqualSample, equal_sample, without
from pipelines.statistics.panel.estimators import (
    LOG,
    NATURAL,
    NOTHING,
    ROOT,
    SHARE,
    ZIPF_FROM,
    Estimate,
    Float,
    Int,
    collision_entropy,
    collision_error,
    entropy_chao_shen,
    estimate,
    grown,
    hapax_share,
    hll_count,
    hll_error,
    jackknife_variance,
    missing_mass,
    on_scale,
    zipf_error,
    zipf_exponent,
)
from pipelines.statistics.panel.sketches import MAX_THETA, Sample, union
from pipelines.statistics.panel.state import WINDOW, State
from pipelines.statistics.panel.surprisal import BINS_PER_BIT
from pipelines.statistics.panel.vendi import vendi_each

__all__ = [
    "HIGHER",
    "LOWER",
    "MEASURES",
    "NEITHER",
    "Estimate",
    "Measure",
    "comparable",
    "equal_measures",
    "measure",
    "measures",
    "pooled",
]

TAILS = (0.1, 0.9)  # between which the spread of surprisal is taken


def measures(state: State, level: float = 0.95, equal: EqualSample | None = None) -> dict[str, Estimate]:
    """The measures of a whole state that need no second corpus, in the order of :data:`MEASURES`.

    Entropy, the compression ratio and the template rate are those of the equal sample, since only there are counts and
    texts at hand. Values are NaN where they cannot be told: surprisal in a language without a model, for example.

    Args:
        state: of one slice or corpus.
        level: of the intervals.
        equal: its equal sample, where the caller has it.
    """
    equal = equal or equal_sample(state)
    return _of_whole(state, level, equal, _of_sample(equal, level))


def both(state: State, level: float, equal: EqualSample) -> tuple[dict[str, Estimate], dict[str, Estimate]]:
    """:func:`measures` and :func:`equal_measures`, in half of the time."""
    of_sample = _of_sample(equal, level)
    return _of_whole(state, level, equal, of_sample), _in_order(of_sample)


def _of_whole(state: State, level: float, equal: EqualSample, of_sample: dict[str, Estimate]) -> dict[str, Estimate]:
    found = {
        "distinct_trigrams": _distinct_trigrams(state, level),
        "distinct_documents": _distinct_documents(state, level),
        **_rare_words(state, level),
        "entropy": of_sample["entropy"],
        "renyi2": _renyi2(state, level),
        "mattr": _mattr(state, level),
        "compression_ratio": of_sample["compression_ratio"],
        "template_rate": _template_rate(equal, level),
        "vendi": _vendi(state.outer, state.documents, level),
        **_surprisal(state, level),
    }
    return _in_order(found)


def equal_measures(state: State, level: float = 0.95, equal: EqualSample | None = None) -> dict[str, Estimate]:
    """The measures of the equal sample, for those of :data:`MEASURES` that change with size; arguments as above.

    A sample that fell a little short of its size, as of slices with not many more documents, is brought to that size by
    the slope that leaving out groups shows.
    """
    return _in_order(_of_sample(equal or equal_sample(state), level))


def comparable(state: State, level: float = 0.95, equal: EqualSample | None = None) -> dict[str, Estimate]:
    """What may be compared between corpora of different size: of the equal sample where a measure changes with size."""
    whole, of_equal = both(state, level, equal or equal_sample(state))
    return whole | of_equal


def pooled(state: State, order: int) -> tuple[Sample, Int]:
    """The sample of the whole state, and the counts of its n-grams by group, (k, G)."""
    whole = union(state.samples[order])
    counts = np.zeros((len(whole.keys), len(state.documents)), np.int64)
    for group, part in enumerate(state.samples[order]):
        inside = part.keys < whole.theta
        counts[np.searchsorted(whole.keys, part.keys[inside]), group] = part.counts[inside]
    return whole, counts


def _in_order(found: dict[str, Estimate]) -> dict[str, Estimate]:
    return {one.name: found[one.name] for one in MEASURES if one.name in found}


def _split(values: Float) -> tuple[float, Float]:
    return float(values[0]), values[1:]


def _rare_words(state: State, level: float) -> dict[str, Estimate]:
    """Hapax share, missing mass and Zipf's exponent of all words, off the bottom-k sample."""
    sample, by_group = pooled(state, 1)
    counts, words = without(by_group), without(state.words[None])[0]
    kept = int(sample.theta) / MAX_THETA
    once = (counts == 1).sum(axis=0)
    hapax, hapax_left = _split(hapax_share(counts))
    mass, mass_left = _split(missing_mass(once / kept, words))
    zipf, zipf_left = _split(zipf_exponent(counts))
    tail = int((counts[:, 0] >= ZIPF_FROM).sum())
    distinct = max(len(counts), 1)
    return {
        "hapax_share": estimate(
            hapax, hapax_left, state.documents, SHARE, level, (1 - kept) * hapax * (1 - hapax) / distinct
        ),
        "missing_mass": estimate(mass, mass_left, state.documents, LOG, level, (1 - kept) / max(int(once[0]), 1)),
        "zipf_exponent": estimate(
            zipf, zipf_left, state.documents, NATURAL, level, (1 - kept) * zipf_error(zipf, tail) ** 2 if tail else 0.0
        ),
    }


def _distinct_trigrams(state: State, level: float) -> Estimate:
    """By HyperLogLog, with the error between draws of documents from the sample; exact where all are in the sample."""
    sample, by_group = pooled(state, 3)
    kept = int(sample.theta) / MAX_THETA
    of_sample, left_out = _split((without(by_group) > 0).sum(axis=0) / kept)
    if kept == 1:
        return estimate(of_sample, left_out, state.documents, LOG, level)
    count = hll_count(state.registers["trigrams"])
    sketch = hll_error(count, len(state.registers["trigrams"]))
    shifted = count / of_sample
    return estimate(count, left_out * shifted, state.documents, LOG, level, sketch**2)


def _distinct_documents(state: State, level: float) -> Estimate:
    """By HyperLogLog. Between draws of n documents, d of them distinct, the variance of d is at most n s (1 − s), s
    being the share that occur once (Efron & Stein, Ann. Statist. 9, 1981), which is at least (2d − n) / n.
    """  # fmt: skip
    n = float(state.documents.sum())
    count = hll_count(state.registers["documents"])
    if n == 0 or count == 0:
        return NOTHING
    once = max((2 * min(count, n) - n) / n, 0.5)
    se = math.sqrt(hll_error(count, len(state.registers["documents"])) ** 2 + n * once * (1 - once) / count**2)
    reach = se * float(special.ndtri((1 + level) / 2))
    value = min(count, n)
    return Estimate(value, count * math.exp(-reach), max(min(count * math.exp(reach), n), value), se)


def _renyi2(state: State, level: float) -> Estimate:
    groups = np.arange(len(state.documents))
    left_out = [collision_entropy(state.signed[groups != g], state.words[groups != g]) for g in groups]
    value = collision_entropy(state.signed, state.words)
    found = estimate(value, left_out, state.documents, NATURAL, level)
    # The sketch of another corpus errs in the same way, since signs and buckets are the same: the interval has this
    # error, but a comparison has not.
    wide = estimate(value, left_out, state.documents, NATURAL, level, collision_error(state.signed) ** 2)
    return wide._replace(se=found.se)


def _mattr(state: State, level: float) -> Estimate:
    types, windows = without(np.stack([state.window_types, state.windows]))
    with np.errstate(divide="ignore", invalid="ignore"):
        value, left_out = _split(types / (WINDOW * windows))
    return estimate(value, left_out, state.documents, SHARE, level)


def _vendi(outer: Int, documents: Int, level: float, size: int | None = None) -> Estimate:
    total = outer.sum(axis=0)
    value, left_out = _split(vendi_each(np.concatenate([total[None], total - outer])))
    return _estimate_at(value, left_out, documents, LOG, level, size)


def _surprisal(state: State, level: float) -> dict[str, Estimate]:
    """Quantiles, with limits from those of the share of documents below them (Woodruff, J. Am. Stat. Assoc. 47, 1952).

    The jackknife would be blind where a quantile lies in a gap, as between templates and the rest. The limits of the
    spread are those of a difference of two estimates by their own limits (MOVER: Zou & Donner, Stat. Med. 27, 2008).
    """
    histogram = state.surprisal.sum(axis=0)
    n = int(histogram.sum())
    if not n:
        return {"surprisal_median": NOTHING, "surprisal_spread": NOTHING}
    reach = float(special.stdtrit(len(state.documents) - 1, (1 + level) / 2))

    def limits(share: float) -> tuple[float, float, float]:
        step = reach * math.sqrt(share * (1 - share) / n)
        at = np.clip([share - step, share, share + step], 0, 1)
        low, value, high = quantiles(histogram, at.tolist()) / BINS_PER_BIT
        return float(low), float(value), float(high)

    low, value, high = limits(0.5)
    (first_low, first, first_high), (last_low, last, last_high) = (limits(share) for share in TAILS)
    spread = last - first
    below, above = math.hypot(last - last_low, first_high - first), math.hypot(last_high - last, first - first_low)
    return {
        "surprisal_median": Estimate(value, low, high, (high - low) / (2 * reach)),
        "surprisal_spread": Estimate(spread, max(spread - below, 0.0), spread + above, (below + above) / (2 * reach)),
    }


def _of_sample(equal: EqualSample, level: float) -> dict[str, Estimate]:
    words, trigrams, texts = (without(counts) for counts in (equal.words, equal.trigrams, equal.texts))
    documents = without(equal.documents[None])[0]
    raw, packed = without(np.stack([equal.raw, equal.packed]))
    with np.errstate(divide="ignore", invalid="ignore"):
        shares: dict[str, Float] = {
            "distinct_trigrams": (trigrams > 0).sum(axis=0) / trigrams.sum(axis=0),
            "hapax_share": hapax_share(words),
            "missing_mass": missing_mass((words == 1).sum(axis=0), words.sum(axis=0)),
            "entropy": entropy_chao_shen(words),
            "zipf_exponent": zipf_exponent(words),
            "compression_ratio": raw / packed,
        }
        distinct = (texts > 0).sum(axis=0) / documents
    found = {
        name: _estimate_at(*_split(values), equal.documents, measure(name).scale, level, equal.size)
        for name, values in shares.items()
    }
    # Without a single repetition the jackknife sees no error; one more or less is always possible.
    copies = max((1 - distinct[0]) * documents[0], 1.0)
    spread = jackknife_variance(*_split(on_scale(distinct, LOG)), equal.documents)
    missing = max(copies / max(int(documents[0]), 1) ** 2 - spread, 0.0) if math.isfinite(spread) else 0.0
    value = estimate(*_split(distinct), equal.documents, LOG, level, missing)
    found["distinct_documents"] = value._replace(high=min(value.high, 1.0))
    found["vendi"] = _vendi(equal.outer, equal.documents, level, equal.size)
    return found


def _estimate_at(value: float, left_out: Float, sizes: Int, scale: str, level: float, size: int | None) -> Estimate:
    """The estimate brought to ``size`` documents."""
    step = grown(value, left_out, sizes, size) - value if size and sizes.sum() > size / 2 else 0.0
    return estimate(value + step, left_out + step, sizes, scale, level)


def _template_rate(equal: EqualSample, level: float) -> Estimate:
    """The U-statistic of similar pairs, on the scale of its root, which is about the share of the largest template."""
    # Of all pairs, and of those without each group: its own row of a symmetric table has them once.
    total = [int(np.triu(table).sum()) for table in (equal.similar, equal.pairs)]
    similar, pairs = map(float, total)
    if pairs == 0:
        return NOTHING
    left = [all_ - table.sum(axis=1) for all_, table in zip(total, (equal.similar, equal.pairs), strict=True)]
    left_out = np.where(left[1] > 0, left[0] / np.maximum(left[1], 1), math.nan)
    found = estimate(similar / pairs, left_out, equal.documents, ROOT, level)
    # So many pairs make a cluster of m documents, whose number is no surer than a Poisson count: with few of them the
    # jackknife, which then sees next to nothing, would be far too sure.
    n = (1 + math.sqrt(1 + 8 * pairs)) / 2
    m = (1 + math.sqrt(1 + 8 * similar)) / 2
    tail = (1 - level) / 2
    least = float(special.gammaincinv(m, tail)) / n if similar else 0.0
    most = float(special.gammaincinv(m + 1, 1 - tail)) / n
    return Estimate(
        similar / pairs,
        float(np.fmin(found.low, least**2)),
        min(float(np.fmax(found.high, most**2)), 1.0),
        max(found.se, math.sqrt(m) / n) if math.isfinite(found.se) else math.sqrt(m) / n,
    )
