"""Sealed outputs for tests: a small crawl run with a key of its own."""

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq

from pipelines.job import load_job
from pipelines.reserve.keys import KeyFiles, keygen, read_verifier
from pipelines.reserve.note import Verifier
from pipelines.run import run
from tests.crawls import write_jsonl

ORIGIN = "example.com/reserve"


def make_key(folder: Path) -> KeyFiles:
    return keygen(ORIGIN, folder)


def seal_run(crawl: str, output: Path, key: Path | None, **settings: object) -> Path:
    """Runs a job, many small parts, and seals with the key."""
    seal = {"key": str(key)} if key else {}
    values = {"input": [crawl], "output": str(output), "workers": 1, "part_bytes": 1 << 20, **settings}
    run(load_job(None, {"statistics": {"panel": False}, **values, "seal": {**seal, **dict(settings.get("seal", {}))}}))  # type: ignore[call-overload]
    return output


def small_output(folder: Path) -> tuple[Path, Verifier]:
    """A signed output of some 200 documents, and the key to verify it with."""
    key = make_key(folder / "keys")
    crawl = write_jsonl(folder / "crawl")
    output = seal_run(crawl, folder / "out", key.private, inspect={"detector": "none"})
    return output, read_verifier(key.vkey)


def copy_of(output: Path, target: Path) -> Path:
    """A copy that may be written to."""
    shutil.copytree(output, target, copy_function=shutil.copyfile)
    return target


def document_ids(output: Path, folder: str = "reserve") -> list[str]:
    return [
        str(i)
        for part in sorted((output / folder).glob("*.parquet"))
        for i in pq.read_table(part)["doc_id"].to_pylist()
    ]


def summary(output: Path) -> dict[str, object]:
    return dict(json.loads((output / "summary.json").read_text()))
