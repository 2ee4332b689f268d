"""Near-duplicates against the truth: every pair of real documents compared exactly, and pairs that people made.

    python -m benchmarks.near_duplicate_quality --shared ../shared

Each of ``--docs`` real documents gets one edited copy, by edits of many kinds whose strengths spread the true
similarity evenly over 0.5 to 1. The reference knows nothing of MinHash: tokens by regular expression, and the exact
Jaccard similarity of all pairs by a sparse matrix product over their shingles.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import re
import tempfile
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from scipy.sparse import coo_matrix, csr_matrix
from scipy.sparse.csgraph import connected_components
from scipy.stats import binomtest

from pipelines.neardup.bands import Banding, band_hashes, parameters
from pipelines.neardup.minhash import sign
from pipelines.neardup.options import NearDup
from tests.neardup.support import Doc, doc, find

_MARKS = "".join(chr(c) for c in range(0x20000) if unicodedata.category(chr(c))[0] == "M" and not 0xFE00 <= c < 0xFE10)
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u312f\u31a0-\u31ff\u3400-\u9fff\U00020000-\U0003ffff"
_TOKEN = re.compile(f"(?=[^\\W_])[{_UNSPACED}][{_MARKS}]*|(?:[^\\W_{_UNSPACED}][{_MARKS}]*)+")
_UNSEEN = {c: None for c in range(0x110000) if unicodedata.category(chr(c)) == "Cf" or 0xFE00 <= c < 0xFE10}
_LONGEST = 20000  # characters of a document: more only makes the brute force slow
_STEP = 0.05


class Pairs(NamedTuple):
    """Pairs of documents: ``i`` < ``j`` int64[p] and their exact similarity float64[p]."""

    i: npt.NDArray[np.int64]
    j: npt.NDArray[np.int64]
    jaccard: npt.NDArray[np.float64]

    def where(self, chosen: npt.NDArray[np.bool_]) -> Pairs:
        """The pairs that a mask chooses."""
        return Pairs(self.i[chosen], self.j[chosen], self.jaccard[chosen])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", default="../shared", help="the folder that holds text/ and dedup/")
    parser.add_argument("--docs", type=int, default=5000, help="real documents, each of which gets an edited copy")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--verify", choices=["exact", "estimate"], default="exact")
    arguments = parser.parse_args()
    options = NearDup(verify=arguments.verify)
    shared = Path(arguments.shared)
    planted(shared / "text", arguments.docs, arguments.seed, options)
    gold(shared / "dedup", options)


def planted(folder: Path, count: int, seed: int, options: NearDup) -> None:
    """Real documents with planted edits against all pairs."""
    rng = random.Random(seed)
    originals = real_documents(folder, count, rng)
    kinds = [rng.choice(sorted(EDITS)) for _ in originals]
    texts = originals + [plant(text, kind, originals, rng) for text, kind in zip(originals, kinds, strict=True)]
    docs = [doc(str(i), text, rng.randrange(3000)) for i, text in enumerate(texts)]
    exact = exact_pairs(texts, 0.5 - _STEP, options.shingle)
    with tempfile.TemporaryDirectory() as scratch:
        found = find(Path(scratch), docs, options, shards=8)
    banding = parameters(options.threshold, options.permutations)
    print(f"{count} real documents and {count} edited copies; {banding.bands} bands of {banding.rows} rows")
    print_curve(exact, candidates(texts, exact, options), joined(found, exact), banding)
    print_kinds(kinds, exact, joined(found, exact), options.threshold)
    print_errors(docs, found, exact, options.threshold)


def real_documents(folder: Path, count: int, rng: random.Random) -> list[str]:
    """Distinct documents, as many from each text set as it has, up to its share."""
    sets = [sorted(set(pq.read_table(path, columns=["text"])["text"].to_pylist())) for path in sorted(folder.glob("*"))]
    usable = [[text for text in texts if 200 < len(text) <= _LONGEST] for texts in sets]
    chosen: set[str] = set()
    for left, texts in zip(range(len(usable), 0, -1), sorted(usable, key=len), strict=True):
        fresh = [text for text in texts if text not in chosen]
        chosen.update(rng.sample(fresh, min(len(fresh), (count - len(chosen)) // left)))
    return rng.sample(sorted(chosen), len(chosen))


def substituted(words: list[str], other: list[str], at: float, rng: random.Random) -> list[str]:
    """Single words replaced; each costs five shingles and brings five."""
    return [rng.choice(other) if rng.random() < (1 - at) / (5 * (1 + at)) else word for word in words]


def thinned(words: list[str], other: list[str], at: float, rng: random.Random) -> list[str]:
    """Single words left out; each costs five shingles and brings four."""
    return [word for word in words if rng.random() >= (1 - at) / (5 + 4 * at)]


def padded(words: list[str], other: list[str], at: float, rng: random.Random) -> list[str]:
    """Single words put in; each costs four shingles and brings five."""
    share = (1 - at) / (4 + 5 * at)
    return [word for old in words for word in ([rng.choice(other), old] if rng.random() < share else [old])]


def rewritten(words: list[str], other: list[str], at: float, rng: random.Random) -> list[str]:
    """One passage replaced by a passage of another document."""
    length = round(len(words) * (1 - at) / (1 + at))
    begin = rng.randint(0, len(words) - length)
    return words[:begin] + other[:length] + words[begin + length :]


def moved(words: list[str], other: list[str], at: float, rng: random.Random) -> list[str]:
    """Passages of twelve words moved elsewhere; each breaks three joints of four shingles."""
    words = list(words)
    for _ in range(max(1, round(len(words) * (1 - at) / (12 * (1 + at))))):
        begin = rng.randrange(max(1, len(words) - 12))
        passage, words[begin : begin + 12] = words[begin : begin + 12], []
        to = rng.randint(0, len(words))
        words[to:to] = passage
    return words


def led(words: list[str], other: list[str], at: float, rng: random.Random) -> list[str]:
    """Boilerplate before the text."""
    return other[: round(len(words) * (1 / at - 1))] + words


def followed(words: list[str], other: list[str], at: float, rng: random.Random) -> list[str]:
    """Boilerplate behind the text."""
    return words + other[: round(len(words) * (1 / at - 1))]


def cut(words: list[str], other: list[str], at: float, rng: random.Random) -> list[str]:
    """The end cut off."""
    return words[: round(len(words) * at)]


def mixed(words: list[str], other: list[str], at: float, rng: random.Random) -> list[str]:
    """Three edits of any kind, each a third of the way."""
    for kind in rng.sample(sorted(set(EDITS) - {"mixed"}), 3):
        words = EDITS[kind](words, other, 1 - (1 - at) / 3, rng)
    return words


Edit = Callable[[list[str], list[str], float, random.Random], list[str]]
EDITS: dict[str, Edit] = {
    edit.__name__: edit for edit in (substituted, thinned, padded, rewritten, moved, led, followed, cut, mixed)
}


def plant(text: str, kind: str, others: Sequence[str], rng: random.Random) -> str:
    """The text with one kind of edit, such that a similarity drawn evenly from 0.5 to 1 is to be expected."""
    spaced = text.count(" ") > len(text) / 20
    other = rng.choice(others)
    while len(other) < len(text) or (other.count(" ") > len(other) / 20) != spaced:
        other += " " + rng.choice(others)
        spaced_other = other.count(" ") > len(other) / 20
        if len(other) > len(text) and spaced_other != spaced:
            other = rng.choice(others)
    units, foreign = (text.split(" "), other.split(" ")) if spaced else (list(text), list(other))
    return (" " if spaced else "").join(EDITS[kind](units, foreign, rng.uniform(0.5, 1), rng))


def tokens(text: str) -> list[str]:
    """The tokens of docs/near-duplicates.md, without a look at the kernel."""
    folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    return _TOKEN.findall(folded.translate(_UNSEEN))


def shingles(text: str, size: int) -> set[str]:
    words = tokens(text)
    return {" ".join(words[i : i + size]) for i in range(max(1, len(words) - size + 1))} if words else {"\0" + text}


def exact_pairs(texts: Sequence[str], least: float, size: int) -> Pairs:
    """All pairs whose shingle sets have a Jaccard similarity of at least ``least``."""
    digests = [
        np.array([int.from_bytes(hashlib.blake2b(s.encode(), digest_size=8).digest()) for s in own], np.uint64)
        for own in (shingles(text, size) for text in texts)
    ]
    sizes = np.array([len(own) for own in digests])
    distinct, columns = np.unique(np.concatenate(digests), return_inverse=True)
    rows = np.repeat(np.arange(len(texts)), sizes)
    held = csr_matrix((np.ones(len(rows), np.int32), (rows, columns)), (len(texts), len(distinct)))
    turned = held.T.tocsr()
    pieces = []
    for begin in range(0, len(texts), 500):
        common = (held[begin : begin + 500] @ turned).tocoo()
        i, j, both = common.row.astype(np.int64) + begin, common.col.astype(np.int64), common.data
        jaccard = both / (sizes[i] + sizes[j] - both)
        wanted = (i < j) & (jaccard >= least)
        pieces.append(np.stack([i[wanted], j[wanted], jaccard[wanted]]))
    i, j, jaccard = np.concatenate(pieces, axis=1)
    return Pairs(i.astype(np.int64), j.astype(np.int64), jaccard)


def candidates(texts: Sequence[str], pairs: Pairs, options: NearDup) -> npt.NDArray[np.bool_]:
    """Which pairs agree on a band themselves, whatever a third document brings together."""
    signed = sign(pa.array(texts, pa.large_string()), options)
    hashes = band_hashes(signed.values, parameters(options.threshold, options.permutations))
    return np.asarray((hashes[:, pairs.i] == hashes[:, pairs.j]).any(axis=0))


def cluster_of(found: Sequence[dict[str, Any] | None]) -> npt.NDArray[np.int64]:
    """The number of each document's cluster; a document that stands alone has one of its own."""
    numbers: dict[object, int] = {}
    names = [row["cluster_id"] if row else i for i, row in enumerate(found)]
    return np.array([numbers.setdefault(name, len(numbers)) for name in names])


