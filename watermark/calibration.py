"""The null of one key, measured on text that is known to be human.

An exact p-value holds on average over keys. One fixed key is lucky or unlucky for good: some frequent pairs of tokens
are green, others are not, so that all human text of a language leans to one side, and texts of one kind lean together.
What a key does on a known-human corpus is measured once and taken off::

    >>> rng = np.random.default_rng(0)
    >>> scored = rng.integers(100, 2000, 20_000)
    >>> def exact(statistic, scored):  # the p-values of a scheme
    ...     from scipy.stats import norm
    ...     return norm.logsf((statistic - 0.25 * scored) / np.sqrt(0.1875 * scored))
    >>> null = fit(rng.binomial(scored, 0.262), scored, np.arange(20_000) // 4, exact, 0.25)
    >>> human, marked = apply(null, np.array([275.0, 400.0]), np.array([1000, 1000]), exact)
    >>> bool(exact(275.0, 1000) < -3), bool(human > -2.2), bool(marked < -40)
    (True, True, True)

Three steps, of which each can only raise a p-value:

1. ``shift``, an upper confidence bound of the mean excess of a scored token, is taken off the statistic. Its error
   counts groups (hosts, sources), not documents, which are alike within one.
2. What dispersion is left is in the corpus' own p-values: a new one is ranked among those of documents of similar
   length. The rank becomes an upper confidence bound of the share of human documents that reach it (Clopper and
   Pearson), which is above the conformal (1 + r) / (n + 1): that holds on average over corpora, the bound for nearly
   every one, and it is one corpus that all further documents are compared with.
3. Beyond the corpus the tail of -log p goes on exponentially, at a lower confidence bound of its rate and never faster
   than the exact one. Where the standard score has standard deviation σ, P(-log p > t) falls as exp(-t / σ²).

A document longer than those of the corpus is tested as if it had their length and its own mean: the deviation that
belongs to the document does not shrink as it grows, and nothing measured would say how large it is beyond that length.
The ranks hold for documents drawn as the corpus was; a corpus of another language or kind promises nothing. A marked
document in the corpus costs power, not validity; ``Null.largest`` shows it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import special, stats

from watermark.windows import Floats, Ints

LogP = Callable[[Floats, Ints], Floats]

VERSION = 2
_EXACT = 500  # largest values kept one by one
_GRID = 100  # ranks kept below them
_LONGEST = 0.99  # quantile of the corpus' lengths from which on documents are tested as if they had it


@dataclass(frozen=True)
class Options:
    """How a null is measured.

    Attributes:
        documents: the fewest in a corpus.
        in_bucket: the fewest in a bucket of lengths; with fewer, neighbours share one.
        tail: the share of a bucket's documents whose values give the tail's rate.
        confidence: of the bounds on the shift, the shares and the rate.
    """

    documents: int = 1000
    in_bucket: int = 4000
    tail: float = 0.02
    confidence: float = 0.95


@dataclass(frozen=True)
class Bucket:
    """The corpus' x = -log p among documents of similar length.

    Attributes:
        shortest: scored tokens from which on the bucket applies.
        documents: how many the corpus has in it.
        values: distinct x, ascending: the largest one by one, those below at some ranks.
        log_reach: for each value, the log of the bound on the share of documents that reach it.
        log_exceed: the same for the share that exceeds it.
        rate, intercept: beyond the largest value log p = intercept - rate · x.
    """

    shortest: int
    documents: int
    values: tuple[float, ...]
    log_reach: tuple[float, ...]
    log_exceed: tuple[float, ...]
    rate: float
    intercept: float


@dataclass(frozen=True)
class Null:
    """What one key does on human text.

    Attributes:
        shift: what a scored token of a document leans to the key's side.
        longest: scored tokens up to which the corpus speaks of documents.
        buckets: by ascending length; the first begins at 0.
        site_shift: what a window leans in samples of whole sites (`watermark.sites`), which hold fewer common ones.
    """

    shift: float
    longest: int
    buckets: tuple[Bucket, ...]
    site_shift: float = 0.0

    @property
    def documents(self) -> int:
        """How many documents the corpus had."""
        return sum(bucket.documents for bucket in self.buckets)

    @property
    def largest(self) -> float:
        """The largest -log p of the corpus."""
        return max(bucket.values[-1] for bucket in self.buckets)

    def to_dict(self) -> dict[str, Any]:
        """For JSON; some 31 kB a bucket."""
        return {"version": VERSION, **asdict(self)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Null:
        """The null that ``to_dict`` was called on; ValueError for another version of the table."""
        if data.get("version") != VERSION:
            raise ValueError(f"the null table has version {data.get('version')!r}; {VERSION} is wanted: fit it again")
        buckets = tuple(_read_bucket(item) for item in data["buckets"])
        return cls(float(data["shift"]), int(data["longest"]), buckets, float(data["site_shift"]))


def fit(
    statistic: ArrayLike,
    scored: ArrayLike,
    groups: ArrayLike,
    log_p_function: LogP,
    null_mean: float,
    *,
    options: Options | None = None,
) -> Null:
    """Measures a key's null.

    Args:
        statistic: float64[d], one key's statistic of each document of a known-human corpus.
        scored: int64[d], the scored tokens it is over; documents without any are left out.
        groups: [d], numbers or names; documents of one group may be alike (a host, a source).
        log_p_function: (statistic, scored) -> natural logarithm of the exact p-value.
        null_mean: what an unmarked token adds to the statistic.
        options: sizes and confidences.

    Raises:
        ValueError: fewer documents than ``options.documents``, or a single group.
    """
    options = options or Options()
    statistic, scored = np.asarray(statistic, np.float64), np.asarray(scored, np.int64)
    kept = scored > 0
    if kept.sum() < options.documents:
        raise ValueError(
            f"{int(kept.sum())} documents with scored tokens are too few to measure a key's null; "
            f"at least {options.documents} are needed, and {options.in_bucket} for each range of lengths"
        )
    statistic, scored = statistic[kept], scored[kept]
    shift = measure_shift(statistic, scored, np.asarray(groups)[kept], null_mean, options.confidence)
    longest = longest_of(scored)
    log_p = _shifted(statistic, scored, shift, longest, log_p_function)
    return Null(shift, longest, fit_buckets(log_p, scored, options))


def apply(null: Null, statistic: ArrayLike, scored: ArrayLike, log_p_function: LogP) -> Floats:
    """Natural logarithm of the calibrated p-value, element by element: never below the exact one.

    Args:
        null: the key's.
        statistic: float64[...], the key's statistic.
        scored: int64[...], the scored tokens it is over; 0 gives 0.
        log_p_function: the one that the null was fitted with.
    """
    statistic, scored = np.broadcast_arrays(np.asarray(statistic, np.float64), np.asarray(scored, np.int64))
    log_p = calibrate(null, _shifted(statistic, scored, null.shift, null.longest, log_p_function), scored)
    # Below the mean the p-value of a document that is taken for a shorter one is the smaller of the two.
    return np.asarray(np.maximum(log_p, np.where(scored > 0, log_p_function(statistic, scored), 0.0)))


def calibrate(null: Null, log_p: ArrayLike, scored: ArrayLike) -> Floats:
    """``log_p``, or what its rank among the corpus' values makes of it where that is higher.

    For p-values that were made elsewhere, such as those of a scan of stretches, with a null whose buckets were fitted
    on the same sort of p-values.
    """
    log_p, scored = np.broadcast_arrays(np.asarray(log_p, np.float64), np.asarray(scored, np.int64))
    which = np.searchsorted([bucket.shortest for bucket in null.buckets], scored, side="right") - 1
    calibrated = np.zeros(log_p.shape)
    for number, bucket in enumerate(null.buckets):
        inside = which == number
        calibrated[inside] = _log_rank(bucket, -log_p[inside])
    return np.asarray(np.where(scored > 0, np.maximum(log_p, calibrated), 0.0))


def longest_of(scored: Ints) -> int:
    """The scored tokens up to which the corpus has documents enough to speak of their length."""
    return int(np.quantile(scored, _LONGEST, method="higher"))


def measure_shift(statistic: Floats, scored: Ints, groups: ArrayLike, null_mean: float, confidence: float) -> float:
    """Upper confidence bound of the mean excess of a scored token over ``null_mean``; 0 where it is negative.

    The error is that of a ratio of sums over groups (Cochran, "Sampling Techniques", section 6.3).
    """
    _, group = np.unique(np.asarray(groups), return_inverse=True)
    excess = np.bincount(group, statistic - null_mean * scored)
    tokens = np.bincount(group, scored)
    count = len(tokens)
    if count < 2:
        raise ValueError("the documents form a single group; at least 2 are needed to tell how far groups differ")
    mean = excess.sum() / tokens.sum()
    error = np.sqrt(np.sum((excess - mean * tokens) ** 2) * count / (count - 1)) / tokens.sum()
    return max(0.0, float(mean + stats.t.ppf(confidence, count - 1) * error))


def fit_buckets(log_p: Floats, scored: Ints, options: Options) -> tuple[Bucket, ...]:
    """The buckets of a corpus: lengths by powers of two, joined from the longest down until each has enough."""
    ends: list[int] = []
    rest = scored
    for edge in (1 << power for power in range(int(scored.max()).bit_length() - 1, 0, -1)):
        inside = np.count_nonzero(rest >= edge)
        if min(inside, len(rest) - inside) >= options.in_bucket:
            ends.append(edge)
            rest = rest[rest < edge]
    edges = [0, *reversed(ends)]
    which = np.searchsorted(edges, scored, side="right") - 1
    return tuple(_bucket(edge, -log_p[which == number], options) for number, edge in enumerate(edges))


def _read_bucket(item: Mapping[str, Any]) -> Bucket:
    kept = tuple(item["values"]), tuple(item["log_reach"]), tuple(item["log_exceed"])
    return Bucket(item["shortest"], item["documents"], *kept, item["rate"], item["intercept"])


def _bucket(shortest: int, x: Floats, options: Options) -> Bucket:
    x = np.sort(x)
    count = len(x)
    ranks = np.unique(np.geomspace(min(_EXACT, count), count, _GRID).astype(np.int64))
    places = np.concatenate([count - ranks[::-1], np.arange(max(0, count - _EXACT), count)])
    values = np.unique(x[places])
    reach = _log_share(count - np.searchsorted(x, values, side="left"), count, options.confidence)
    exceed = _log_share(count - np.searchsorted(x, values, side="right"), count, options.confidence)
    tail = max(10, int(count * options.tail))
    excess = x[-tail:].sum() - tail * x[-tail]
    # Twice the rate times the sum of ``tail - 1`` exponential excesses is χ² with twice as many degrees of freedom.
    lowest = stats.chi2.ppf(1 - options.confidence, 2 * (tail - 1)) / 2
    rate = min(1.0, float(lowest / excess)) if excess > 0 else 1.0
    # The line lies on or above each of the largest ranks, not only the last: one odd document does not break it.
    lines = _log_share(np.arange(tail, 0, -1), count, options.confidence) + rate * x[-tail:]
    kept = tuple(values.tolist()), tuple(reach.tolist()), tuple(exceed.tolist())
    return Bucket(shortest, count, *kept, rate, float(lines.max()))


def _log_share(hits: Ints, count: int, confidence: float) -> Floats:
    """Logarithm of the upper confidence bound of a share of which ``hits`` of ``count`` were seen."""
    few = np.minimum(hits, count - 1)
    return np.where(hits < count, np.log(special.betaincinv(few + 1.0, count - few, confidence)), 0.0)


def _log_rank(bucket: Bucket, x: Floats) -> Floats:
    """The bound on the share of human documents that reach x; between kept values that of the lower one; then the line.

    The line does not rise above the bound at the largest value, so that the whole falls in x.
    """
    values, reach = np.array(bucket.values), np.array(bucket.log_reach)
    place = np.searchsorted(values, x, side="right") - 1
    inside = np.maximum(place, 0)
    log_share = np.where(values[inside] == x, reach[inside], np.array(bucket.log_exceed)[inside])
    log_share = np.where(place >= 0, log_share, 0.0)
    line = np.minimum(bucket.intercept - bucket.rate * x, reach[-1])
    return np.asarray(np.where(x > values[-1], line, log_share))


def without_shift(statistic: Floats, scored: Ints, shift: ArrayLike, longest: ArrayLike) -> tuple[Floats, Ints]:
    """The statistic and the scored tokens less the shift, and less what is longer than the corpus.

    ``shift`` and ``longest`` are one key's, or those of k keys where the last axis is the keys'.
    """
    kept = np.minimum(scored, longest)
    excess = statistic - np.asarray(shift) * scored
    return np.where(kept < scored, excess * (kept / np.maximum(scored, 1)), excess), kept


def _shifted(statistic: Floats, scored: Ints, shift: float, longest: int, log_p_function: LogP) -> Floats:
    """The exact p-values without the shift, and without what is longer than the corpus."""
    return np.asarray(log_p_function(*without_shift(statistic, scored, shift, longest)), np.float64)
