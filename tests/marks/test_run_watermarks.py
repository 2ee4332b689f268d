"""A registry of ten keys on a crawl with planted marks: what is found, and what no output may hold."""

import gzip
import json
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq
import pytest
import yaml

from pipelines.errors import UsageError
from pipelines.job import load_job
from pipelines.run import run
from tests import crawls
from tests.watermark.marked import VOCABULARY, marked_text, save_tokenizer, unmarked_text
from watermark.registry import load_registry

# Long enough that a number which stands in an output by chance is not one of them.
SECRETS = {
    "kgw-a": 900719925474099153,
    "kgw-b": 712345678901234567,
    "author-a": 912345678912345679,
    "unigram-a": 823456789012345671,
    "unigram-b": 834567890123456719,
    "textseal-a": 812345678901234561,
    "textseal-b": 856789012345671239,
    "bricks-a": 867890123456712349,
}
DEPTH_KEYS = {
    "synthid-a": [845678901234567000 + 7919 * i for i in range(12)],
    "deepmind-a": [765432109876543000 + 104729 * i for i in range(12)],
}
PLANTED = ("kgw-a", "author-a", "unigram-a", "synthid-a", "deepmind-a", "textseal-a", "bricks-a")
VARIANTS = {
    "kgw": ("kgw", "transformers", {}),
    "author": ("kgw", "lm-watermarking", {"seeding": "minhash"}),
    "unigram": ("unigram", "unigram", {}),
    "textseal": ("exponential", "textseal", {"ngram": 2}),
    "bricks": ("exponential", "three-bricks", {"ngram": 2}),
    "synthid": ("synthid", "transformers", {"ngram_len": 3}),
    "deepmind": ("synthid", "deepmind", {"ngram_len": 3}),
}
LONG, SHORT = 5, 20  # documents: long ones of each planted key, short ones of one host
PLACES = ("reserve", "quarantine", "review", "duplicates")


class Marked(NamedTuple):
    crawl: str
    registry: Path
    output: Path


def write_registry(folder: Path) -> Path:
    save_tokenizer(folder)
    entries: list[dict[str, Any]] = []
    for name, key in {**SECRETS, **DEPTH_KEYS}.items():
        scheme, variant, parameters = VARIANTS[name.split("-")[0]]
        numbers = [key] if isinstance(key, int) else key
        (folder / f"{name}.key").write_text(" ".join(map(str, numbers)))
        entry = {"id": name, "scheme": scheme, "variant": variant, "key_file": f"{name}.key"}
        entries.append({**entry, "tokenizer": "tokenizer.json", "vocab_size": VOCABULARY, "parameters": parameters})
    path = folder / "keys.yaml"
    path.write_text(yaml.safe_dump({"keys": entries}))
    return path


def write_crawl(folder: Path, registry: Path) -> str:
    keys = {mark.entry.id: mark.key for mark in load_registry(str(registry)).marks}
    rows = [{**row, "timestamp": "2024-02-01T00:00:00Z"} for row in crawls.rows(120)]
    for name in PLANTED:
        for i in range(LONG):
            text = marked_text(keys[name], 150, seed=i)
            rows.append({"url": f"https://{name}.test/{i}", "text": text, "timestamp": "2024-02-02T00:00:00Z"})
    for i in range(SHORT):
        text = marked_text(keys["kgw-b"], 10, seed=100 + i) + " " + unmarked_text(6, seed=i)
        rows.append({"url": f"https://short.test/news/{i}", "text": text, "timestamp": "2024-02-03T00:00:00Z"})
        rows.append({"url": f"https://plain.test/news/{i}", "text": unmarked_text(16, seed=500 + i)})
    for shard in range(3):
        with gzip.open(folder / f"{shard}.jsonl.gz", "wt") as out:
            out.writelines(json.dumps(row) + "\n" for row in rows[shard::3])
    return str(folder / "*.jsonl.gz")


@pytest.fixture(scope="module")
def marked(tmp_path_factory: pytest.TempPathFactory) -> Marked:
    folder = tmp_path_factory.mktemp("marked")
    registry = write_registry(folder)
    crawl = write_crawl(folder, registry)
    output = folder / "out"
    run_job(crawl, registry, output)
    return Marked(crawl, registry, output)


def run_job(crawl: str, registry: Path, output: Path, **watermarks: Any) -> dict[str, Any]:
    settings = {"input": [crawl], "output": str(output), "workers": 1, "inspect": {"detector": "none"}}
    return run(
        load_job(
            None, {"statistics": {"panel": False}, **settings, "watermarks": {"registry": str(registry), **watermarks}}
        )
    ).summary


def documents(output: Path) -> list[dict[str, Any]]:
    return [
        {**row, "place": place}
        for place in PLACES[:3]
        for part in sorted((output / place).glob("*.parquet"))
        for row in pq.read_table(part).to_pylist()
    ]


def kinds(row: dict[str, Any]) -> list[str]:
    return [item["kind"] for item in row["evidence"] if item["source"] == "watermark"]


