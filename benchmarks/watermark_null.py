"""How often watermark tests fire on text that people wrote: ours and the published ones, per key, domain and site.

    python -m benchmarks.watermark_null --text ../shared/text --tokenizer TOKENIZER.json

All rows with ``label == "human"`` of the Parquet files in a folder, exact copies left out, are tokenised once and
tested for the public default key and random ones of each variant. ``exact`` is the p-value of a whole document,
``scan`` that of its most telling stretch, ``calibrated`` the latter with a null that was fitted on the other half of
the groups: both halves are tested, each with the null of the other. Published rules (:mod:`benchmarks.watermark_rules`)
are put to a sample of the documents with some of the keys. A site is a run of documents of one source in one half; its
null is the other's.

Intervals are Clopper-Pearson's (95 %) over all pairs of a document and a key. They are too narrow, since documents
share keys; a key is over where the lower limit of its own interval lies above the nominal rate.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow.dataset as ds
from scipy import special, stats
from tokenizers import Tokenizer as Trained
from tokenizers import decoders, models, pre_tokenizers, trainers

from benchmarks import watermark_rules as rules
from benchmarks.watermark_rules import Rule, published, sums_between
from watermark import sites
from watermark.calibration import Null, Options, calibrate, measure_shift, without_shift
from watermark.fitting import lean, rank
from watermark.registry import public_entries
from watermark.schemes import VARIANTS
from watermark.stretches import scan_stretches
from watermark.tokens import Tokenizer, load_tokenizer
from watermark.windows import Floats, Offsets, Scheme, Tally, Tokens, windows

LEVELS = (1e-2, 1e-3, 1e-4)
LEAST = 50  # scored tokens
BLOCK = 64  # positions, the shortest stretch
SIZES = (5, 10, 20, 50, 200)  # documents of a site
PUBLISHED_DOCUMENTS, PUBLISHED_KEYS = 2000, 4
DOMAIN = 100  # documents, fewer tell nothing of a domain
FIT = Options()
PUBLISHED_ONLY = "published only"
# Documents, and the share of keys and sites, by cost: a permutation for each pair of tokens takes 3 to 10 µs a token.
DOCUMENTS = {"low": 1 << 40, "medium": 12_000, "high": 2_400, PUBLISHED_ONLY: 0}
SHARE = {"low": 1.0, "medium": 0.5, "high": 0.5, PUBLISHED_ONLY: 0.5}
SITES = {"low": 400, "medium": 200, "high": 60, PUBLISHED_ONLY: 0}
UNLIKE = 6000  # documents for nulls of other kinds of text

Flags = npt.NDArray[np.bool_]


class Corpus(NamedTuple):
    """Tokenised documents: int32[t], int64[d + 1], and for each its set and domain, source, group and language."""

    tokens: Tokens
    offsets: Offsets
    domain: npt.NDArray[np.str_]
    source: npt.NDArray[np.str_]
    group: npt.NDArray[np.str_]
    language: npt.NDArray[np.str_]

    def take(self, rows: npt.NDArray[Any]) -> Corpus:
        """The documents of these rows."""
        lengths = np.diff(self.offsets)[rows]
        parts = [self.tokens[self.offsets[row] : self.offsets[row + 1]] for row in rows]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        return Corpus(np.concatenate(parts), offsets, *(column[rows] for column in self[2:]))

    @property
    def half(self) -> Flags:
        """On which side a document's group falls."""
        names, inverse = np.unique(self.group, return_inverse=True)
        side = [hashlib.sha256(name.encode()).digest()[0] & 1 for name in names.tolist()]
        return np.array(side, np.bool_)[inverse]


class Subject(NamedTuple):
    """A variant to test: the public key that names it, how random keys are drawn, what it costs, published rules."""

    public: str
    draw: Callable[[Random], Any]
    cost: str
    rules: tuple[Rule, ...]