def joined(found: Sequence[dict[str, Any] | None], pairs: Pairs) -> npt.NDArray[np.bool_]:
    cluster = cluster_of(found)
    return np.asarray(cluster[pairs.i] == cluster[pairs.j])


def print_curve(exact: Pairs, met: npt.NDArray[np.bool_], together: npt.NDArray[np.bool_], banding: Banding) -> None:
    """The S-curve by bins of true similarity."""
    theory = 1 - (1 - exact.jaccard**banding.rows) ** banding.bands
    print("\nsimilarity    pairs   candidates  (95 % interval)   1-(1-s^r)^b   of these joined   of all joined")
    edges = [round(0.5 + _STEP * k, 2) for k in range(10)]
    for low in [*edges, 1.0]:
        here = (exact.jaccard >= low) & (exact.jaccard < low + _STEP if low < 1 else True)
        here &= (exact.jaccard < 1) | (low == 1)
        n, k = int(here.sum()), int(met[here].sum())
        if n == 0:
            continue
        span = binomtest(k, n).proportion_ci(method="wilson")
        name = f"{low:.2f} - {low + _STEP:.2f}" if low < 1 else "1"
        print(
            f"{name:<12}{n:>7}{k / n:>13.4f}  ({span.low:.4f} - {span.high:.4f}){theory[here].mean():>14.4f}"
            f"{together[here & met].sum() / max(k, 1):>18.4f}{together[here].mean():>16.4f}"
        )


