"""The Vendi score: how many effectively different documents there are, from the sum of their outer products.

    outer = vectors.T.astype(np.int64) @ vectors    # of embed(keys, offsets); add those of other documents at will
    vendi(outer), vendi(outer, order=2)

The score is the exponential of the entropy of the eigenvalues of the similarity matrix K / n (Friedman & Dieng, TMLR
2023, definition 3.1). With vectors of one length, K = X Xᵀ has the same eigenvalues besides zero as Xᵀ X (section 3.2,
"dual"), which is small and additive. Of order q it is that of Rényi's entropy (Pasarkar & Dieng, AISTATS 2024): small q
heeds rare kinds of documents, large q the common ones. It is 1 where all documents are alike, and at most the number of
documents and of dimensions, 64.

In a sum over different documents the trace takes the place of n, so that a document counts by the square of its
length; those without a word have none.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def vendi(outer: npt.NDArray[np.int64], order: float = 1.0) -> float:
    """The Vendi score of the documents whose outer products were summed; NaN where there was none.

    Args:
        outer: (d, d), symmetric: the sum of x xᵀ. Sums of whole numbers below 2^53 are exact.
        order: of Rényi's entropy, from 0 (how many directions there are at all) to infinity (one over the share of the
            commonest); 1 is Shannon's.

    Raises ValueError for a negative order or a matrix that is not square.
    """
    if outer.ndim != 2 or outer.shape[0] != outer.shape[1]:
        raise ValueError(f"the sum of outer products is a square matrix, not of shape {outer.shape}")
    if not order >= 0:
        raise ValueError(f"the order of the Vendi score is {order}; it is 0 or more")
    trace = float(np.trace(outer))
    if trace <= 0:
        return float("nan")
    shares = np.linalg.eigvalsh(outer / trace)
    # Rounding leaves eigenvalues of about 1e-17 where there is none; they may be negative.
    shares = shares[shares > len(shares) * np.finfo(np.float64).eps]
    if order == 1:
        return float(np.exp(-(shares * np.log(shares)).sum()))
    if order == 0:
        return float(len(shares))
    if np.isinf(order):
        return float(1 / shares.max())
    return float((shares**order).sum() ** (1 / (1 - order)))


def vendi_each(outers: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """The Vendi score, of order 1, of each of several sums of outer products (n, d, d); NaN where there was none."""
    trace = np.trace(outers, axis1=1, axis2=2)
    shares = np.linalg.eigvalsh(outers / np.maximum(trace, 1)[:, None, None])
    some = np.where(shares > shares.shape[1] * np.finfo(np.float64).eps, shares, 1.0)
    return np.asarray(np.where(trace > 0, np.exp(-(some * np.log(some)).sum(axis=1)), np.nan), np.float64)
