"""The `reserve` command. Thin: parses, calls, prints. Results go to standard output, progress to standard error."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from pipelines.cli_compare import add_compare
from pipelines.cli_detectors import add_detectors
from pipelines.cli_review import add_review
from pipelines.cli_sample import add_sample
from pipelines.cli_seal import add_seal
from pipelines.cli_series import add_series
from pipelines.cli_watermark import add_watermark
from pipelines.errors import DEBUG, JobError, UsageError

_EPILOG = """\
examples:
  reserve demo                                        see the whole job on text that this machine already has
  reserve run --input 'crawl/*.warc.gz' --output out  a job with every default
  reserve run job.yaml --set neardup.threshold=0.9    a job file, with one key overridden
  reserve survey 'crawl/*.warc.gz'                    what shards hold, and what is broken in them
  reserve explain out 3fa9                            why one document went where it went
  reserve verify out --key reserve.vkey               whether an output is, to the last bit, what was sealed

exit codes: 0 done; 1 the job failed; 2 the call or the configuration is wrong
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One line that says what is wrong and where help is."""
        print(f"reserve: {message}; see '{self.prog} --help'", file=sys.stderr)
        raise SystemExit(2)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and gives its exit code."""
    logging.getLogger().setLevel(logging.ERROR)  # Beam speaks when it is imported
    options = _parser().parse_args(arguments)
    if options.debug:
        os.environ[DEBUG] = "1"
    try:
        code: int = options.do(options)
    except (UsageError, JobError) as error:
        if options.debug:
            raise
        print(f"reserve: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        hint = "; the same command goes on where this one stopped" if options.do is _run else ""
        print(f"reserve: interrupted{hint}", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of a pipe (head, less) has left; what it read was right.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return code


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="reserve",
        description="Finds machine text in crawl dumps, removes near-duplicates, tags provenance, and writes a human "
        "reserve with contamination statistics.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--debug", action="store_true", help="show the whole traceback of an error")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    _add_run(commands)
    _add_demo(commands)
    _add_dedup(commands)
    _add_survey(commands)
    _add_explain(commands)
    _add_report(commands)
    add_detectors(commands, _command)
    add_watermark(commands, _command)
    add_seal(commands, _command)
    add_sample(commands, _command)
    add_series(commands, _command)
    add_compare(commands, _command)
    add_review(commands, _command)
    return parser


def _command(commands: Any, name: str, do: Any, help: str, **more: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=help,
        description=help[:1].upper() + help[1:] + ".",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        **more,
    )
    parser.set_defaults(do=do)
    return parser


def _add_run(commands: Any) -> None:
    parser = _command(
        commands, "run", _run, "read shards and write a reserve, statistics and a report", epilog=_run_epilog()
    )
    parser.add_argument("job", nargs="?", metavar="JOB.yaml", help="job file; an empty one is valid")
    parser.add_argument(
        "--input",
        nargs="+",
        metavar="GLOB",
        help="shards: globs, URLs (s3, gs, hdfs, http, https), or lists of them (*.paths.gz, @LIST); "
        "WARC, WET, ARC, WACZ, Parquet, JSONL; plain, .gz, .zst or .lz4",
    )
    parser.add_argument("--output", metavar="DIR", help="folder to write (default: out)")
    parser.add_argument(
        "--against",
        nargs="+",
        metavar="OUT",
        help="all earlier outputs: copies of their documents are removed",
    )
    parser.add_argument("--workers", type=int, metavar="N", help="worker processes (default: one for each core)")
    parser.add_argument("--runner", metavar="NAME", help="'local' (default) or a Beam runner")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override any key of the job")
    parser.add_argument("--overwrite", action="store_true", help="replace a finished output of another job")
    parser.add_argument("--json", action="store_true", help="print summary.json instead of text")


def _run_epilog() -> str:
    from pipelines.job import describe

    return "keys of a job file (all optional) and their defaults:\n" + describe()


def _run(options: argparse.Namespace) -> int:
    from pipelines.explain import first_reject
    from pipelines.job import load_job
    from pipelines.reserve.card import headline
    from pipelines.run import run

    named = {key: getattr(options, key) for key in ("input", "output", "against", "workers", "runner")}
    job = load_job(options.job, {k: v for k, v in named.items() if v is not None}, options.set)
    result = run(job, options.overwrite)
    if options.json:
        print(json.dumps(result.summary, indent=2, ensure_ascii=False))
    else:
        if result.already_whole:
            print(f"{result.output} is already whole: the same job over the same input; nothing was done\n")
        print(headline(result.output, result.summary))
    records = result.summary["records"]
    if records["in"] == records["rejects"]:
        first = first_reject(result.output)
        raise JobError(f"none of {records['in']} records gave a document ({first}); see {result.output}/rejects")
    return 0


def _add_demo(commands: Any) -> None:
    parser = _command(
        commands, "demo", _demo, "run the whole job on an embedded input, and compare with what was planted"
    )
    parser.add_argument(
        "--output", default="reserve-demo", metavar="DIR", help="folder to write (default: reserve-demo)"
    )
    parser.add_argument("--pages", type=int, default=2000, metavar="N", help="pages at the most (default: 2000)")
    parser.add_argument(
        "--workers", type=int, default=0, metavar="N", help="worker processes (default: one for each core)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier demo")


def _demo(options: argparse.Namespace) -> int:
    from pipelines.demo import demo

    print(demo(options.output, options.pages, options.workers, options.overwrite))
    return 0


def _add_dedup(commands: Any) -> None:
    parser = _command(
        commands,
        "dedup",
        _dedup,
        "find the near-duplicates in Parquet files of text and list the rows to drop; no other check is made",
    )
    parser.add_argument("input", nargs="+", metavar="PARQUET", help="paths, globs, URLs, or lists of them, as in 'run'")
    parser.add_argument("--output", default="dedup", metavar="DIR", help="folder for duplicates.parquet")
    parser.add_argument("--text", default="text", metavar="COLUMN", help="column that holds the text (default: text)")
    parser.add_argument(
        "--time", metavar="COLUMN", help="column of the capture time: the earliest copy stays (default: the first row)"
    )
    parser.add_argument("--workers", type=int, default=0, metavar="N", help="worker processes (default: by the work)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a key neardup.*")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier list")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")


