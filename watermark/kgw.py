"""Green lists seeded by the context (Kirchenbauer et al. 2023): two families that cannot read each other's marks.

    >>> from watermark.windows import windows
    >>> key = Key(key=15485863, vocab_size=50257)  # transformers' default: lefthash, a quarter of the vocabulary green
    >>> batch = windows(np.array([464, 3290, 318, 257, 3290, 318], np.int32), np.array([0, 6]), width(key))
    >>> score(batch, [key])  # 3290 318 counts once
    Tally(statistic=array([[2.]]), scored=array([[4]]))

``transformers`` is the library's WatermarkLogitsProcessor and WatermarkDetector: ``lefthash`` and ``selfhash``.
``lm-watermarking`` is the authors' repository (jwkirchenbauer/lm-watermarking): eleven functions, any context width,
with the scored token among what is hashed or not (``self_salt``). Sources: "A Watermark for Large Language Models"
(2023), "On the Reliability of Watermarks for Large Language Models" (2023).

Under the null a distinct (seed, token) pair is green with probability G / V, where G = int(γ V). Tokens of one seed are
drawn without replacement, and so their count is a sum of independent hypergeometric variables, each itself a sum of
independent indicators (Vatutin and Mikhailov 1982); for those the binomial tail is conservative from one above the mean
on (Hoeffding 1956, Theorem 4).

After token 0 the seed of a product is 0 under every key (``lefthash``): that one list is no secret and no chance. What
it adds to a count is among what a null measured on human text corrects.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal, NamedTuple, cast, get_args

import numpy as np
import numpy.typing as npt

from watermark.green_lists import (
    Cache,
    Flags,
    Lists,
    Pairs,
    bitmaps,
    count_green,
    green_pairs,
    pack,
    scorable,
    usable_positions,
)
from watermark.mersenne import LARGEST
from watermark.prf import TABLE_SEED, Function, Prf, check_key, make_prf, seeds
from watermark.tails import binomial_log_sf
from watermark.windows import Batch, Floats, Ints, Tally, Tokens

Variant = Literal["transformers", "lm-watermarking"]
DEFAULT_KEY = 15485863  # of both families, the millionth prime

_SCHEMES: dict[str, tuple[Prf, int, bool]] = {
    "simple_1": ("additive_prf", 1, False),
    "lefthash": ("additive_prf", 1, False),
    "algorithm-3": ("anchored_minhash_prf", 4, True),
    "selfhash": ("anchored_minhash_prf", 4, True),
    "minhash": ("minhash_prf", 4, False),
    "skipgram": ("skipgram_prf", 5, False),
}


@dataclass(frozen=True)
class Key:
    """Everything that decides which tokens are green.

    Attributes:
        key: the hashing key.
        vocab_size: of the model's output layer (transformers) or of the tokenizer (lm-watermarking).
        gamma: share of the vocabulary that is green.
        variant: which family of programs.
        seeding: ``lefthash`` or ``selfhash`` (transformers), or a function of :data:`watermark.prf.PRFS`.
        context_width: tokens that are hashed; with lefthash it decides only which tokens are scored.
        self_salt: whether the scored token is the last of them (lm-watermarking; selfhash says so itself).
        green_last: whether the green tokens are the last of the permutation (``select_green_tokens=False``).
    """

    key: int = field(repr=False)
    vocab_size: int
    gamma: float = 0.25
    variant: Variant = "transformers"
    seeding: str = "lefthash"
    context_width: int = 1
    self_salt: bool = False
    green_last: bool = False

    def __post_init__(self) -> None:
        if not 2 <= self.vocab_size < LARGEST:
            raise ValueError(f"vocab_size: {self.vocab_size}, allowed are 2 to {LARGEST - 1}")
        if not (0.0 < self.gamma < 1.0 and int(self.vocab_size * self.gamma)):
            raise ValueError(f"gamma: {self.gamma}, allowed is 0 < gamma < 1 with at least one green token")
        if self.variant not in get_args(Variant):
            raise ValueError(f"variant: {self.variant}, allowed are {', '.join(get_args(Variant))}")
        if self.context_width < 1:
            raise ValueError(f"context_width: {self.context_width}, allowed are numbers from 1")
        if self.variant == "transformers":
            self._check_transformers()
            return
        check_key(cast(Prf, self.seeding), self.key)
        if self.seeding == "minskipgram_prf" and self.context_width < 2:
            raise ValueError("context_width: 1, minskipgram_prf needs 2 or more")

    def _check_transformers(self) -> None:
        if self.seeding not in ("lefthash", "selfhash"):
            raise ValueError(f"seeding: {self.seeding}, allowed are lefthash and selfhash")
        if self.self_salt or self.green_last:
            raise ValueError("self_salt and green_last: transformers has neither; selfhash says it itself")
        if not -(2**63) <= self.key < 2**64:
            raise ValueError("key: it must fit in 64 bits, with or without a sign")
        if self.seeding == "selfhash":
            check_key("anchored_minhash_prf", self.key)


class Reading(NamedTuple):
    """How a window becomes a seed.

    Attributes:
        name: the pseudorandom function.
        length: tokens that it reads.
        salted: whether the scored token is the last of them.
        table_seed: of the table that it hashes with.
    """

    name: Prf
    length: int
    salted: bool
    table_seed: int = TABLE_SEED


def named_key(scheme: str, vocab_size: int, gamma: float = 0.25, key: int | None = None) -> Key:
    """A key of lm-watermarking by the name that its programs take for a seeding scheme.

    Args:
        scheme: ``simple_1`` or ``lefthash``, ``algorithm-3`` or ``selfhash``, ``minhash``, ``skipgram``, or freely
            ``ff-additive_prf-4-True-15485863``, of which the last part may be missing.
        vocab_size: of the tokenizer.
        gamma: share of the vocabulary that is green.
        key: the hashing key; the published one where neither this nor the name gives it.

    Raises:
        ValueError: there is no such scheme.

    >>> named_key("ff-minhash_prf-3-True-7", 50257).context_width
    3
    """
    parts = scheme.split("-")
    if scheme in _SCHEMES:
        prf, context_width, self_salt = _SCHEMES[scheme]
    elif scheme.startswith("ff-") and len(parts) in (4, 5) and parts[2].isdecimal():
        prf, context_width, self_salt = cast(Prf, parts[1]), int(parts[2]), parts[3] == "True"
        key = int(parts[4]) if key is None and len(parts) == 5 else key
    else:
        raise ValueError(f"seeding scheme: {scheme}, allowed are {', '.join(_SCHEMES)} and ff-PRF-WIDTH-SALT[-KEY]")
    key = DEFAULT_KEY if key is None else key
    return Key(key, vocab_size, gamma, "lm-watermarking", prf, context_width, self_salt)


def self_salted(key: Key) -> bool:
    """Whether each candidate for the next token has a green list of its own."""
    return key.self_salt or (key.variant == "transformers" and key.seeding == "selfhash")


def width(key: Key) -> int:
    """How many tokens before the scored one decide its mark: one less than are hashed where it is one of them."""
    return key.context_width - self_salted(key)


def lists(key: Key) -> Lists:
    """The shape of the green lists."""
    return Lists(key.vocab_size, int(key.vocab_size * key.gamma), key.green_last)


def reading(key: Key) -> Reading:
    """How a window becomes a seed under keys of this kind."""
    if key.variant == "lm-watermarking":
        return Reading(cast(Prf, key.seeding), key.context_width, key.self_salt)
    if key.seeding == "selfhash":
        return Reading("anchored_minhash_prf", key.context_width, True, key.key)
    return Reading("additive_prf", 1, False)


def function(key: Key) -> Function:
    """The key's pseudorandom function."""
    how = reading(key)
    return make_prf(how.name, key.key, key.vocab_size, how.table_seed)


