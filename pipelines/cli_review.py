"""`reserve review`: a part of :mod:`pipelines.cli`, and as thin."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from typing import Any

from pipelines.cli_seal import add_private, close_output, given_signers
from pipelines.errors import UsageError

Add = Callable[..., argparse.ArgumentParser]

_EPILOG = """\
examples:
  reserve review plan out --margin 0.02                        how many labels that takes; nothing is drawn
  reserve review plan out --labels 400 --active 200 --output review
  reserve review serve review                                  a page to label on, at http://127.0.0.1:8077/
  reserve review export review --format label-studio --output tasks.json
  reserve review import review project-1-at-2026-05-01.json
  reserve review estimate review                               the share, and what remains in the reserve at most
  reserve review certify review out --key reserve.key          both into the output and its seal

Labels of the audit measure and never train; labels of the active stream train and never measure.
"""


def add_review(commands: Any, command: Add) -> None:
    """Adds the command; ``command`` makes one as :mod:`pipelines.cli` makes its own."""
    parser = commands.add_parser(
        "review",
        help="have people label documents: an audit that measures, and labels to train on",
        description="Have people label documents: an audit that measures, and labels to train on.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=_EPILOG,
    )
    inner = parser.add_subparsers(metavar="COMMAND", required=True)
    _add_plan(inner, command)
    _add_export(inner, command)
    _add_import(inner, command)
    _add_serve(inner, command)
    _add_estimate(inner, command)
    _add_certify(inner, command)


def _add_plan(commands: Any, command: Add) -> None:
    parser = command(commands, "plan", _plan, "say how many labels an interval takes, and draw who is to be labelled")
    parser.add_argument("output", metavar="OUT", help="the folder of a finished run")
    parser.add_argument("--margin", type=float, default=0.01, metavar="M", help="half the interval's width (0.01)")
    parser.add_argument("--level", type=float, default=0.95, metavar="L", help="of intervals and limits (0.95)")
    parser.add_argument("--labels", type=int, metavar="N", help="documents to audit (default: what the margin takes)")
    parser.add_argument("--double", type=float, default=0.15, metavar="S", help="part that two people label (0.15)")
    parser.add_argument("--controls", type=int, metavar="N", help="documents of known origin (default: by the margin)")
    parser.add_argument("--made", metavar="FILE", help="texts a machine was made to write, as controls: JSONL, Parquet")
    parser.add_argument("--active", type=int, default=0, metavar="N", help="further documents, to train on (0)")
    parser.add_argument(
        "--stratify",
        type=_list,
        default=["language", "host_class", "month"],
        metavar="NAME,...",
        help="strata inside each place (language,host_class,month)",
    )
    parser.add_argument("--allocation", choices=["proportional", "neyman"], default="proportional")
    parser.add_argument("--minimum", type=int, metavar="N", help="documents of a stratum (default: 10)")
    parser.add_argument(
        "--annotator-errors",
        type=float,
        nargs=2,
        default=[0.0, 0.0],
        metavar=("MISSED", "ACCUSED"),
        help="shares of machine text taken for human, and of human text taken for machine text, that are expected",
    )
    parser.add_argument("--earlier", nargs="+", default=[], metavar="REVIEW", help="reviews not to train on again")
    parser.add_argument("--seed", metavar="S", help="any text (default: the root of the seal, which nobody can choose)")
    parser.add_argument("--output", dest="folder", metavar="REVIEW", help="folder to write (default: draw nothing)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")


def _list(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _plan(options: argparse.Namespace) -> int:
    from pipelines.review.draw import MINIMUM, Allocation
    from pipelines.review.make import Request, make_review, plan_for
    from pipelines.review.plan import Errors
    from pipelines.review.planning import describe

    request = Request(
        margin=options.margin,
        level=options.level,
        labels=options.labels,
        double=options.double,
        controls=options.controls,
        made=options.made,
        active=options.active,
        stratify=tuple(options.stratify),
        seed=options.seed,
        earlier=tuple(options.earlier),
        allocation=Allocation(options.allocation),
        minimum=MINIMUM if options.minimum is None else options.minimum,
        errors=Errors(*options.annotator_errors),
    )
    plan = plan_for(options.output, request)
    made = make_review(options.output, request, options.folder) if options.folder else None
    if options.json:
        told = {name: made[name] for name in made if name != "strata"} if made else plan.as_dict()
        print(json.dumps(told, indent=2, ensure_ascii=False))
        return 0
    print("\n".join(describe(plan)))
    if made is None:
        print(f"\nNothing is drawn yet: add --output REVIEW to 'reserve review plan {options.output} …'.")
        return 0
    for warning in made["warnings"]:
        print(f"reserve: warning: {warning}", file=sys.stderr)
    print(f"\nreview  {options.folder}\nlabel   reserve review serve {options.folder}")
    print(f"        reserve review export {options.folder} --format label-studio --output tasks.json")
    return 0


def _add_stream(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--stream", choices=["audit", "active"], default="audit", help="what the labels are for")


def _add_export(commands: Any, command: Add) -> None:
    parser = command(commands, "export", _export, "write the tasks for Label Studio, Argilla, or as JSON Lines")
    parser.add_argument("review", metavar="REVIEW", help="the folder that 'reserve review plan' wrote")
    parser.add_argument("--format", required=True, metavar="TOOL", help="label-studio, argilla or jsonl")
    parser.add_argument("--output", required=True, metavar="FILE", help="file to write")
    _add_stream(parser)
    parser.add_argument(
        "--predictions",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="show the detector's opinion (default: for the active stream; in an audit it would sway the answers)",
    )
    parser.add_argument("--show-source", action="store_true", help="show address and capture time beside the text")


def _export(options: argparse.Namespace) -> int:
    from pipelines.review.exchange import About, export
    from pipelines.review.records import Folder, Stream

    stream = Stream(options.stream)
    tasks = Folder(options.review).read_tasks(stream)
    if not tasks.num_rows:
        raise UsageError(f"{options.review}: there are no {stream.value} tasks; see 'reserve review plan --help'")
    about = About(stream, options.predictions, options.show_source)
    for name in export(tasks, options.format, options.output, about):
        print(f"wrote   {name}")
    print(f"tasks   {tasks.num_rows:,} of the {stream.value} stream")
    print(f"back    reserve review import {options.review} FILE")
    return 0


def _add_import(commands: Any, command: Add) -> None:
    parser = command(commands, "import", _import, "read answers back; what is read again changes nothing")
    parser.add_argument("review", metavar="REVIEW", help="the folder that 'reserve review plan' wrote")
    parser.add_argument("file", metavar="FILE", help="what the tool exported")
    parser.add_argument("--format", metavar="TOOL", help="label-studio, argilla or jsonl (default: by the content)")
    parser.add_argument("--annotator", metavar="NAME", help="who answered, where the file does not say")


def _import(options: argparse.Namespace) -> int:
    from pipelines.review.exchange import read
    from pipelines.review.records import Folder, Stream
    from pipelines.review.store import Store

    folder = Folder(options.review)
    tasks = [task for stream in Stream for task in folder.read_tasks(stream)["task_id"].to_pylist()]
    found = read(options.file, options.format, tasks, options.annotator)
    with Store(folder.labels) as store:
        new = store.add(found.answers)
    print(f"read    {len(found.answers):,} answers ({found.form.value}), {new:,} of them new")
    for why, count in found.left_out.items():
        print(f"        {count:,} left out: {why}")
    print(f"next    reserve review estimate {options.review}")
    return 0


def _add_serve(commands: Any, command: Add) -> None:
    parser = command(commands, "serve", _serve, "serve a page on which people label, until it is stopped")
    parser.add_argument("review", metavar="REVIEW", help="the folder that 'reserve review plan' wrote")
    _add_stream(parser)
    parser.add_argument("--host", default="127.0.0.1", metavar="ADDRESS", help="to listen on (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, default=8077, metavar="N", help="to listen on; 0: a free one (8077)")
    parser.add_argument("--token", metavar="TEXT", help="what browsers must show; needed where others reach the page")
    parser.add_argument(
        "--allow-host", action="append", default=[], metavar="NAME", help="further name of the page, as that of a proxy"
    )


def _serve(options: argparse.Namespace) -> int:
    from pipelines.review.page import serve
    from pipelines.review.records import Stream

    serve(options.review, Stream(options.stream), options.host, options.port, options.token, options.allow_host)
    return 0


def _add_estimate(commands: Any, command: Add) -> None:
    parser = command(
        commands, "estimate", _estimate, "say what the audit's labels show: the share, and what remains in the reserve"
    )
    parser.add_argument("review", metavar="REVIEW", help="the folder that 'reserve review plan' wrote")
    parser.add_argument("--level", type=float, default=0.95, metavar="L", help="of intervals and limits (0.95)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")


def _estimate(options: argparse.Namespace) -> int:
    from pipelines.review.audit import audit
    from pipelines.review.audit_text import render

    found = audit(options.review, options.level)
    print(json.dumps(found, indent=2, ensure_ascii=False) if options.json else render(found))
    return 0


def _add_certify(commands: Any, command: Add) -> None:
    parser = command(
        commands, "certify", _certify, "put the certified bound and the labels' digests into an output and its seal"
    )
    parser.add_argument("review", metavar="REVIEW", help="the folder that 'reserve review plan' wrote")
    parser.add_argument("output", metavar="OUT", help="the sealed output that the audit was drawn from")
    parser.add_argument("--level", type=float, default=0.95, metavar="L", help="of intervals and limits (0.95)")
    add_private(parser, required=False)


def _certify(options: argparse.Namespace) -> int:
    from pipelines.descriptions import rewrite_croissant
    from pipelines.finish import rewrite_report
    from pipelines.review.audit import audit
    from pipelines.review.certify import certify, sealed_labels, sealed_plan
    from pipelines.review.records import Folder

    def rewrite(output: str) -> list[str]:
        return [rewrite_report(output), rewrite_croissant(output)]

    folder = Folder(options.review)
    found = audit(options.review, options.level)
    lines, plan = sealed_labels(folder), sealed_plan(folder)
    entry = certify(options.output, found, lines, plan, given_signers(options), rewrite)
    close_output(options.output)
    print(
        f"certified  audit {entry.number} of {options.output}: {entry.labelled:,} of {entry.drawn:,} documents labelled"
    )
    print(f"verify     reserve verify {options.output}")
    return 0
