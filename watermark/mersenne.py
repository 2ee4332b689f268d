"""What a CPU generator of PyTorch draws, without PyTorch: MT19937, `randperm` and `rand`.

    >>> permutation(42, 10, 4).tolist()  # torch.randperm(10, generator=torch.Generator().manual_seed(42))[:4]
    [2, 6, 1, 8]
    >>> bitmaps = first_of_permutations(np.array([42], np.uint32), vocab_size=10, count=4)
    >>> np.flatnonzero(np.unpackbits(bitmaps[0], bitorder="little")).tolist()
    [1, 2, 6, 8]

The generator is seeded as in the reference implementation of Matsumoto and Nishimura (1998, `init_genrand`) with the
low 32 bits of the seed. `randperm` is a forward Fisher-Yates shuffle in which step i draws 32 bits modulo n - i
(aten/src/ATen/native/TensorFactories.cpp), so that the first elements are settled by as many steps. `rand` keeps the
low 24 bits of each draw.

Where only a few elements of a permutation matter, each is followed from step to step: before step i, the element at
place p > i moves only if the draw is p - i, and then it is settled at place i. Whether a draw is p - i modulo n - i
needs no division: x is a multiple of an odd d if and only if its product with the inverse of d modulo 2^32 is at most
(2^32 - 1) / d (Granlund and Montgomery 1994, section 9), and of a power of two if and only if its low bits are zero.
"""

from __future__ import annotations

from functools import lru_cache

import numba
import numpy as np
import numpy.typing as npt

Seeds = npt.NDArray[np.uint32]
Words = npt.NDArray[np.uint32]
Bytes = npt.NDArray[np.uint8]

LARGEST = (2**32 - 1) // 20  # from here on `randperm` draws 64 bits for each step
_N = 624
_M = 397
_LANES = 16  # generators that are seeded side by side: each is one long chain of multiplications
_FOLLOWED = 8  # tokens of one seed that are followed; for more, the permutation is carried out


def low_bits(seed: int) -> int:
    """The 32 bits of a seed that MT19937 is seeded with; negative seeds are read as two's complement."""
    return seed & 0xFFFFFFFF


def permutation(seed: int, n: int, count: int | None = None) -> npt.NDArray[np.int32]:
    """int32[count]: the first ``count`` elements of ``torch.randperm(n)`` under this seed; all where it is None.

    Raises:
        ValueError: n is not in 1 … 214,748,363, or the count not in 0 … n.
    """
    count = n if count is None else count
    _check(n, count)
    return _permutation(np.uint32(low_bits(seed)), n, count)  # type: ignore[no-any-return]


