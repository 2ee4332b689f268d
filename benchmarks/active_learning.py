"""What labels teach the detector: chosen by `reserve review plan --active` against drawn at random; and a wrong batch.

    python -m benchmarks.active_learning --text ../shared/text

The embedded detector is trained without the sets of the pool, which stand for a crawl of other writing and other
generators; texts that it has seen anyway are left out. A part of the pool's groups are candidates, the others
measure. Labels are the truth. Labels come in rounds, as reviews do: after 100, 300 and 1,000 the model is updated
(:mod:`detectors.updating`), and the next candidates are chosen with its probabilities. Recall is that at 1 % false
positives on the measuring half, with the threshold found there. The gate decides on an audit drawn at random from the
measuring half; measuring and audit do not share documents. The wrong batch has every label flipped.

The host of a candidate is its domain. A candidate is uncertain where its probability is near 0.5 or near the decision
threshold, as in `reserve review plan`.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy import stats

from detectors.calibration import true_positive_rate_at
from detectors.corpus import Corpus, read_corpus, text_key
from detectors.embedded import MODEL_FILE, Embedded
from detectors.fitting import FitOptions, LinearModel, token_counts
from detectors.gate import Decision, gate
from detectors.training import TrainOptions, train
from detectors.updating import Texts, UpdateOptions, update, vectors
from pipelines.review.active import TURNS, Candidates, Vectors, Wish, choose, embedded

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]
STEPS = (100, 300, 1000)


class Pool(NamedTuple):
    """Texts that the detector has not seen, and what is computed of them once."""

    corpus: Corpus
    embedded: Vectors
    features: Any  # CSR, of :func:`detectors.updating.vectors`
    tokens: Int
    targets: tuple[float, ...]


class Setting(NamedTuple):
    """What both ways of choosing are given: rows of the pool."""

    pool: Pool
    candidates: Int
    measured: Int
    audited: Int


def trained(paths: Sequence[Path], folder: Path, crops: int) -> None:
    """The detector without the pool's sets."""
    fit = FitOptions(crops=crops, bits=21, least_sets=3)
    train(paths, folder, TrainOptions(("en",), leave_one_out=False, false_positive_rate=0.05, fit=fit))


def read_pool(paths: Sequence[Path], base: Embedded, most: int) -> Pool:
    """English texts of the pool's sets that the detector speaks of and has not seen; ``most`` of machines."""
    corpus = read_corpus(paths)
    seen = base.seen()
    known = seen.contains([text_key(text) for text in corpus.levelled])
    known |= seen.contains([text_key(group) for group in corpus.groups.tolist()])
    long_enough = token_counts(corpus.levelled) >= base.settings.minimum_tokens
    usable = np.flatnonzero(~known & long_enough & (corpus.languages == "en"))
    order = np.random.default_rng(0).permutation(usable)
    machine = order[corpus.machine[order]][:most]
    corpus = corpus.take(np.sort(np.concatenate([machine, usable[~corpus.machine[usable]]])))
    return Pool(
        corpus,
        embedded(pa.array(corpus.texts, pa.large_string())),
        vectors(model_of(base), corpus.levelled),
        token_counts(corpus.levelled),
        (0.5, base.error_rates().decision.threshold),
    )


def model_of(detector: Embedded) -> LinearModel:
    """Its weights."""
    return LinearModel.from_bytes(detector._file(MODEL_FILE).read_bytes(), **detector.settings.model)


def drawn(pool: Pool, seed: int, part: float, share: float, audit: int) -> Setting:
    """Splits groups, and thins machine text out until it is that share of the candidates and of the audit."""
    random = np.random.default_rng(seed)
    machine = pool.corpus.machine
    _, group = np.unique(pool.corpus.groups, return_inverse=True)
    candidate = (random.random(int(group.max()) + 1) < part)[group]

    def thinned(rows: Int) -> Int:
        human, by_machine = rows[~machine[rows]], rows[machine[rows]]
        wanted = min(len(by_machine), round(len(human) * share / (1 - share)))
        return np.sort(np.concatenate([human, random.choice(by_machine, wanted, replace=False)]))

    others = np.flatnonzero(~candidate)
    audited = random.permutation(thinned(others))[:audit]
    return Setting(pool, thinned(np.flatnonzero(candidate)), np.setdiff1d(others, audited), audited)


def probabilities(folder: Path, pool: Pool, rows: Int) -> tuple[Float, Float]:
    """Scores and probabilities of some rows, as the detector in the folder gives them."""
    detector = Embedded(folder)
    model = model_of(detector)
    score = model.scale * (pool.features[rows] @ model.weights.astype(np.float64)) + model.bias
    return score, detector.settings.calibrations["en"].probability(score, pool.tokens[rows])


def labelled(corpus: Corpus, rows: Int, wrong: bool = False) -> Texts:
    """Texts with their labels; with the opposite ones if ``wrong``."""
    texts = [corpus.texts[row] for row in rows]
    return Texts(texts, corpus.machine[rows] ^ wrong, corpus.groups[rows].tolist(), ["en"] * len(rows))


def recall(folder: Path, setting: Setting) -> float:
    """At a false-positive rate of 1 %, on the measuring part."""
    score, _ = probabilities(folder, setting.pool, setting.measured)
    return true_positive_rate_at(score, setting.pool.corpus.machine[setting.measured], 0.01)