def score(batch: Batch, keys: Sequence[Key], cache: Cache | None = None) -> Tally:
    """Green tokens and scored tokens of each block under each key; a repeated (seed, token) pair counts once.

    The cache keeps lists between batches; it must be of the keys' :func:`lists`.
    """
    check_alike(keys)
    batch = scorable(batch, keys[0].vocab_size, width(keys[0]))
    tally = Tally(np.zeros((len(batch.blocks) - 1, len(keys))), np.zeros((len(batch.blocks) - 1, len(keys)), np.int64))
    for column, key in enumerate(keys):
        tally.statistic[:, column], tally.scored[:, column] = count_green(pairs(batch, key), batch, lists(key), cache)
    return tally


def colours(batch: Batch, key: Key) -> npt.NDArray[np.int8]:
    """int8[p]: each position's colour, repeated pairs included: 1 green, 0 red, -1 where it cannot be scored."""
    found = np.full(len(batch.positions), -1, np.int8)
    usable = usable_positions(batch, key.vocab_size, width(key))
    batch = scorable(batch, key.vocab_size, width(key))
    found[usable] = green_pairs(pairs(batch, key), lists(key))
    return found


def pairs(batch: Batch, key: Key) -> Pairs:
    """uint64[p]: seed and token of each position; all windows must lie in the vocabulary."""
    how = reading(key)
    found = seeds(function(key), batch.tokens, batch.positions + how.salted, how.length)
    return pack(found, batch.tokens[batch.positions])