def print_kinds(kinds: Sequence[str], exact: Pairs, together: npt.NDArray[np.bool_], threshold: float) -> None:
    """Planted pairs from the threshold on that were joined, by kind of edit."""
    n = len(kinds)
    own = (exact.j - exact.i == n) & (exact.jaccard >= threshold)
    total, caught = Counter(kinds[i] for i in exact.i[own]), Counter(kinds[i] for i in exact.i[own & together])
    print(f"\nplanted pairs of similarity {threshold} and more that were joined, by kind of edit")
    for kind in sorted(total):
        print(f"{kind:<12}{caught[kind]:>6} of {total[kind]:>5}{caught[kind] / total[kind]:>9.4f}")


def print_errors(docs: Sequence[Doc], found: Sequence[dict[str, Any] | None], exact: Pairs, threshold: float) -> None:
    """Recall, and all that must not be: pairs joined without a chain, older twins below the threshold."""
    together = joined(found, exact)
    print()
    for least in (threshold, 0.85, 0.9):
        close = exact.jaccard >= least
        caught, all_ = int(together[close].sum()), int(close.sum())
        print(f"pairs of similarity {least:.2f} and more joined: {caught} of {all_} ({caught / all_:.4f})")
    wrong = unchained(found, exact, threshold)
    print(f"pairs joined though no chain of similar pairs joins them: {wrong}")
    inside = sum(k * (k - 1) // 2 for k in Counter(cluster_of(found).tolist()).values())
    chained = inside - wrong - int((together & (exact.jaccard >= threshold)).sum())
    print(f"pairs below the threshold joined by a chain: {chained}")
    truth = {(i, j): s for i, j, s in zip(exact.i.tolist(), exact.j.tolist(), exact.jaccard.tolist(), strict=True)}
    at = {d.doc_id: i for i, d in enumerate(docs)}
    claimed, errors = [], []
    for i, row in enumerate(found):
        if row and row["older_doc_id"]:
            j = at[row["older_doc_id"]]
            claimed.append(truth.get((min(i, j), max(i, j)), 0.0))
            errors.append(abs(row["older_jaccard"] - claimed[-1]))
    below = [s for s in claimed if s < threshold]
    print(f"older twins named: {len(claimed)}; of true similarity below the threshold: {len(below)}")
    print(f"largest error of `older_jaccard`: {max(errors, default=0.0):.4f}")


def unchained(found: Sequence[dict[str, Any] | None], exact: Pairs, threshold: float) -> int:
    """Pairs that are in one cluster, but not in one connected component of the exact pairs from the threshold on."""
    edges = exact.where(exact.jaccard >= threshold)
    n = len(found)
    _, component = connected_components(coo_matrix((np.ones(len(edges.i)), (edges.i, edges.j)), (n, n)))
    cluster = cluster_of(found)
    inside = Counter(zip(cluster.tolist(), component.tolist(), strict=True))
    whole = Counter(cluster.tolist())
    return (sum(k * k for k in whole.values()) - sum(k * k for k in inside.values())) // 2


class Gold(NamedTuple):
    """What became of a set of documents with known pairs: by kind, how many pairs there are and were joined."""

    total: Counter[str]
    caught: Counter[str]
    jaccard: dict[str, list[float]]  # exact, of each pair
    others: list[float]  # exact, of the pairs in one cluster that the set does not name


def gold_pairs(folder: Path, name: str, scratch: Path, options: NearDup) -> Gold:
    """Runs the engine over one set of ``../shared/dedup``."""
    rows = pq.read_table(folder / f"{name}.docs.parquet").to_pylist()
    pairs = pq.read_table(folder / f"{name}.pairs.parquet").to_pylist()
    found = find(scratch / name, [doc(row["id"], row["text"], i) for i, row in enumerate(rows)], options)
    at = {row["id"]: i for i, row in enumerate(rows)}
    cluster = cluster_of(found)
    members: dict[int, list[int]] = {}
    for i, number in enumerate(cluster.tolist()):
        members.setdefault(number, []).append(i)
    joined_pairs = {pair for group in members.values() for pair in combinations(group, 2)}

    def alike(i: int, j: int) -> float:
        return similarity(*(shingles(rows[k]["text"], options.shingle) for k in (i, j)))

    total, caught, jaccard = Counter[str](), Counter[str](), dict[str, list[float]]()
    for pair in pairs:
        i, j = sorted((at[pair["a"]], at[pair["b"]]))
        total[pair["kind"]] += 1
        caught[pair["kind"]] += (i, j) in joined_pairs
        jaccard.setdefault(pair["kind"], []).append(alike(i, j))
    named = {tuple(sorted((at[pair["a"]], at[pair["b"]]))) for pair in pairs}
    return Gold(total, caught, jaccard, [alike(i, j) for i, j in sorted(joined_pairs - named)])


def similarity(a: set[str], b: set[str]) -> float:
    """Jaccard's."""
    return len(a & b) / len(a | b)


def gold(folder: Path, options: NearDup) -> None:
    """The sets of ``../shared/dedup`` as a table."""
    print(
        f"\nset               kind         pairs   joined   with a similarity of {options.threshold} and more   highest"
    )
    for path in sorted(folder.glob("*.docs.parquet")):
        name = path.name.removesuffix(".docs.parquet")
        with tempfile.TemporaryDirectory() as scratch:
            result = gold_pairs(folder, name, Path(scratch), options)
        for kind in sorted(result.total):
            values = result.jaccard[kind]
            close = sum(value >= options.threshold for value in values)
            print(f"{name:<18}{kind:<12}{result.total[kind]:>6}{result.caught[kind]:>9}{close:>36}{max(values):>10.3f}")
        if result.others:
            print(f"{name:<18}{'not named':<12}{'':>6}{len(result.others):>9}{'':>36}{max(result.others):>10.3f}")


if __name__ == "__main__":
    main()