def test_every_planted_page_is_found_under_its_own_key(marked: Marked) -> None:
    found = [row for row in documents(marked.output) if row["host"].removesuffix(".test") in PLANTED]
    assert len(found) == LONG * len(PLANTED)
    for row in found:
        (item,) = (item for item in row["evidence"] if item["source"] == "watermark")
        assert (row["verdict"], row["place"], item["kind"]) == ("marked", "quarantine", "watermark"), row["host"]
        assert item["detail"].startswith(f"key {row['host'].removesuffix('.test')} (")
        assert item["p_value"] < 1e-6


def test_pages_of_people_carry_no_mark(marked: Marked) -> None:
    people = [row for row in documents(marked.output) if not row["host"].endswith(".test")]
    assert len(people) > 80
    assert all(row["verdict"] != "marked" and kinds(row) in ([], ["watermark_tested"]) for row in people)
    assert any(kinds(row) for row in people)


def test_short_documents_of_one_host_add_up(marked: Marked) -> None:
    rows = [row for row in documents(marked.output) if row["host"] == "short.test"]
    assert len(rows) == SHORT
    assert {kind for row in rows for kind in kinds(row)} <= {"watermark", "watermark_site"}
    assert sum(row["verdict"] == "marked" for row in rows) >= SHORT / 2
    assert all(row["place"] == "review" for row in rows if kinds(row) == ["watermark_site"])
    assert all(item["p_value"] > 1e-9 for row in rows for item in row["evidence"] if item["source"] == "watermark")
    plain = [row for row in documents(marked.output) if row["host"] == "plain.test"]
    assert len(plain) == SHORT
    assert not any(kinds(row) for row in plain)
    (site,) = (
        pq.read_table(marked.output / "statistics" / "watermark_sites.parquet")
        .filter(
            pq.read_table(marked.output / "statistics" / "watermark_sites.parquet")["host"].to_numpy() == "short.test"
        )
        .to_pylist()
    )
    assert (site["key"], site["documents"]) == ("kgw-b", SHORT)


def test_the_summary_counts_what_was_tested_and_found(marked: Marked) -> None:
    summary = json.loads((marked.output / "summary.json").read_text())["watermarks"]
    table = {row["key"]: row for row in pq.read_table(marked.output / "statistics" / "watermarks.parquet").to_pylist()}
    rows = [row for row in documents(marked.output) if "watermark" in kinds(row)]
    assert summary["documents_found"] == len(rows) == sum(row["found"] for row in table.values())
    assert [key["id"] for key in summary["keys"]] == list(table)
    assert all(table[name]["found"] == LONG for name in PLANTED)
    assert table["kgw-b"]["sites"] == 1
    assert "Watermarks" in (marked.output / "report.html").read_text()


def test_no_key_stands_in_any_output_file(marked: Marked) -> None:
    secrets = [str(key) for key in SECRETS.values()] + [str(key) for keys in DEPTH_KEYS.values() for key in keys]
    files = [path for path in marked.output.rglob("*") if path.is_file()]
    assert any(path.suffix == ".parquet" for path in files)
    for path in files:
        # Parquet packs its values: what a reader sees is looked through as well as the bytes.
        seen = path.read_bytes().decode("latin-1")
        if path.suffix == ".parquet":
            table = pq.read_table(path)
            seen += str(table.to_pylist()) + str(table.schema)
        assert not [secret for secret in secrets if secret in seen], path


@pytest.mark.slow
def test_the_same_bytes_for_any_number_of_workers(marked: Marked, tmp_path: Path) -> None:
    settings = {"input": [marked.crawl], "output": str(tmp_path / "out"), "workers": 2, "inspect": {"detector": "none"}}
    run(load_job(None, {"statistics": {"panel": False}, **settings, "watermarks": {"registry": str(marked.registry)}}))
    assert crawls.digests(tmp_path / "out") == crawls.digests(marked.output)


@pytest.mark.slow
def test_without_sites_only_documents_are_found_and_keys_are_not_said_on_the_way(
    marked: Marked, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    summary = run_job(marked.crawl, marked.registry, tmp_path / "out", sites=False)
    said = "".join(capfd.readouterr())
    assert "marks" in said
    assert not [key for key in SECRETS.values() if str(key) in said]
    assert summary["watermarks"]["sites_tested"] == 0
    assert summary["watermarks"]["documents_found"] == LONG * len(PLANTED)


def test_another_key_or_level_is_another_job(marked: Marked) -> None:
    with pytest.raises(UsageError, match="finished run of another job"):
        run_job(marked.crawl, marked.registry, marked.output, level=0.05)


def test_a_registry_that_cannot_be_used_is_named_before_anything_is_read(marked: Marked, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"watermarks.registry: .*nothing.yaml: the registry cannot be read"):
        run_job(marked.crawl, tmp_path / "nothing.yaml", tmp_path / "out")
    assert not (tmp_path / "out").exists()
