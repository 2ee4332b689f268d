"""The main job from shards to output: books that add up, bytes that do not depend on how, and runs that go on."""

import json
import os
import random
import shutil
import time
from importlib.resources import files as resources
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipelines.cli import main
from pipelines.errors import UsageError
from pipelines.run import run
from tests.crawls import SHARED, column, digests, job, rows, write_jsonl, write_parquet, write_wet

DOCUMENTS = ("reserve", "quarantine", "review")


@pytest.fixture(scope="module")
def crawl(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_jsonl(tmp_path_factory.mktemp("crawl"))


@pytest.fixture(scope="module")
def undisturbed(crawl: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("undisturbed") / "out"
    run(job(crawl, output))
    return output


def test_every_record_ends_in_exactly_one_place(undisturbed: Path) -> None:
    records = json.loads((undisturbed / "summary.json").read_text())["records"]
    assert records["in"] == len(rows())
    assert records["in"] == sum(n for place, n in records.items() if place != "in")
    for place in (*DOCUMENTS, "duplicates", "rejects"):
        written = sum(pq.read_metadata(p).num_rows for p in (undisturbed / place).glob("part-*.parquet"))
        assert written == records[place]
    urls = column(undisturbed, (*DOCUMENTS, "duplicates", "rejects"), ["url"])
    assert sorted(url for (url,) in urls) == sorted(row["url"] for row in rows())


def test_parts_are_sorted_by_identity_and_hold_the_text(undisturbed: Path) -> None:
    texts = {row["url"]: row["text"] for row in rows()}
    for place in DOCUMENTS:
        for part in (undisturbed / place).glob("part-*.parquet"):
            table = pq.read_table(part)
            assert table["doc_id"].to_pylist() == sorted(table["doc_id"].to_pylist())
            for url, text in zip(table["url"].to_pylist(), table["text"].to_pylist(), strict=True):
                assert text == texts[url]


def test_copies_leave_and_name_the_earlier_capture(undisturbed: Path) -> None:
    when = {r["url"]: r["timestamp"] for r in rows()}
    kept = dict(column(undisturbed, DOCUMENTS, ["doc_id", "url"]))
    duplicates = column(undisturbed, ("duplicates",), ["url", "kept_doc_id", "jaccard"])
    assert len([url for url, _, _ in duplicates if "mirror.example" in str(url)]) >= 10
    for url, kept_doc_id, jaccard in duplicates:
        assert when[str(kept[kept_doc_id])] <= when[str(url)]
        assert 0.5 < float(str(jaccard)) <= 1


@pytest.mark.parametrize("workers", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_same_bytes_for_any_number_of_workers(crawl: str, undisturbed: Path, tmp_path: Path, workers: int) -> None:
    run(job(crawl, tmp_path / "out", workers=workers))
    assert digests(tmp_path / "out") == digests(undisturbed)


def test_same_bytes_for_shards_in_another_order(crawl: str, undisturbed: Path, tmp_path: Path) -> None:
    shards = [crawl.replace("*", f"crawl-{i}") for i in (2, 0, 1)]
    run(job(crawl, tmp_path / "out", input=shards))
    assert digests(tmp_path / "out") == digests(undisturbed)


def test_formats_give_the_same_documents(undisturbed: Path, tmp_path: Path) -> None:
    names = ["doc_id", "url", "verdict", "machine_probability", "cluster_id", "cluster_size", "text_sha256"]
    expected = sorted(column(undisturbed, DOCUMENTS, names), key=str)
    for write in (write_parquet, write_wet):
        crawl = write(tmp_path / write.__name__)
        run(job(crawl, tmp_path / "out" / write.__name__))
        assert sorted(column(tmp_path / "out" / write.__name__, DOCUMENTS, names), key=str) == expected


def test_a_finished_run_is_not_repeated(crawl: str, undisturbed: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in undisturbed.rglob("*")}
    assert run(job(crawl, undisturbed)).already_whole
    assert {path: path.stat().st_mtime_ns for path in undisturbed.rglob("*")} == before


def test_a_copied_crawl_gives_the_same_bytes(crawl: str, undisturbed: Path, tmp_path: Path) -> None:
    shutil.copytree(Path(crawl).parent, tmp_path / "elsewhere", copy_function=shutil.copyfile)
    run(job(str(tmp_path / "elsewhere" / "*.jsonl.gz"), tmp_path / "out"))
    assert digests(tmp_path / "out") == digests(undisturbed)


def test_a_shard_that_changed_is_noticed(undisturbed: Path, crawl: str, tmp_path: Path) -> None:
    shutil.copytree(Path(crawl).parent, tmp_path / "crawl", copy_function=shutil.copyfile)
    shutil.copytree(undisturbed, tmp_path / "out", copy_function=shutil.copyfile)
    mine = job(str(tmp_path / "crawl" / "*.jsonl.gz"), tmp_path / "out")
    assert run(mine).already_whole
    later = time.time() + 100
    os.utime(tmp_path / "crawl" / "crawl-1.jsonl.gz", (later, later))
    with pytest.raises(UsageError, match="another job, input or version"):
        run(mine)


@pytest.mark.slow
def test_another_policy_reads_no_shard_again(
    crawl: str, undisturbed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    run(job(crawl, out, keep_work=True))
    assert set(digests(undisturbed)) <= set(digests(out))
    policy = tmp_path / "policy.yaml"
    default = resources("pipelines.provenance").joinpath("policy.yaml").read_text()
    policy.write_text(
        "rules:\n  - verdict: clear\n    because: nothing is looked at\n" + default[default.index("routes:") :]
    )
    capsys.readouterr()
    result = run(job(crawl, out, policy=str(policy)), overwrite=True)
    said = capsys.readouterr().err
    assert "3 of 3 shards were read by an earlier run" in said
    assert result.summary["records"]["quarantine"] == 0
    assert result.summary["verdicts"] == {
        "clear": result.summary["records"]["in"] - result.summary["records"]["rejects"]
    }


def test_the_output_of_another_job_is_not_written_over(crawl: str, undisturbed: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(undisturbed, out)
    before = digests(out)
    code = main(["run", "--input", crawl, "--output", str(out), "--set", "neardup.threshold=0.9"])
    assert code == 2
    assert digests(out) == before


def bad(tmp_path: Path, case: str, crawl: str) -> list[str]:
    """The arguments of a call that has to fail."""
    if case == "unknown key":
        (tmp_path / "job.yaml").write_text("neardup:\n  treshold: 0.9\n")
        return [str(tmp_path / "job.yaml"), "--input", crawl]
    if case == "bad value":
        return ["--input", crawl, "--set", "cutoff=soon"]
    if case == "unknown runner":
        return ["--input", crawl, "--runner", "FooRunner"]
    if case == "missing input":
        return ["--input", str(tmp_path / "nothing-*.warc.gz")]
    if case == "no input":
        return []
    if case == "no job file":
        return [str(tmp_path / "job.yaml"), "--input", crawl]
    if case == "unwritable output":
        return ["--input", crawl, "--output", "/proc/reserve"]
    if case == "output is a file":
        (tmp_path / "out").write_text("mine")
        return ["--input", crawl]
    if case == "output holds other files":
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "thesis.txt").write_text("mine")
        return ["--input", crawl]
    if case == "unknown policy key":
        (tmp_path / "policy.yaml").write_text("rules:\n  - verdict: human\n    because: x\nroutes: {}\n")
        return ["--input", crawl, "--set", f"policy={tmp_path / 'policy.yaml'}"]
    if case == "empty shard":
        (tmp_path / "empty.warc.gz").touch()
        return ["--input", str(tmp_path / "empty.warc.gz")]
    assert case == "no WARC"
    (tmp_path / "picture.warc.gz").write_bytes(random.Random(1).randbytes(5000))
    return ["--input", str(tmp_path / "picture.warc.gz")]


@pytest.mark.parametrize(
    ("case", "code", "words"),
    [
        ("unknown key", 2, ["job.yaml", "neardup.treshold", "did you mean 'threshold'"]),
        ("bad value", 2, ["cutoff", "'soon'"]),
        ("missing input", 2, ["nothing-*.warc.gz", "matches no file"]),
        ("no input", 2, ["--input"]),
        ("no job file", 2, ["job.yaml", "No such file"]),
        ("unwritable output", 2, ["/proc/reserve", "cannot be written"]),
        ("output is a file", 2, ["is a file"]),
        ("output holds other files", 2, ["thesis.txt"]),
        ("unknown policy key", 2, ["policy.yaml", "verdict", "human"]),
        ("unknown runner", 2, ["runner", "'FooRunner'", "FlinkRunner"]),
        ("empty shard", 1, ["none of 1 records gave a document", "empty.warc.gz", "holds no byte"]),
        (
            "no WARC",
            1,
            ["none of 1 records gave a document", "picture.warc.gz", "no record starts here"],
        ),
    ],
)
def test_each_mistake_has_its_own_message(
    crawl: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], case: str, code: int, words: list[str]
) -> None:
    arguments = bad(tmp_path, case, crawl)
    if "--output" not in arguments:
        arguments += ["--output", str(tmp_path / "out")]
    assert main(["run", *arguments, "--workers", "1"]) == code
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("reserve: ")
    for word in words:
        assert word in last
    if code == 2:
        left = {path.name for path in tmp_path.rglob("*") if path.is_file()}
        assert left <= {"job.yaml", "policy.yaml", "out", "thesis.txt"}
    else:
        records = json.loads((tmp_path / "out" / "summary.json").read_text())["records"]
        assert records["in"] == records["rejects"] == 1


def test_a_bad_shard_does_not_stop_the_others(crawl: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty.warc.gz").touch()
    arguments = ["run", "--input", crawl, str(tmp_path / "empty.warc.gz"), "--output", str(tmp_path / "out")]
    assert main(arguments) == 0
    assert "empty.warc.gz: empty_shard" in capsys.readouterr().err
    records = json.loads((tmp_path / "out" / "summary.json").read_text())["records"]
    assert (records["in"], records["rejects"]) == (len(rows()) + 1, 1)


def test_real_and_broken_crawl_files_in_one_job(tmp_path: Path) -> None:
    if not (SHARED / "crawl").is_dir():
        pytest.skip("needs the real crawl files in ../shared")
    patterns = [str(SHARED / "crawl" / "valid" / "*"), str(SHARED / "crawl" / "odd" / "*")]
    result = run(job(patterns[0], tmp_path / "out", input=patterns, workers=2))
    records = result.summary["records"]
    assert records["in"] == sum(n for place, n in records.items() if place != "in")
    shards = {shard for (shard,) in column(tmp_path / "out", (*DOCUMENTS, "duplicates", "rejects"), ["shard"])}
    files = {path.name for pattern in patterns for path in Path(pattern).parent.iterdir()}
    assert {Path(str(shard)).name for shard in shards} == files, (
        "each shard shows in the output, if only by its rejects"
    )


def test_the_layout_of_the_output(undisturbed: Path) -> None:
    expected = {
        "README.md",
        "croissant.json",
        "duplicates",
        "index",
        "provenance.intoto.json",
        "quarantine",
        "rejects",
        "report.html",
        "reserve",
        "review",
        "seal",
        "statistics",
    }
    assert set(os.listdir(undisturbed)) == expected | {"summary.json"}
    tables = {path.name for path in (undisturbed / "statistics").iterdir()}
    assert tables >= {"prevalence.parquet", "diversity.parquet", "signals.parquet", "accounting.parquet"}
    summary = json.loads((undisturbed / "summary.json").read_text())
    assert {"estimate", "low", "high", "level", "method", "methods"} <= set(summary["synthetic_share"])
    assert set(summary["synthetic_share"]["methods"]) == {"rogan-gladen", "likelihood"}
    assert {"records", "synthetic_share", "seal", "job", "versions"} <= set(summary)