class Group(NamedTuple):
    """Keys that are scored together, and what was measured for each."""

    scheme: Scheme
    keys: tuple[Any, ...]
    nulls: tuple[Null, ...] = ()

    @property
    def width(self) -> int:
        """Tokens of context."""
        return self.scheme.width(self.keys[0])

    def log_p(self, tally: Tally) -> Floats:
        """Exact log p-values, less each key's lean where it was measured."""
        log_p = self.scheme.log_p_value(*tally, self.keys)
        if not self.nulls:
            return log_p
        shift, longest = (np.array([getattr(null, name) for null in self.nulls]) for name in ("shift", "longest"))
        return np.maximum(log_p, self.scheme.log_p_value(*without_shift(*tally, shift, longest), self.keys))


class Tested(NamedTuple):
    """p-values of documents (or sites), natural logarithms [d, k], NaN where not tested."""

    name: str
    log_p: Floats


def _prime_sized(random: Random) -> int:
    return random.getrandbits(40) | 1


SUBJECTS = (
    Subject("kgw-transformers-lefthash", _prime_sized, "high", (rules.NONE, rules.NGRAMS)),
    Subject("kgw-transformers-selfhash", _prime_sized, "high", (rules.NONE, rules.NGRAMS)),
    Subject("kgw-lm-watermarking-selfhash", _prime_sized, PUBLISHED_ONLY, (rules.NONE, rules.NGRAMS)),
    Subject("kgw-lm-watermarking-minhash", _prime_sized, "high", (rules.NONE, rules.NGRAMS)),
    Subject(
        "unigram-default",
        lambda random: random.getrandbits(62),
        "low",
        (rules.HALF,),
    ),
    Subject(
        "synthid-transformers-example",
        lambda random: tuple(random.sample(range(1 << 16), 30)),
        "medium",
        (rules.BITS, rules.MEAN),
    ),
    Subject(
        "synthid-deepmind-default",
        lambda random: tuple(random.getrandbits(62) for _ in range(30)),
        "medium",
        (rules.BITS, rules.MEAN),
    ),
    Subject(
        "exponential-three-bricks-default",
        lambda random: random.getrandbits(62),
        "high",
        (rules.EXPONENTIAL,),
    ),
    Subject(
        "exponential-textseal-default",
        lambda random: random.getrandbits(31),
        "low",
        (rules.EXPONENTIAL,),
    ),
)


def human_rows(folder: Path) -> tuple[list[str], dict[str, npt.NDArray[np.str_]]]:
    """The human texts of a folder, each once, and their columns."""
    columns = ["text", "domain", "source", "group", "language"]
    data = ds.dataset(folder, format="parquet").to_table(columns=columns, filter=ds.field("label") == "human")
    first = {text: row for row, text in reversed(list(enumerate(data["text"].to_pylist()))) if text.strip()}
    data = data.take(sorted(first.values()))
    names = {name: np.array(data[name].to_pylist(), str) for name in columns[1:]}
    sets = [source.split("/")[0] for source in names["source"].tolist()]
    names["domain"] = np.array([f"{a}/{b}" for a, b in zip(sets, names["domain"].tolist(), strict=True)])
    return data["text"].to_pylist(), names


def read_corpus(folder: Path, tokenizer: Tokenizer, documents: int | None = None, seed: int = 0) -> Corpus:
    """All human documents of a folder, or a random sample of them."""
    texts, names = human_rows(folder)
    rows = np.arange(len(texts))
    if documents is not None and documents < len(rows):
        rows = np.sort(np.random.default_rng(seed).choice(len(rows), documents, replace=False))
    tokens, offsets = tokenizer.encode([texts[row] for row in rows])
    return Corpus(tokens, offsets, *(names[name][rows] for name in ("domain", "source", "group", "language")))