def first_of_permutations(seeds: Seeds, vocab_size: int, count: int) -> Bytes:
    """uint8[s, ceil(vocab_size / 8)]: for each seed, bit t is set where t is among the first ``count`` elements.

    Bit t is bit t % 8 of byte t // 8 (``np.unpackbits`` with ``bitorder="little"``).
    """
    _check(vocab_size, count)
    bitmaps = np.zeros((len(seeds), (vocab_size + 7) // 8), np.uint8)
    _bitmaps(np.ascontiguousarray(seeds), vocab_size, count, bitmaps)
    return bitmaps


def among_first(seeds: Seeds, tokens: npt.NDArray[np.int32], vocab_size: int, count: int) -> npt.NDArray[np.bool_]:
    """bool[p]: whether token i is among the first ``count`` elements of the permutation under seed i.

    Equal seeds that stand side by side share their draws: sort by seed.
    """
    _check(vocab_size, count)
    found = np.zeros(len(seeds), np.bool_)
    if len(seeds):
        inverses, masks, limits = _divisibility(vocab_size, count)
        _among_first(np.ascontiguousarray(seeds), tokens, vocab_size, count, inverses, masks, limits, found)
    return found


def uniforms(seed: int, count: int) -> npt.NDArray[np.float32]:
    """float32[count]: ``torch.rand(count)`` under this seed, multiples of 2^-24 in [0, 1)."""
    return _uniforms(np.uint32(low_bits(seed)), count)  # type: ignore[no-any-return]


def uniforms_at(seeds: Seeds, indices: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
    """float32[p]: element ``indices[i]`` of ``torch.rand`` under seed i. The cost grows with the index."""
    values = np.empty(len(seeds), np.float32)
    _uniforms_at(np.ascontiguousarray(seeds), indices, values)
    return values


def _check(n: int, count: int) -> None:
    if not 1 <= n < LARGEST:
        raise ValueError(f"n: {n}, allowed are 1 to {LARGEST - 1}")
    if not 0 <= count <= n:
        raise ValueError(f"count: {count}, allowed are 0 to n = {n}")


@lru_cache(maxsize=16)
def _divisibility(n: int, count: int) -> tuple[Words, Words, Words]:
    """For each step's modulus: the inverse of its odd part, the bits below its power of two, the largest quotient."""
    moduli = n - np.arange(count, dtype=np.int64)
    powers = moduli & -moduli
    odd = (moduli // powers).astype(np.uint32)
    inverses = odd.copy()  # right to 3 bits; each round doubles them
    for _ in range(4):
        inverses *= np.uint32(2) - odd * inverses
    return inverses, (powers - 1).astype(np.uint32), ((2**32 - 1) // (moduli // powers)).astype(np.uint32)


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _seed_states(seeds: Seeds, first: int, last: int, states: Words) -> None:
    """Seeds generators side by side: ``states`` is uint32[lanes, 624]."""
    value = np.zeros(_LANES, np.uint32)
    for lane in range(last - first):
        value[lane] = seeds[first + lane]
        states[lane, 0] = value[lane]
    for i in range(1, _N):
        for lane in range(_LANES):
            x = value[lane]
            x = np.uint32(np.uint32(1812433253) * (x ^ (x >> np.uint32(30))) + np.uint32(i))
            value[lane] = x
            states[lane, i] = x


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _twist(state: Words) -> None:
    """The next 624 words, untempered, in place."""
    for i in range(_N - _M):
        y = (state[i] & np.uint32(0x80000000)) | (state[i + 1] & np.uint32(0x7FFFFFFF))
        state[i] = state[i + _M] ^ (y >> np.uint32(1)) ^ ((y & np.uint32(1)) * np.uint32(0x9908B0DF))
    for i in range(_N - _M, _N - 1):
        y = (state[i] & np.uint32(0x80000000)) | (state[i + 1] & np.uint32(0x7FFFFFFF))
        state[i] = state[i + _M - _N] ^ (y >> np.uint32(1)) ^ ((y & np.uint32(1)) * np.uint32(0x9908B0DF))
    y = (state[_N - 1] & np.uint32(0x80000000)) | (state[0] & np.uint32(0x7FFFFFFF))
    state[_N - 1] = state[_M - 1] ^ (y >> np.uint32(1)) ^ ((y & np.uint32(1)) * np.uint32(0x9908B0DF))


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _tempered(word: np.uint32) -> np.uint32:
    a = np.uint32(word ^ (word >> np.uint32(11)))
    b = np.uint32(a ^ ((a << np.uint32(7)) & np.uint32(0x9D2C5680)))
    c = np.uint32(b ^ ((b << np.uint32(15)) & np.uint32(0xEFC60000)))
    return np.uint32(c ^ (c >> np.uint32(18)))


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _single(seed: np.uint32, states: Words) -> Words:
    """The seeded state of one generator, in the first row of ``states``."""
    seeds = np.full(1, seed, np.uint32)
    _seed_states(seeds, 0, 1, states)
    return states[0]  # type: ignore[no-any-return]


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _target(word: np.uint32, i: int, n: int) -> np.int32:
    """The place that step i exchanges with its own: i + draw % (n - i)."""
    draw, modulus = np.float64(_tempered(word)), np.float64(n - i)
    # The product is within 2^-17 of the quotient and not below it, which the next integer exceeds by 1 / n at least.
    quotient = np.floor(draw * ((1.0 + 2.0**-51) / modulus))
    return np.int32(i + np.int32(draw - quotient * modulus))


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _places(state: Words, n: int, count: int, places: npt.NDArray[np.int32]) -> None:
    """The place with which each step of the shuffle exchanges its own."""
    for start in range(0, count, _N):
        _twist(state)
        block = places[start : min(start + _N, count)]
        for j in range(len(block)):
            block[j] = _target(state[j], start + j, n)


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _shuffle(places: npt.NDArray[np.int32], n: int, count: int, elements: npt.NDArray[np.int32]) -> None:
    for i in range(n):
        elements[i] = i
    for i in range(count):
        place = places[i]
        element = elements[place]
        elements[place] = elements[i]
        elements[i] = element


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _permutation(seed: np.uint32, n: int, count: int) -> npt.NDArray[np.int32]:
    state = _single(seed, np.empty((_LANES, _N), np.uint32))
    places = np.empty(count, np.int32)
    elements = np.empty(n, np.int32)
    _places(state, n, count, places)
    _shuffle(places, n, count, elements)
    return elements[:count].copy()


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _bitmaps(seeds: Seeds, n: int, count: int, bitmaps: Bytes) -> None:
    states = np.empty((_LANES, _N), np.uint32)
    places = np.empty(count, np.int32)
    elements = np.empty(n, np.int32)
    for first in range(0, len(seeds), _LANES):
        last = min(first + _LANES, len(seeds))
        _seed_states(seeds, first, last, states)
        for s in range(first, last):
            _places(states[s - first], n, count, places)
            _shuffle(places, n, count, elements)
            for i in range(count):
                bitmaps[s, elements[i] >> 3] |= np.uint8(1) << np.uint8(elements[i] & 7)


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _meets(state: Words, distance: np.uint32, inverses: Words, masks: Words, limits: Words) -> bool:
    """Whether some draw of this block may exchange the place ``distance`` behind its start; rarely true in error."""
    hits = np.uint32(0)
    for j in range(len(inverses)):
        # numba widens 32-bit arithmetic to 64 bits: each step is cut back.
        x = np.uint32(_tempered(state[j]) + np.uint32(j) - distance)
        hit = (np.uint32(x * inverses[j]) <= limits[j]) & (np.uint32(x & masks[j]) == np.uint32(0))
        hits = np.uint32(hits | np.uint32(hit))
    return hits != 0  # type: ignore[no-any-return]


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _walk(state: Words, place: int, start: int, n: int, count: int) -> int:
    """Follows one element through the block that begins at step ``start``; below zero where it is settled."""
    for i in range(start, min(start + _N, count)):
        target = _target(state[i - start], i, n)
        if place == i:
            if target == i:
                return -1
            place = target
        elif place == target:
            return -1
    return place


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _follow(
    state: Words,
    tokens: npt.NDArray[np.int32],
    n: int,
    count: int,
    inverses: Words,
    masks: Words,
    limits: Words,
    found: npt.NDArray[np.bool_],
) -> None:
    places = np.empty(len(tokens), np.int64)
    for t in range(len(tokens)):
        places[t] = tokens[t]
    left = len(tokens)
    for start in range(0, count, _N):
        if left == 0:
            return
        end = min(start + _N, count)
        _twist(state)
        for t in range(len(tokens)):
            place = places[t]
            if place < 0:
                continue
            distance = place - start
            if distance < _N or _meets(
                state, np.uint32(distance), inverses[start:end], masks[start:end], limits[start:end]
            ):
                place = _walk(state, place, start, n, count)
                places[t] = place
                if place < 0:
                    found[t] = True
                    left -= 1


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _among_first(
    seeds: Seeds,
    tokens: npt.NDArray[np.int32],
    n: int,
    count: int,
    inverses: Words,
    masks: Words,
    limits: Words,
    found: npt.NDArray[np.bool_],
) -> None:
    states = np.empty((_LANES, _N), np.uint32)
    some = np.empty(_LANES, np.uint32)
    starts = np.empty(_LANES + 1, np.int64)
    places = np.empty(count, np.int32)
    elements = np.empty(n, np.int32)
    at = 0
    while at < len(seeds):
        lanes = 0
        while lanes < _LANES and at < len(seeds):
            some[lanes], starts[lanes] = seeds[at], at
            while at < len(seeds) and seeds[at] == some[lanes]:
                at += 1
            lanes += 1
        starts[lanes] = at
        _seed_states(some, 0, lanes, states)
        for lane in range(lanes):
            first, last = starts[lane], starts[lane + 1]
            if last - first <= _FOLLOWED:
                _follow(states[lane], tokens[first:last], n, count, inverses, masks, limits, found[first:last])
                continue
            _places(states[lane], n, count, places)
            _shuffle(places, n, count, elements)
            _mark(elements, count, tokens[first:last], found[first:last])


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _mark(
    elements: npt.NDArray[np.int32], count: int, tokens: npt.NDArray[np.int32], found: npt.NDArray[np.bool_]
) -> None:
    green = np.zeros(len(elements), np.bool_)
    for i in range(count):
        green[elements[i]] = True
    for t in range(len(tokens)):
        found[t] = green[tokens[t]]


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _uniforms(seed: np.uint32, count: int) -> npt.NDArray[np.float32]:
    state = _single(seed, np.empty((_LANES, _N), np.uint32))
    values = np.empty(count, np.float32)
    for start in range(0, count, _N):
        _twist(state)
        for j in range(min(_N, count - start)):
            values[start + j] = np.float32(_tempered(state[j]) & np.uint32(0xFFFFFF)) * np.float32(2.0**-24)
    return values


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _uniforms_at(seeds: Seeds, indices: npt.NDArray[np.int32], values: npt.NDArray[np.float32]) -> None:
    states = np.empty((_LANES, _N), np.uint32)
    for first in range(0, len(seeds), _LANES):
        last = min(first + _LANES, len(seeds))
        _seed_states(seeds, first, last, states)
        for s in range(first, last):
            for _ in range(indices[s] // _N + 1):
                _twist(states[s - first])
            word = _tempered(states[s - first, indices[s] % _N])
            values[s] = np.float32(word & np.uint32(0xFFFFFF)) * np.float32(2.0**-24)