def null_mean(keys: Sequence[Key]) -> Floats:
    """float64[k]: the share of tokens that is green, G / V."""
    return np.array([lists(key).green / key.vocab_size for key in keys])


def null_deviation(keys: Sequence[Key]) -> Floats:
    """float64[k]: the standard deviation of a token's colour."""
    green = null_mean(keys)
    return np.asarray(np.sqrt(green * (1.0 - green)))


def log_p_value(statistic: Floats, scored: Ints, keys: Sequence[Key]) -> Floats:
    """float64[..., k]: log P(X >= floor(statistic)), X ~ Binomial(scored, G / V); 0 where nothing was scored."""
    check_alike(keys)
    return binomial_log_sf(np.floor(statistic).astype(np.int64), scored, float(null_mean(keys[:1])[0]))


def green_mask(context: npt.NDArray[np.integer], key: Key) -> Flags:
    """bool[V]: the green list of the next token; the context may be longer than needed.

    Raises:
        ValueError: the context is too short or holds a token outside the vocabulary, or the key is self-salted and
            there is no one list (see :func:`is_green`).
    """
    if self_salted(key):
        raise ValueError("green_mask: a self-salted key has a list for each candidate; use is_green")
    before = _last(context, key)
    seed = seeds(function(key), before, np.array([len(before)]), reading(key).length)
    bits = np.unpackbits(bitmaps(seed, lists(key))[0], bitorder="little")
    return np.asarray(bits[: key.vocab_size], np.bool_)


def is_green(context: npt.NDArray[np.integer], candidates: npt.NDArray[np.integer], key: Key) -> Flags:
    """bool[c]: whether each candidate would be green as the next token; one outside the vocabulary is not.

    Published generators ask this of the most likely candidates only: 40 in transformers, 41 in lm-watermarking.

    Raises:
        ValueError: the context is too short or holds a token outside the vocabulary.
    """
    before = _last(context, key)
    size = len(before) + 1
    rows = np.empty((len(candidates), size), np.int32)
    rows[:, :-1], rows[:, -1] = before, candidates
    ends = np.arange(len(candidates), dtype=np.int64) * size + size - 1
    batch = Batch(rows.ravel(), ends, np.array([0, len(ends)]), np.array([0, 1]))
    return np.asarray(colours(batch, key) == 1)


def _last(context: npt.NDArray[np.integer], key: Key) -> Tokens:
    if len(context) < width(key):
        raise ValueError(f"context: {len(context)} tokens, needed are {width(key)}")
    before = np.asarray(context[len(context) - width(key) :]).astype(np.int32)
    if np.any((before < 0) | (before >= key.vocab_size)):
        raise ValueError(f"context: a token is not in the vocabulary of {key.vocab_size}")
    return before


def check_alike(keys: Sequence[Key]) -> None:
    """Raises ValueError where keys differ in more than the key."""
    shared: set[tuple[Any, ...]] = {
        tuple(getattr(key, item.name) for item in fields(key) if item.name != "key") for key in keys
    }
    if len(shared) != 1:
        raise ValueError(f"keys: {len(shared)} kinds of parameters, allowed is one; keys may differ in the key only")
