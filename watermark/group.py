"""Keys that differ in nothing but the key, tested together: the p-values of documents, stretches and all.

Green lists are dear: each (key, seed) has a permutation of its own. So where a table of frequent pairs can be had
(:mod:`watermark.frequent_pairs`), documents are screened with it for all keys at once, and only the documents and keys
that stand out are scored in full. The two looks together are a valid test: a screened p-value p above the bound s is
reported as 2 p, one below gives way to the p-value q of all pairs. For t < 2 s only the latter can reach t, and
P(p <= s, q <= t) <= min(s, t); beyond, P <= s + t / 2 <= t.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from watermark import kgw
from watermark.calibration import Null, calibrate, without_shift
from watermark.frequent_pairs import PairTable, screen
from watermark.green_lists import Cache
from watermark.stretches import scan_stretches
from watermark.windows import Batch, Floats, Ints, Offsets, Scheme, Tally, Tokens, windows

BLOCK = 64  # positions; the shortest stretch that is looked at
_SCREEN = 1e-3  # the p-value of the first look up to which there is a second
_SCREEN_SHORT = 1e-2  # for documents of up to two blocks, of which the table may know little
_UNLIMITED = np.iinfo(np.int64).max


class Tested(NamedTuple):
    """Of d documents and k keys: natural logarithm of the p-value, tokens that counted, and the strongest stretch.

    ``stretch``, int64[d, k, 2], holds the first and the last + 1 of its tokens; -1 where the whole tells more.
    """

    log_p: Floats
    scored: Ints
    stretch: Ints


@dataclass(frozen=True)
class Group:
    """Keys that are scored together.

    Attributes:
        scheme: their module.
        keys: their dataclasses.
        columns: their places in the registry.
        width: tokens of context.
        nulls: what was measured for each.
        table: for a first look; None: every document is scored in full.
        cache: of green lists, between batches.
    """

    scheme: Scheme
    keys: tuple[Any, ...]
    columns: npt.NDArray[np.int64]
    width: int
    nulls: tuple[Null | None, ...]
    table: PairTable | None = field(default=None, repr=False)
    cache: Cache | None = field(default=None, repr=False)

    def test(self, tokens: Tokens, offsets: Offsets) -> Tested:
        """The documents' p-values, no smaller than the measured nulls allow."""
        tested = self._in_full(tokens, offsets) if self.table is None else self._screened(tokens, offsets, self.table)
        return tested._replace(log_p=self._calibrated(tested))

    def score(self, batch: Batch) -> Tally:
        """The tally of each block."""
        if self.cache is not None:
            return kgw.score(batch, self.keys, self.cache)
        return self.scheme.score(batch, self.keys)

    def log_p(self, tally: Tally) -> Floats:
        """Log p-values of any stretches, [..., k]: exact, less each key's measured lean to one side."""
        statistic, scored = tally
        if not any(self.nulls):
            return self.scheme.log_p_value(statistic, scored, self.keys)
        shift = np.array([null.shift if null else 0.0 for null in self.nulls])
        longest = np.array([null.longest if null else _UNLIMITED for null in self.nulls])
        log_p = self.scheme.log_p_value(*without_shift(statistic, scored, shift, longest), self.keys)
        if np.any(scored > longest):
            # A long document below the mean would look better at the corpus' length than it does at its own.
            log_p = np.maximum(log_p, self.scheme.log_p_value(statistic, scored, self.keys))
        return log_p

    def only(self, key: int) -> Group:
        """The group of one of its keys, without the first look."""
        return replace(
            self,
            keys=self.keys[key : key + 1],
            columns=self.columns[key : key + 1],
            nulls=self.nulls[key : key + 1],
            table=None,
        )

    def _in_full(self, tokens: Tokens, offsets: Offsets) -> Tested:
        batch = windows(tokens, offsets, self.width, BLOCK)
        return self._over_stretches(batch, self.score(batch), offsets)

    def _screened(self, tokens: Tokens, offsets: Offsets, table: PairTable) -> Tested:
        batch = windows(tokens, offsets, self.width, BLOCK)
        tested = self._over_stretches(batch, screen(batch, self.keys, table), offsets)
        short = (np.diff(batch.documents) <= 2)[:, None]
        again = tested.log_p <= np.where(short, math.log(_SCREEN_SHORT), math.log(_SCREEN))
        np.minimum(tested.log_p + math.log(2.0), 0.0, out=tested.log_p)
        for key in np.flatnonzero(again.any(axis=0)).tolist():
            rows = np.flatnonzero(again[:, key])
            full = self.only(key)._in_full(*_chosen(tokens, offsets, rows))
            for whole, part in zip(tested, full, strict=True):
                whole[rows, key] = part[:, 0]
        return tested

    def _over_stretches(self, batch: Batch, tally: Tally, offsets: Offsets) -> Tested:
        scheme, keys = self.scheme, self.keys
        best = scan_stretches(tally, batch.documents, scheme.null_mean(keys), self.log_p, scheme.null_deviation(keys))
        stretch = np.full((*best.log_p.shape, 2), -1, np.int64)
        if len(batch.positions):
            first = np.minimum(batch.documents[:-1, None] + best.first, len(batch.blocks) - 2)
            last = np.minimum(first + best.blocks, len(batch.blocks) - 1)
            begin = batch.positions[batch.blocks[first]]
            end = batch.positions[np.maximum(batch.blocks[last] - 1, 0)] + 1
            part = best.blocks < np.diff(batch.documents)[:, None]
            found = np.stack([begin, end], axis=-1) - offsets[:-1, None, None]
            stretch = np.where(part[:, :, None], found, -1)
        return Tested(best.log_p, sums(tally.scored, batch.documents), stretch)

    def _calibrated(self, tested: Tested) -> Floats:
        out = np.array(tested.log_p)
        for column, null in enumerate(self.nulls):
            if null is not None and null.buckets:
                out[:, column] = calibrate(null, tested.log_p[:, column], tested.scored[:, column])
        return out


def sums(values: npt.NDArray[Any], offsets: Offsets) -> npt.NDArray[Any]:
    """Sums of rows between offsets; an empty stretch gives zero."""
    running = np.concatenate([np.zeros((1, values.shape[1]), values.dtype), np.cumsum(values, axis=0)])
    return np.asarray(running[offsets[1:]] - running[offsets[:-1]])


def _chosen(tokens: Tokens, offsets: Offsets, rows: Sequence[int] | Ints) -> tuple[Tokens, Offsets]:
    """The tokens of some documents, and where each starts."""
    starts, lengths = offsets[rows], np.diff(offsets)[rows]
    ends = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    at = np.arange(ends[-1]) - np.repeat(ends[:-1] - starts, lengths)
    return tokens[at], ends