def train_tokenizer(texts: Sequence[str], vocabulary: int, path: Path) -> None:
    """A byte-level BPE trained on some of the texts."""
    tokenizer = Trained(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=vocabulary, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.save(str(path))


def keys_of(subject: Subject, vocabulary: int, count: int, seed: int) -> Group:
    """The public key and as many random ones, to be scored together."""
    entry = public_entries()[subject.public]
    variant = VARIANTS[entry["scheme"], entry["variant"]]
    public = tuple(entry["key"]) if isinstance(entry["key"], list) else entry["key"]
    random = Random(f"{subject.public} {seed}")
    secrets = [public, *(subject.draw(random) for _ in range(count))]
    parameters = entry.get("parameters", {})
    keys = tuple(variant.build(secret, vocabulary, "cpu-mt19937", parameters) for secret in secrets)
    return Group(variant.scheme, keys)


class Measured(NamedTuple):
    """Documents with their blocks' tallies; sums of whole documents, [d, k]."""

    group: Group
    corpus: Corpus
    blocks: Tally
    documents: Offsets
    whole: Tally


def measure(group: Group, corpus: Corpus) -> Measured:
    """Scores all documents."""
    batch = windows(corpus.tokens, corpus.offsets, group.width, BLOCK)
    tally = group.scheme.score(batch, group.keys)
    whole = Tally(*(sums_between(part, batch.documents) for part in tally))
    return Measured(group, corpus, tally, batch.documents, whole)


def scan(measured: Measured, nulls: Sequence[Null] = ()) -> Floats:
    """Log p-values of documents and their stretches under nulls, without ranks."""
    group = measured.group._replace(nulls=tuple(nulls))
    means = group.scheme.null_mean(group.keys)
    return scan_stretches(measured.blocks, measured.documents, means, group.log_p).log_p


def leaning(measured: Measured, rows: Flags) -> list[Null]:
    """Each key's lean on these documents."""
    means = measured.group.scheme.null_mean(measured.group.keys)
    names, whole = measured.corpus.group[rows], measured.whole
    return [
        lean(whole.statistic[rows, key], whole.scored[rows, key], names, float(mean), FIT)
        for key, mean in enumerate(means)
    ]


def calibrated(measured: Measured, fitted: Flags, tested: Flags) -> Floats:
    """Log p-values of the tested documents with nulls of the fitted ones; NaN for all others."""
    nulls = leaning(measured, fitted)
    log_p, scored = scan(measured, nulls), measured.whole.scored
    out = np.full(log_p.shape, np.nan)
    for k, null in enumerate(nulls):
        ranked = rank(null, log_p[fitted, k], scored[fitted, k], FIT)
        out[tested, k] = calibrate(ranked, log_p[tested, k], scored[tested, k])
    return out


def ours(measured: Measured) -> list[Tested]:
    """Our p-values of the documents that are long enough."""
    group, half = measured.group, measured.corpus.half
    both = np.where(half[:, None], calibrated(measured, ~half, half), calibrated(measured, half, ~half))
    found = [
        Tested("exact", group.log_p(measured.whole)),
        Tested("scan", scan(measured)),
        Tested("calibrated", both),
    ]
    short = measured.whole.scored < LEAST
    return [Tested(name, np.where(short, np.nan, log_p)) for name, log_p in found]


def site_rows(corpus: Corpus, rows: npt.NDArray[Any], size: int, most: int) -> Iterator[npt.NDArray[Any]]:
    """Runs of ``size`` documents of one source; at most that many, spread over all."""
    order = rows[np.argsort(corpus.source[rows], kind="stable")]
    _, starts = np.unique(corpus.source[order], return_index=True)
    runs = [run for part in np.split(order, starts[1:]) for run in _cut(part, size)]
    for at in range(0, len(runs), max(1, -(-len(runs) // most))):
        yield runs[at]


def _cut(rows: npt.NDArray[Any], size: int) -> Iterator[npt.NDArray[Any]]:
    return (rows[at : at + size] for at in range(0, len(rows) - size + 1, size))


def of_sites(group: Group, shifts: Floats, corpus: Corpus, size: int, most: int) -> list[Tested]:
    """p-values of sites of one half, as the scanner makes them; the lean was measured on the other."""
    tally = site_tally(group, corpus, list(site_rows(corpus, np.flatnonzero(corpus.half), size, most)))
    if not len(tally.scored):
        return []
    less = tally.statistic - shifts * tally.scored
    return [
        Tested(f"{size}, exact", group.scheme.log_p_value(*tally, group.keys)),
        Tested(f"{size}, shift", group.scheme.log_p_value(less, tally.scored, group.keys)),
    ]


def site_lean(group: Group, corpus: Corpus) -> Floats:
    """How far each key leans in samples of sites of 20 documents of the known half, as `reserve watermark fit` does."""
    tally = site_tally(group, corpus, list(site_rows(corpus, np.flatnonzero(~corpus.half), 20, 2 * SITES["low"])))
    every, means = np.arange(len(tally.scored)), group.scheme.null_mean(group.keys)
    each = zip(tally.statistic.T, tally.scored.T, means, strict=True)
    return np.array([measure_shift(sums, scored, every, float(mean), FIT.confidence) for sums, scored, mean in each])


def site_tally(group: Group, corpus: Corpus, runs: Sequence[npt.NDArray[Any]]) -> Tally:
    """The tallies of sites, each a host of its own."""
    if not runs:
        return Tally(np.zeros((0, len(group.keys))), np.zeros((0, len(group.keys)), np.int64))
    samples = []
    for run in runs:
        some, salt = corpus.take(run), sites.salt(f"{run[0]}.example")
        salts = np.full(len(run), salt, np.uint64)
        samples.append(sites.merge(sites.sample_documents(some.tokens, some.offsets, group.width, salts)[0], salt))
    return group.scheme.score(sites.batch_of(samples), group.keys)


def rates(log_p: Floats) -> list[str]:
    """Pairs, the standard deviation of z, rates with limits, keys over, and the worst key's rate at 1 %."""
    valid = ~np.isnan(log_p)
    z = -special.ndtri_exp(np.clip(log_p[valid], -700, -1e-12))
    # p-values of 1, which corrected ones often are, have no z.
    cells = [f"{int(valid.sum()):,}", f"{z.std():.2f}" if np.mean(log_p[valid] == 0) < 0.01 else "–"]
    over = []
    for level in LEVELS:
        hits, tests = np.sum(valid & (log_p <= np.log(level)), axis=0), valid.sum(axis=0)
        low, high = limits(int(hits.sum()), int(tests.sum()))
        cells.append(f"{hits.sum() / tests.sum():.2e} ({low:.1e} to {high:.1e})")
        over.append(sum(limits(int(h), int(t))[0] > level for h, t in zip(hits, tests, strict=True)))
    first = np.sum(valid & (log_p <= np.log(LEVELS[0])), axis=0) / np.maximum(valid.sum(axis=0), 1)
    return [*cells, f"{over[0]}, {over[1]}, {over[2]} of {log_p.shape[1]}", f"{first.max():.1%}"]


def limits(hits: int, tests: int) -> tuple[float, float]:
    """Clopper-Pearson, 95 %."""
    found = stats.binomtest(hits, tests).proportion_ci(0.95, "exact")
    return float(found.low), float(found.high)


def worst_domain(tested: Tested, corpus: Corpus) -> str:
    """The domain with the highest rate at 1 %."""
    over = {}
    for domain in np.unique(corpus.domain).tolist():
        some = tested.log_p[corpus.domain == domain]
        valid = ~np.isnan(some)
        if valid[:, 0].sum() >= DOMAIN:
            over[domain] = np.sum(some[valid] <= np.log(LEVELS[0])) / valid.sum()
    worst = max(over, key=lambda name: over[name], default="none")
    return f"{tested.name}: {worst} {over.get(worst, 0):.1%}"


def print_rates(what: str, found: Iterable[Tested]) -> None:
    """One table."""
    cells = [what, "pairs", "sd of z", *(f"p ≤ {level:g}" for level in LEVELS), "keys over", "worst key at 1 %"]
    print("\n" + _row(cells) + "\n" + "|---" * len(cells) + "|")
    for tested in found:
        print(_row([tested.name, *rates(tested.log_p)]))


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def unlike(measured: Measured) -> Iterator[Tested]:
    """What nulls say of kinds of text that the corpus had none of: other languages than English, and each large set."""
    corpus = measured.corpus
    english = corpus.language == "en"
    kinds = [(f"language {name}", corpus.language == name, english) for name in np.unique(corpus.language[~english])]
    for domain, count in zip(*np.unique(corpus.domain[english], return_counts=True), strict=True):
        if count >= len(english) // 40:
            inside = corpus.domain == domain
            kinds.append((f"domain {domain}", inside, ~inside))
    long = np.min(measured.whole.scored, axis=1) >= LEAST
    for name, inside, others in kinds:
        if np.sum(inside & long) >= DOMAIN:
            yield Tested(name, calibrated(measured, others, inside & long))


def print_sites(subject: Subject, group: Group, corpus: Corpus) -> None:
    shifts = site_lean(group, corpus)
    of_each = (of_sites(group, shifts, corpus, size, SITES[subject.cost]) for size in SIZES)
    print_rates("documents of a site", chain.from_iterable(of_each))


def report(subject: Subject, corpus: Corpus, options: argparse.Namespace, vocabulary: int) -> None:
    """Tests one variant and prints its part of each table."""
    begin, order = time.perf_counter(), np.random.default_rng(options.seed).permutation(len(corpus.group))
    keys = max(int(options.keys * SHARE[subject.cost]), 1)
    few = keys_of(subject, vocabulary, min(keys, PUBLISHED_KEYS - 1), options.seed)
    some = corpus.take(np.sort(order[:PUBLISHED_DOCUMENTS]))
    each = published(subject.rules, few.scheme, few.keys, some.tokens, some.offsets, LEAST)
    beside = [Tested(f"published: {name}", log_p) for name, log_p in each]
    print(f"\n### {subject.public}\n")
    if subject.cost == PUBLISHED_ONLY:
        print_rates("p-value", beside)
        return
    group = keys_of(subject, vocabulary, keys, options.seed)
    if options.sites:
        print_sites(subject, group, corpus)
        return
    measured = measure(group, corpus.take(np.sort(order[: DOCUMENTS[subject.cost]])))
    found = ours(measured)
    print(f"{len(measured.corpus.group):,} documents, {len(measured.corpus.tokens):,} tokens, {keys + 1} keys")
    print_rates("p-value", (*found, *beside))
    print("\nWorst domain at 1 %: " + ", ".join(worst_domain(tested, measured.corpus) for tested in found) + ".")
    others = measure(group, corpus.take(np.sort(order[:UNLIKE]))) if len(measured.corpus.group) > UNLIKE else measured
    print_rates("not in the corpus of the null", unlike(others))
    print_sites(subject, group, corpus)
    print(f"\n{time.perf_counter() - begin:.0f} s", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path, default=Path("../shared/text"), help="folder of labelled text sets")
    parser.add_argument("--tokenizer", help="tokenizer.json or its folder; trained on the text if not given")
    parser.add_argument("--keys", type=int, default=20, help="random keys; half as many for slow variants")
    parser.add_argument("--documents", type=int, help="a random sample of so many documents; all if not given")
    parser.add_argument("--sites", action="store_true", help="only the tables of sites")
    parser.add_argument("--only", nargs="*", default=[], help="public keys' names; all if not given")
    parser.add_argument("--seed", type=int, default=0, help="of keys and samples")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        name = options.tokenizer
        if name is None:
            name = str(Path(folder, "tokenizer.json"))
            train_tokenizer(human_rows(options.text)[0][::8], 32_000, Path(name))
        tokenizer = load_tokenizer(name)
    corpus = read_corpus(options.text, tokenizer, options.documents, options.seed)
    print(
        f"{len(corpus.group):,} human documents of {len(set(corpus.group.tolist())):,} groups, "
        f"{len(corpus.tokens):,} tokens of {tokenizer.size:,}"
    )
    for subject in SUBJECTS:
        if not options.only or subject.public in options.only:
            report(subject, corpus, options, tokenizer.size)
    return 0


if __name__ == "__main__":
    sys.exit(main())
