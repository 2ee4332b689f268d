"""MB/s on one core for each detector, and what a cascade keeps and saves, on real text.

    python -m benchmarks.local_model --text ../shared/text --output LM
    python -m benchmarks.local_classifier --text ../shared/text --output CL
    python -m benchmarks.detector_throughput --text CL/cascade --calibration CL/calibration \\
        --causal LM LM --classifier CL/model

One table: the embedded detector, a sequence classifier, Fast-DetectGPT and Binoculars over a pair of causal models, and
cascades of the embedded detector before each, one for each ``--flagged-agreement``. The expensive detectors are
calibrated on ``--calibration``; the band of a cascade is chosen on one half of ``--text``, by group, and everything in
the table is counted on the other: the share of texts with the expensive detector's own verdict, of all texts and of
those that it flags, and what was sent. MB are those of the whole texts, of which a detector reads the beginning: 3,000
characters, or ``--max-tokens``. Detectors of transformers read on one thread, each text alone; loading is not timed.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from detectors import load_detector
from detectors.base import Detector
from detectors.calibrate import calibrate
from detectors.cascade_fitting import CascadeOptions, fit_cascade
from detectors.corpus import Corpus, read_corpus
from detectors.model_fitting import CalibrationOptions
from detectors.model_folder import open_detector
from detectors.models import ModelOptions

_HEADER = f"{'detector':<44}{'MB/s':>9}{'texts/s':>9}{'MB':>7}"
_CASCADE = (
    f"\n{'cascade: embedded before':<26}{'texts':>6}{'same verdict':>13}{'95 % interval':>18}{'flagged':>8}"
    f"{'same verdict':>13}{'95 % interval':>18}{'sent':>7}{'sent chars':>11}{'time':>7}"
)


def speed(detector: Detector, corpus: Corpus, megabytes: float) -> tuple[float, float, float]:
    """(MB/s, texts/s, MB) on as many texts as make up so many megabytes."""
    size = taken = 0
    for text in corpus.texts:
        if size >= megabytes * 1e6:
            break
        size, taken = size + len(text.encode()), taken + 1
    texts, languages = corpus.texts[:taken], corpus.languages[:taken].tolist()
    detector.score(texts[:4], languages[:4])
    began = time.perf_counter()
    detector.score(texts, languages)
    seconds = time.perf_counter() - began
    return size / seconds / 1e6, taken / seconds, size / 1e6


def folders(options: argparse.Namespace, root: Path) -> dict[str, Path]:
    """The calibrated expensive detectors."""
    reading = ModelOptions(max_tokens=options.max_tokens, device="cpu")
    how = CalibrationOptions(texts=options.texts)
    wanted: dict[str, list[str]] = {}
    if options.classifier:
        wanted["sequence-classifier"] = [options.classifier]
    if options.causal:
        wanted["fast-detectgpt"] = options.causal[:1]
        wanted["binoculars"] = (options.causal * 2)[:2]
    for kind, models in wanted.items():
        calibrate(kind, models, options.calibration, root / kind, reading=reading, options=how)
    return {kind: root / kind for kind in wanted}


def thinned(corpus: Corpus, share: float) -> Corpus:
    """With so many of its machine texts left out, by chance, that they make up this share."""
    machine = np.flatnonzero(corpus.machine)
    human = np.flatnonzero(~corpus.machine)
    count = min(len(machine), round(len(human) * share / (1 - share)))
    kept = np.random.default_rng(1).choice(machine, count, replace=False)
    return corpus.take(np.sort(np.concatenate([human, kept])))


def line(name: str, record: dict[str, Any]) -> str:
    return (
        f"{name:<26}{agreement(record, 'judged', '')}{agreement(record, 'flagged', 'flagged_'):>41}"
        f"{record['sent_share']:>7.1%}{record['sent_share_of_characters']:>11.1%}{record['time_share']:>7.1%}"
    )


def agreement(record: dict[str, Any], texts: str, prefix: str) -> str:
    share = record[f"{prefix}agreement"]
    low, high = record[f"{prefix}agreement_interval"]
    return f"{record[texts]:>6}{'–' if share is None else f'{share:.2%}':>13}{low:>9.2%}–{high:>8.2%}"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path, required=True, help="Parquet sets that no detector was trained on")
    parser.add_argument("--calibration", type=Path, required=True, help="other Parquet sets, to calibrate on")
    parser.add_argument("--classifier", help="a sequence classifier")
    parser.add_argument("--causal", nargs="+", default=[], help="one causal model, or two that share a tokenizer")
    parser.add_argument("--max-tokens", type=int, default=512)
    parser.add_argument("--megabytes", type=float, default=0.5, help="text that a model's detector is timed on")
    parser.add_argument(
        "--texts", type=int, default=200, help="texts of each set and label, to calibrate and to choose"
    )
    parser.add_argument(
        "--flagged-agreement",
        type=float,
        nargs="+",
        default=[0.95],
        help="verdicts to keep on texts that the expensive detector flags; a cascade each",
    )
    parser.add_argument("--machine-share", type=float, help="of the text for the cascades, as in a crawl; default: all")
    options = parser.parse_args(arguments)
    os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[0]})
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    torch.set_num_threads(1)
    corpus = read_corpus(options.text)
    embedded = load_detector("embedded")
    with tempfile.TemporaryDirectory() as name:
        expensive = {
            kind: open_detector(folder, load_detector) for kind, folder in folders(options, Path(name)).items()
        }
        rows = [("embedded", embedded, 20 * options.megabytes)]
        rows += [(kind, detector, options.megabytes) for kind, detector in expensive.items()]
        records = {}
        for kind, detector in expensive.items():
            for share in options.flagged_agreement:
                how = CascadeOptions(texts=options.texts, flagged_agreement=share)
                mixed = corpus if options.machine_share is None else thinned(corpus, options.machine_share)
                fitted = fit_cascade(embedded, detector, mixed, how)
                records[f"{kind}, {share:.0%}"] = fitted.record
                rows.append((f"cascade: embedded, {kind}, {share:.0%}", fitted.cascade, options.megabytes))
        print(_HEADER)
        for label, detector, megabytes in rows:
            rate, texts, size = speed(detector, corpus, megabytes)
            print(f"{label:<44}{rate:>9.3f}{texts:>9.1f}{size:>7.2f}", flush=True)
        print(_CASCADE)
        for kind, record in records.items():
            print(line(kind, record))
            for warning in record["warnings"]:
                print(f"  {warning}")


if __name__ == "__main__":
    main()