def learning(
    setting: Setting, base: Path, room: Path, turns: Sequence[Wish] | None, steps: Sequence[int], seed: int
) -> tuple[list[float], list[int], Int, Path]:
    """Recall and machine texts labelled after each step, the rows labelled, the last model; without turns: by lot."""
    order = np.random.default_rng(10_000 + seed).permutation(len(setting.candidates))
    pool = setting.pool
    hosts = np.unique(pool.corpus.domains, return_inverse=True)[1]
    taken: Int = np.empty(0, np.int64)
    current, found, machine = base, [], []
    for step in steps:
        if turns is None:
            taken = setting.candidates[order[:step]]
        else:
            left = np.setdiff1d(setting.candidates, taken)
            _, probability = probabilities(current, pool, left)
            nothing = np.full(len(left), np.nan)
            offered = Candidates(pool.embedded[left], probability, nothing, hosts[left])
            chosen = choose(offered, step - len(taken), pool.embedded[taken], hosts[taken], pool.targets, turns)
            taken = np.concatenate([taken, left[chosen]])
        target = room / f"{'lot' if turns is None else 'chosen'}-{step}"
        try:
            update(base, labelled(pool.corpus, taken), target)
            current = target
        except ValueError:
            pass  # the labels teach nothing yet: the model stays
        found.append(recall(current, setting))
        machine.append(int(pool.corpus.machine[taken].sum()))
    return found, machine, taken, current


def decided(old: Path, new: Path, setting: Setting) -> Decision:
    """By the audit."""
    before, after = (probabilities(folder, setting.pool, setting.audited)[1] for folder in (old, new))
    return gate(before, after, setting.pool.corpus.machine[setting.audited])


def interval(values: Float) -> tuple[float, float, float]:
    """Mean with Student's 95 % interval over seeds."""
    mean = float(values.mean())
    half = float(stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))
    return mean, mean - half, mean + half


def wrong_batch(setting: Setting, base: Path, rows: Int, room: Path) -> Decision:
    """A model that learned the opposite of every label; nothing holds it back but the gate."""
    options = UpdateOptions(gain=-np.inf)
    update(base, labelled(setting.pool.corpus, rows, wrong=True), room / "wrong", options)
    return decided(base, room / "wrong", setting)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--pool", nargs="+", default=["l2r", "outfox", "human_pre2020"])
    parser.add_argument("--without", nargs="*", default=["hc3zh", "cheat_fusion"], help="sets that nobody learns from")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--part", type=float, default=0.5, help="of the pool that are candidates")
    parser.add_argument("--most", type=int, default=4000, help="machine texts of the pool")
    parser.add_argument("--share", type=float, default=0.1, help="of machine text among the candidates")
    parser.add_argument("--audit", type=int, default=600)
    parser.add_argument("--crops", type=int, default=100_000)
    parser.add_argument("--turns", nargs="+", type=Wish, default=list(TURNS))
    parser.add_argument("--steps", nargs="+", type=int, default=list(STEPS))
    parser.add_argument("--base", type=Path, help="folder for the detector without the pool; taken if it is there")
    options = parser.parse_args()
    everything = sorted(options.text.glob("*.parquet"))
    inside = [file for file in everything if file.stem in options.pool]
    others = [file for file in everything if file.stem not in (*options.pool, *options.without)]
    with tempfile.TemporaryDirectory() as scratch:
        base = options.base or Path(scratch) / "base"
        if not (base / "detector.json").is_file():
            trained(others, base, options.crops)
        _report(read_pool(inside, Embedded(base), options.most), base, Path(scratch), options)


def _report(pool: Pool, base: Path, scratch: Path, options: argparse.Namespace) -> None:
    print(f"pool: {', '.join(options.pool)}, {len(pool.corpus)} texts; turns: {', '.join(options.turns)}")
    recalls = np.zeros((2, options.seeds, len(options.steps)))
    shares = np.zeros((2, options.seeds, len(options.steps)))
    before = []
    for seed in range(options.seeds):
        began = time.perf_counter()
        setting = drawn(pool, seed, options.part, options.share, options.audit)
        room = scratch / str(seed)
        before.append(recall(base, setting))
        for way, turns in enumerate((None, options.turns)):
            found, machine, rows, model = learning(setting, base, room, turns, options.steps, seed)
            recalls[way, seed], shares[way, seed] = found, np.array(machine) / options.steps
            print(f"  seed {seed} {('at random', 'chosen')[way]:10} {decided(base, model, setting).reason}")
        print(f"  seed {seed} wrong batch  {wrong_batch(setting, base, rows, room).reason}")
        counts = [f"{len(part)}" for part in (setting.candidates, setting.measured, setting.audited)]
        print(
            f"  seed {seed}: {' / '.join(counts)} candidates / measured / audited; {time.perf_counter() - began:.0f} s"
        )
    print(
        f"recall at 1 % false positives before any label: {np.mean(before):.3f} ({min(before):.3f} … {max(before):.3f})"
    )
    print("| labels | at random | chosen | chosen - random, 95 % | machine at random | machine chosen |")
    print("|---|---|---|---|---|---|")
    for at, step in enumerate(options.steps):
        cells = [f"{part.mean():.3f} ({part.min():.3f} … {part.max():.3f})" for part in recalls[:, :, at]]
        mean, low, high = interval(recalls[1, :, at] - recalls[0, :, at])
        of_machine = [f"{part.mean():.0%}" for part in shares[:, :, at]]
        print(
            f"| {step} | {cells[0]} | {cells[1]} | {mean:+.3f} [{low:+.3f}, {high:+.3f}] | {' | '.join(of_machine)} |"
        )


if __name__ == "__main__":
    main()