def _dedup(options: argparse.Namespace) -> int:
    from pipelines.dedup import Columns, dedup
    from pipelines.job import load_job

    for item in options.set:
        if not item.startswith("neardup."):
            raise UsageError(f"--set {item}: this command only takes keys that begin with 'neardup.'")
    named = {"input": options.input, "output": options.output, "workers": options.workers}
    found = dedup(load_job(None, named, options.set), Columns(options.text, options.time), options.overwrite)
    if options.json:
        print(json.dumps(found._asdict()))
    else:
        share = found.duplicates / found.documents if found.documents else 0.0
        print(f"documents   {found.documents:>12,}")
        print(f"to drop     {found.duplicates:>12,}  {share:.1%}, copies in {found.clusters:,} clusters")
        print(f"list        {found.path}")
    return 0


def _add_survey(commands: Any) -> None:
    parser = _command(
        commands,
        "survey",
        _survey,
        "show what shards hold, what is broken in them and what a job would recover",
        epilog="exit codes: 0 every shard is whole; 1 something is damaged or cannot be read; 2 the call is wrong",
    )
    parser.add_argument("shard", nargs="+", metavar="SHARD", help="paths, globs, URLs, or lists of them, as in 'run'")
    parser.add_argument(
        "--quick", action="store_true", help="records, digests and damage only: no text of pages, no languages"
    )
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a key ingest.*")
    parser.add_argument("--json", action="store_true", help="print one JSON object a line for each shard")


def _survey(options: argparse.Namespace) -> int:
    from pipelines.ingest.shards import find_shards
    from pipelines.job import load_job
    from pipelines.survey import Survey, survey_shards
    from pipelines.survey_text import render, render_total

    for item in options.set:
        if not item.startswith("ingest."):
            raise UsageError(f"--set {item}: a survey only takes keys that begin with 'ingest.'")
    ingest = load_job(None, sets=options.set).ingest
    shards = find_shards(options.shard)
    total, broken = Survey(), []
    for found in survey_shards(shards, ingest, options.quick):
        several = "\n" if len(shards) > 1 else ""
        print(json.dumps(found.to_dict(), ensure_ascii=False) if options.json else render(found) + several, flush=True)
        total.add(found)
        if not found.is_whole:
            broken.append(found.shard)
    if len(shards) > 1 and not options.json:
        print(render_total(total, len(shards), broken))
    return 1 if broken else 0


def _add_explain(commands: Any) -> None:
    parser = _command(commands, "explain", _explain, "show one document's verdict, evidence and cluster")
    parser.add_argument("output", metavar="OUT", help="the folder of a finished run")
    parser.add_argument("doc_id", metavar="DOC_ID", help="32 hex digits, or enough of the first ones")
    parser.add_argument("--json", action="store_true", help="print the whole row as JSON")


def _explain(options: argparse.Namespace) -> int:
    from pipelines.explain import explain, find_document

    if options.json:
        print(json.dumps(find_document(options.output, options.doc_id), indent=2, ensure_ascii=False, default=str))
    else:
        print(explain(options.output, options.doc_id))
    return 0


def _add_report(commands: Any) -> None:
    parser = _command(commands, "report", _report, "write the report of a finished run again")
    parser.add_argument("output", metavar="OUT", help="the folder of a finished run")
    parser.add_argument(
        "--out", metavar="FILE", help="file to write (default: report.html in OUT, if OUT is not sealed)"
    )
    parser.add_argument(
        "--format",
        choices=["html", "md"],
        default="html",
        help="'md': Markdown for terminals and pull requests, printed where no file is named",
    )


def _report(options: argparse.Namespace) -> int:
    from pipelines.finish import rewrite_report
    from pipelines.layout import Layout
    from pipelines.reserve.seal import read_seal

    if options.out is None and options.format == "html" and read_seal(Layout(options.output).seal):
        raise UsageError(f"{options.output}: is sealed, and nothing sealed is written again; name a file with --out")
    print(rewrite_report(options.output, options.out, options.format))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
