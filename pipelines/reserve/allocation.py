"""How many documents of a sample each stratum gives: exact on average, of a fixed total, and nested as that grows.

A stratum of N documents shall give q of them, which is no whole number. Rounding by fixed rules (largest remainders)
has two faults here. Strata whose q rounds to 0 can never be drawn, and with strata as fine as month × host × language
these are most of the archive; and a larger sample may give fewer documents of a stratum (the Alabama paradox: Balinski
and Young, Fair Representation, 1982), so that it does not hold the smaller one. Here rounding is drawn by lot, keyed by
the seed: on average over all seeds a stratum gives exactly q, the total is always the one asked for, and no stratum
gives less when the total grows (a randomised apportionment with house monotonicity, as in Gölz, Peters and Procaccia,
In This Apportionment Lottery, the House Always Wins, Operations Research, 2025, doi 10.1287/opre.2022.0419; the method
here is a simpler one, which stays near q and not always within one of it).

The strata are the leaves of a binary tree that follows their columns: all months, halves of them, a month, its hosts
and so on. A node that is to give m of the C documents on offer below it gives its left branch, with A of these,
``floor((m A + u) / C)``, where u is one random whole number from 0 to C - 1, the same for each m: m A / C on average,
and never less for a greater m. The right branch gives the rest.

    >>> sizes, columns = np.array([60, 30, 9, 1]), np.arange(4)[None]
    >>> allocate(sizes, columns, 10, Allocation.PROPORTIONAL, "0").expected.tolist()
    [6.0, 3.0, 0.9, 0.1]
    >>> int(allocate(sizes, columns, 10, Allocation.PROPORTIONAL, "0").sampled.sum())
    10

What is not proportional to size is offered in layers, each used up before the next: `equal` offers one document of each
stratum in each, `sqrt` in k layers ``floor(k √N)``, and none offers more than it has.
"""

from __future__ import annotations

import hashlib
import struct
from enum import StrEnum
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]


class Allocation(StrEnum):
    """How strata share a sample."""

    PROPORTIONAL = "proportional"  # to their number of documents: every document is as likely as any other
    EQUAL = "equal"  # the same number each, as far as they have it
    SQRT = "sqrt"  # to its square root: between the two


class Allocated(NamedTuple):
    """By stratum: how many documents this seed gives, int64 (h,), and how many all seeds give on average (h,)."""

    sampled: Counts
    expected: FloatArray


def allocate(sizes: Counts, columns: Counts, total: int, how: Allocation, seed: str) -> Allocated:
    """Shares a sample among strata.

    Args:
        sizes: documents of each stratum, int64 (h,), none of them 0.
        columns: int64 (c, h); the strata are sorted by these columns, the first one first, and differ in them.
        total: documents of the sample, from 0 to ``sizes.sum()``.
        how: in what shares.
        seed: of the lots.

    Raises ValueError for a total that cannot be had.
    """
    if not 0 <= total <= int(sizes.sum()):
        raise ValueError(f"{total} of {int(sizes.sum())} documents")
    layer = _layer(sizes, total, how)
    base = offered(sizes, how, layer)
    on_offer = offered(sizes, how, layer + 1) - base
    drawn = _drawn(on_offer, columns, total - int(base.sum()), f"{seed}\0{layer}")
    return Allocated(base + drawn, expectation(sizes, total, how))


def expectation(sizes: Counts, total: int, how: Allocation) -> FloatArray:
    """How many documents of each stratum all seeds give on average: (h,), never 0 for a sample that is not empty."""
    layer = _layer(sizes, total, how)
    base = offered(sizes, how, layer)
    on_offer = offered(sizes, how, layer + 1) - base
    everything = int(on_offer.sum())
    rest = total - int(base.sum())
    return np.asarray(base + (rest * on_offer / everything if everything else 0.0), np.float64)


def offered(sizes: Counts, how: Allocation, layers: int) -> Counts:
    """How many documents of each stratum the first so many layers hold: int64 (h,)."""
    if layers == 0:
        return np.zeros_like(sizes)
    if how is Allocation.PROPORTIONAL:
        return sizes
    return np.minimum(sizes, layers if how is Allocation.EQUAL else _root(layers * layers * sizes))


def _layer(sizes: Counts, total: int, how: Allocation) -> int:
    """The number of layers that are used up."""
    low, high = 0, int(sizes.max(initial=0))
    if how is Allocation.SQRT:
        high = int(np.ceil(np.sqrt(high)))
    while low < high:  # the greatest number whose documents are no more than wanted
        middle = (low + high + 1) // 2
        if int(offered(sizes, how, middle).sum()) <= total:
            low = middle
        else:
            high = middle - 1
    return low


def _root(squares: Counts) -> Counts:
    """The whole part of square roots."""
    roots = np.sqrt(squares.astype(np.float64)).astype(np.int64)
    roots -= roots * roots > squares
    roots += (roots + 1) * (roots + 1) <= squares
    return roots


def _drawn(on_offer: Counts, columns: Counts, total: int, key: str) -> Counts:
    """Draws so many of what is on offer."""
    ends = np.concatenate([[0], np.cumsum(on_offer)])
    changes = _changes(columns)
    drawn = np.zeros(len(on_offer), np.int64)
    nodes = [(0, len(on_offer), total)] if total else []
    while nodes:
        begin, end, wanted = nodes.pop()
        held = int(ends[end] - ends[begin])
        if wanted == held or end - begin == 1:
            drawn[begin:end] = on_offer[begin:end] if wanted == held else wanted
            continue
        middle = _middle(changes, begin, end)
        left = (wanted * int(ends[middle] - ends[begin]) + _lot(key, begin, end, held)) // held
        nodes += [half for half in ((begin, middle, left), (middle, end, wanted - left)) if half[2]]
    return drawn


def _changes(columns: Counts) -> list[Counts]:
    """For each column, where it or one before it has another value than in the stratum before."""
    differs = np.logical_or.accumulate(columns[:, 1:] != columns[:, :-1], axis=0)
    return [np.flatnonzero(row) + 1 for row in differs]


def _middle(changes: list[Counts], begin: int, end: int) -> int:
    """Where a node is parted: by the first column that is not the same in all of it, as near to the half as may be."""
    half = (begin + end) // 2
    for column in changes:
        at = int(np.searchsorted(column, half))
        near = [int(column[i]) for i in (at - 1, at) if 0 <= i < len(column) and begin < column[i] < end]
        if near:
            return min(near, key=lambda place: (abs(place - half), place))
    raise ValueError("two strata are the same in all columns")


def _lot(key: str, begin: int, end: int, below: int) -> int:
    """A whole number from 0 to ``below`` - 1: of 256 bits, so that its bias is below 2^-190."""
    digest = hashlib.sha256(b"lot\0" + struct.pack(">QQ", begin, end) + key.encode()).digest()
    return int.from_bytes(digest, "big") % below
