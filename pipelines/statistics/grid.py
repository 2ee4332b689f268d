"""The kernel behind intervals for a mixture share: for every draw of the references, only where the likelihood lives.

The log-likelihood of counts is concave in the share. Its greatest value on the grid is therefore found by bisection of
the sign of its slope, and away from there it need be followed only until it has dropped by :data:`DROP`::

    confidence, posterior = averaged(counts, human, machine, shares)  # (points,) each: one slice of counts (bins,)

The larger the slice, the narrower its likelihood and the fewer logarithms it costs.
"""

from __future__ import annotations

import math

import numba
import numpy as np
import numpy.typing as npt

Float = npt.NDArray[np.float64]

LEAST = 1e-12  # of a probability; a bin in which a reference saw nothing is not impossible
DROP = 20.0  # beyond it the normal distribution function of the signed root is within 2e-10 of 0 or 1


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def averaged(counts: Float, human: Float, machine: Float, shares: Float) -> tuple[Float, Float]:
    """Two distribution functions of the share, averaged over draws of the references; (points,) each.

    The first is Φ of the signed root of the likelihood ratio, the second the posterior under a flat prior, by
    trapezia between the points.

    Args:
        counts: (bins,).
        human: (draws, bins) of the reference distribution of human text.
        machine: the same of machine text.
        shares: (points,) ascending from 0 to 1, three or more.
    """
    points = len(shares)
    confidence, posterior = np.zeros(points), np.zeros(points)
    value, density = np.empty(points), np.empty(points)
    for draw in range(len(human)):
        of_human, of_machine = human[draw], machine[draw]
        best = _last_rise(counts, of_human, of_machine, shares)
        first = last = best
        top = value[best] = _log_likelihood(counts, of_human, of_machine, shares[best])
        for step in (-1, 1):
            at = best + step
            while 0 <= at < points:
                value[at] = _log_likelihood(counts, of_human, of_machine, shares[at])
                top = max(top, value[at])
                first, last = min(first, at), max(last, at)
                if top - value[at] > DROP and abs(at - best) > 2:  # a parabola needs two neighbours
                    break
                at += step
        if best < last and value[best + 1] > value[best]:
            best += 1
        place, height = _top(value, best)
        whole = 0.0
        for at in range(first, last + 1):
            density[at] = math.exp(value[at] - value[best])
            if at > first:
                whole += (density[at] + density[at - 1]) / 2 * (shares[at] - shares[at - 1])
        below = 0.0
        for at in range(first, last + 1):
            if at > first:
                below += (density[at] + density[at - 1]) / 2 * (shares[at] - shares[at - 1])
            posterior[at] += below / whole
            root = math.sqrt(max(height - value[at], 0.0))
            confidence[at] += 0.5 * math.erfc(root if at < place else -root)
        for at in range(last + 1, points):
            confidence[at] += 1.0
            posterior[at] += 1.0
    return confidence / len(human), posterior / len(human)


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _log_likelihood(counts: Float, human: Float, machine: Float, share: float) -> float:
    total = 0.0
    for at in range(len(counts)):
        if counts[at] > 0:
            total += counts[at] * math.log(max((1 - share) * human[at] + share * machine[at], LEAST))
    return total


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _last_rise(counts: Float, human: Float, machine: Float, shares: Float) -> int:
    """The last point at which the log-likelihood still rises, 0 if it never does: its top is there or one further."""
    low, high = 0, len(shares) - 1
    while low < high:
        middle = (low + high + 1) // 2
        share, slope = shares[middle], 0.0
        for at in range(len(counts)):
            if counts[at] > 0:
                mixed = max((1 - share) * human[at] + share * machine[at], LEAST)
                slope += counts[at] * (machine[at] - human[at]) / mixed
        if slope > 0:
            low = middle
        else:
            high = middle - 1
    return low


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _top(value: Float, best: int) -> tuple[float, float]:
    """Place, in steps, and height of the parabola through the greatest value and its neighbours."""
    at = min(max(best, 1), len(value) - 2)
    slope = (value[at + 1] - value[at - 1]) / 2
    bend = value[at - 1] - 2 * value[at] + value[at + 1]
    shift = min(max(-slope / bend, -1.0), 1.0) if bend < -1e-9 else float(best - at)
    return at + shift, max(value[at] + slope * shift + bend * shift * shift / 2, value[best])
