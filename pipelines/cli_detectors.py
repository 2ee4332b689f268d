"""`reserve train`, `evaluate` and `calibrate`. As thin as :mod:`pipelines.cli`, of which they are a part."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.errors import JobError, UsageError

if TYPE_CHECKING:
    from detectors.training import TrainOptions

Add = Callable[..., argparse.ArgumentParser]

_CALIBRATE = """\
kinds and their models, each a folder that transformers saved or a name on the hub:
  sequence-classifier MODEL
  fast-detectgpt      SCORING [REFERENCE]
  binoculars          OBSERVER PERFORMER
  cascade             CHEAP EXPENSIVE      two detectors: 'embedded', or folders that this command or 'train' wrote

examples:
  reserve calibrate binoculars /models/falcon-7b /models/falcon-7b-instruct --text labelled/ --output binoculars/
  reserve calibrate cascade embedded binoculars/ --text more-labelled/ --output cascade/
  reserve run --input 'crawl/*.warc.gz' --set inspect.detector=cascade/
"""


def add_detectors(commands: Any, command: Add) -> None:
    """Adds the commands; ``command`` makes one as :mod:`pipelines.cli` makes its own."""
    _add_train(commands, command)
    _add_evaluate(commands, command)
    _add_calibrate(commands, command)


def _add_train(commands: Any, command: Add) -> None:
    parser = command(
        commands, "train", _train, "fit, calibrate and measure the embedded detector on labelled text, or on labels"
    )
    parser.add_argument(
        "--text",
        nargs="+",
        default=[],
        metavar="PATH",
        help="Parquet files, or folders of them: text, label, group …",
    )
    parser.add_argument(
        "--labels",
        nargs="+",
        default=[],
        metavar="REVIEW",
        help="reviews whose labels of the active stream train; their audit decides whether the new model replaces the "
        "old one. Without --text the old model is updated",
    )
    parser.add_argument(
        "--replaces",
        metavar="embedded|DIR",
        help="the old model, with --labels (default: embedded, the one in the package)",
    )
    parser.add_argument("--output", required=True, metavar="DIR", help="folder for model, calibration and model card")
    parser.add_argument(
        "--no-leave-one-out", action="store_true", help="skip measuring on left-out sets: faster, and says less"
    )
    parser.add_argument(
        "--collection",
        action="append",
        default=[],
        metavar="SET",
        help="a set that gathers several sources, each a domain: left out domain by domain (may be repeated)",
    )
    parser.add_argument("--seed", type=int, metavar="N", help="of the split and the random crops")


def _train(options: argparse.Namespace) -> int:
    from detectors.fitting import FitOptions
    from detectors.training import TrainOptions, train
    from pipelines.progress import say

    _refuse_training(options)
    paths = [Path(path) for path in options.text]
    fitting = FitOptions() if options.seed is None else FitOptions(seed=options.seed)
    how = TrainOptions(leave_one_out=not options.no_leave_one_out, collections=tuple(options.collection), fit=fitting)
    if options.labels:
        _train_with_labels(options, paths, how)
    else:
        try:
            train(paths, Path(options.output), how, say)
        except (FileNotFoundError, ValueError) as error:
            raise UsageError(f"--text: {error}") from None
    print(f"model       {options.output}\nmodel card  {options.output}/MODEL_CARD.md")
    print(f"use it      reserve run … --set inspect.detector={options.output}")
    return 0


def _train_with_labels(options: argparse.Namespace, paths: list[Path], how: TrainOptions) -> None:
    from pipelines.progress import say
    from pipelines.review.training import EMBEDDED, train_with_labels

    outcome = train_with_labels(options.labels, Path(options.output), paths, options.replaces or EMBEDDED, how, say)
    found = outcome.decision
    if not found.accepted:
        raise JobError(f"{found.reason}; the model that was refused lies in {outcome.folder}")
    print(f"the gate    {found.reason}")
    print(f"recall      {found.recall.old:.3f} → {found.recall.new:.3f} at 1 % false positives on the audit")
    print(f"audit       {found.human} human and {found.machine} machine documents, {outcome.controls} of them controls")


def _refuse_training(options: argparse.Namespace) -> None:
    """Options that mean nothing without others are a mistake."""
    if not options.text and not options.labels:
        raise UsageError("train: give --text PATH, --labels REVIEW, or both")
    if options.replaces and not options.labels:
        raise UsageError("--replaces: only with --labels REVIEW, whose audit decides")
    given = {"--no-leave-one-out": options.no_leave_one_out, "--collection": options.collection, "--seed": options.seed}
    for name, value in given.items():
        if value and not options.text:
            raise UsageError(f"{name}: only with --text; without it the old model is updated")
    if Path(options.output).exists() and not Path(options.output).is_dir():
        raise UsageError(f"--output: {options.output} is a file; name a folder")


def _add_evaluate(commands: Any, command: Add) -> None:
    parser = command(commands, "evaluate", _evaluate, "measure a detector on labelled text, the worst slice first")
    parser.add_argument("--text", nargs="+", required=True, metavar="PATH", help="Parquet files, or folders of them")
    parser.add_argument("--model", default="embedded", metavar="DIR", help="folder that training wrote")
    parser.add_argument(
        "--split",
        choices=["test", "all"],
        default="test",
        help="'test' (default): only texts that training did not use; 'all': every text",
    )
    parser.add_argument("--report", metavar="FILE", help="write a report as one HTML file")
    parser.add_argument(
        "--json", nargs="?", const="-", metavar="FILE", help="write everything as JSON; without FILE, print that only"
    )
    parser.add_argument(
        "--cluster",
        choices=["source", "overlap", "set"],
        default="source",
        help="what intervals take as one draw: texts of one original or prompt (default), all that share a run of 13 "
        "words, or a whole set",
    )
    parser.add_argument("--draws", type=int, default=500, metavar="N", help="bootstrap draws (default: 500)")
    parser.add_argument("--prior", type=float, metavar="P", help="also calibration at this share of machine text")
    parser.add_argument(
        "--no-levelled", action="store_true", help="score the text as it is only: half the time, and no check of layout"
    )


def _evaluate(options: argparse.Namespace) -> int:
    from detectors import load_detector
    from detectors.corpus import read_corpus
    from detectors.evaluation import EvaluationOptions, evaluate, render
    from detectors.evaluation_report import report

    files = {"--report": options.report, "--json": None if options.json == "-" else options.json}
    for name, file in files.items():
        if file and (Path(file).is_dir() or not Path(file).absolute().parent.is_dir()):
            raise UsageError(f"{name}: {file} cannot be written: it is a folder, or its folder does not exist")
    try:
        how = EvaluationOptions(options.cluster, options.draws, prior=options.prior, levelled=not options.no_levelled)
        detector = load_detector(options.model)
        result = evaluate(detector, read_corpus([Path(path) for path in options.text]), options.split, options=how)
    except (FileNotFoundError, ValueError) as error:
        raise UsageError(str(error)) from None
    as_json = json.dumps(result.to_dict(), indent=2, allow_nan=False)
    print(as_json if options.json == "-" else render(result))
    for name, text in (("--json", as_json + "\n"), ("--report", report(result))):
        if files[name]:
            Path(files[name]).write_text(text, "utf-8")
            print(f"wrote {files[name]}", file=sys.stderr)
    return 0


def _add_calibrate(commands: Any, command: Add) -> None:
    parser = command(
        commands,
        "calibrate",
        _calibrate,
        "make a detector of models that transformers reads (needs the torch extra), or a cascade of two detectors",
        epilog=_CALIBRATE,
    )
    parser.add_argument("kind", metavar="KIND", help="sequence-classifier, fast-detectgpt, binoculars or cascade")
    parser.add_argument("models", nargs="+", metavar="MODEL", help="what the kind takes, as below")
    parser.add_argument("--text", nargs="+", required=True, metavar="PATH", help="Parquet files, or folders of them")
    parser.add_argument("--output", required=True, metavar="DIR", help="folder for the detector")
    parser.add_argument(
        "--machine-label",
        action="append",
        default=[],
        metavar="LABEL",
        help="a classifier's label that means a machine, where its name does not say so; may be repeated",
    )
    parser.add_argument(
        "--texts", type=int, metavar="N", help="texts of each set and label at most (default: 1000; of a cascade 500)"
    )
    parser.add_argument("--max-tokens", type=int, metavar="N", help="tokens that are read of a text (default: 512)")
    parser.add_argument("--minimum-tokens", type=int, metavar="N", help="below it the detector abstains (default: 64)")
    parser.add_argument("--device", metavar="NAME", help="as torch names it (default: CUDA, else Apple's, else cpu)")
    parser.add_argument("--dtype", metavar="NAME", help="float32, float16 or bfloat16 (default: by the device)")
    parser.add_argument(
        "--agreement",
        type=float,
        metavar="SHARE",
        help="of a cascade: verdicts that are to be the expensive detector's own, on all texts and on those that it "
        "flags (default: 0.95)",
    )
    parser.add_argument(
        "--flagged-agreement",
        type=float,
        metavar="SHARE",
        help="of a cascade: another share for the texts that the expensive detector flags; a lower one sends it less",
    )


def _calibrate(options: argparse.Namespace) -> int:
    from detectors import load_detector
    from pipelines.progress import say

    output = Path(options.output)
    if output.exists() and not output.is_dir():
        raise UsageError(f"--output: {output} is a file; name a folder")
    _refuse(options)
    try:
        from detectors.calibrate import calibrate, render
        from detectors.cascade_fitting import CascadeOptions
        from detectors.model_fitting import CalibrationOptions
        from detectors.models import ModelOptions

        content = calibrate(
            options.kind,
            options.models,
            [Path(path) for path in options.text],
            output,
            machine_labels=options.machine_label,
            reading=ModelOptions(**_given(options, "max_tokens", "minimum_tokens", "device", "dtype")),
            options=CalibrationOptions(**_given(options, "texts")),
            cascade=CascadeOptions(**_given(options, "texts", "agreement", "flagged_agreement")),
            open_detector=load_detector,
            progress=say,
        )
    except (FileNotFoundError, ValueError, ImportError) as error:
        raise UsageError(str(error)) from None
    print(render(content))
    print(f"detector    {output}\nuse it      reserve run … --set inspect.detector={output}")
    return 0


def _given(options: argparse.Namespace, *names: str) -> dict[str, Any]:
    return {name: getattr(options, name) for name in names if getattr(options, name) is not None}


def _refuse(options: argparse.Namespace) -> None:
    """Options that the kind has no use for are a mistake."""
    if options.texts is not None and options.texts < 1:
        raise UsageError(f"--texts {options.texts}: it is 1 at least")
    cascade = options.kind == "cascade"
    of_models = ("machine_label", "max_tokens", "minimum_tokens", "device", "dtype")
    foreign = of_models if cascade else ("agreement", "flagged_agreement")
    for name in foreign:
        if getattr(options, name):
            what = "a cascade reads with its detectors' own options" if cascade else "only a cascade has one"
            raise UsageError(f"--{name.replace('_', '-')}: {what}")
