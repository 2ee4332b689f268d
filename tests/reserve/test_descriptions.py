"""What an output says of itself to machines holds for its files, and says no more than the summary."""

import base64
import doctest
import fnmatch
import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.descriptions import rewrite_croissant
from pipelines.errors import UsageError
from pipelines.layout import PLACES
from pipelines.records import DUPLICATES, OUTPUT
from pipelines.reserve import bag, provenance_statement
from pipelines.reserve.card import data_card
from pipelines.reserve.croissant import LISTED, croissant, croissant_bytes
from pipelines.reserve.manifest import FileDigest
from pipelines.reserve.provenance_statement import shard_uri, statement, statement_bytes
from pipelines.versions import code_digest
from tests.reserve.sealed import copy_of

OWN = {"croissant.json", "provenance.intoto.json"}


@pytest.fixture(scope="module")
def summary(sealed_output: Path) -> dict[str, Any]:
    return dict(json.loads((sealed_output / "summary.json").read_text()))


@pytest.fixture(scope="module")
def described(sealed_output: Path) -> dict[str, Any]:
    return dict(json.loads((sealed_output / "croissant.json").read_text()))


@pytest.fixture(scope="module")
def stated(sealed_output: Path) -> dict[str, Any]:
    return dict(json.loads((sealed_output / "provenance.intoto.json").read_text()))


def outside_seal(output: Path) -> dict[str, Path]:
    found = {path.relative_to(output).as_posix(): path for path in output.rglob("*") if path.is_file()}
    return {name: path for name, path in found.items() if not name.startswith("seal/")}


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def nodes(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from nodes(inner)


def test_the_statement_has_the_digest_of_every_file(sealed_output: Path, stated: dict[str, Any]) -> None:
    subjects = {one["name"]: one["digest"]["sha256"] for one in stated["subject"]}
    assert subjects == {name: sha256(path) for name, path in outside_seal(sealed_output).items() if name not in OWN}
    assert list(subjects) == sorted(subjects)


def test_the_statement_is_an_in_toto_statement_with_slsa_provenance(stated: dict[str, Any]) -> None:
    assert stated["_type"] == "https://in-toto.io/Statement/v1"
    assert stated["predicateType"] == "https://slsa.dev/provenance/v1"
    assert set(stated["predicate"]) == {"buildDefinition", "runDetails"}
    definition = stated["predicate"]["buildDefinition"]
    assert set(definition) == {"buildType", "externalParameters", "internalParameters", "resolvedDependencies"}
    for uri in (definition["buildType"], stated["predicate"]["runDetails"]["builder"]["id"]):
        assert urlsplit(uri).scheme
    for dependency in definition["resolvedDependencies"]:
        assert dependency.keys() & {"uri", "digest", "content"}
        assert dependency.keys() <= {"name", "uri", "digest", "content", "mediaType", "annotations"}


def test_the_statement_says_what_the_summary_says(stated: dict[str, Any], summary: dict[str, Any]) -> None:
    definition, job = stated["predicate"]["buildDefinition"], summary["job"]
    assert definition["externalParameters"]["settings"] == job["settings"]
    inside = definition["internalParameters"]
    assert inside == {"job": job["digest"], "code": code_digest(), "versions": summary["versions"]}
    *shards, policy = definition["resolvedDependencies"]
    assert [(one["name"], one["annotations"]["bytes"]) for one in shards] == [
        (one["name"], one["bytes"]) for one in job["inputs"]
    ]
    content = base64.b64decode(policy["content"])
    assert json.loads(content) == job["policy"]
    assert policy["digest"] == {"sha256": hashlib.sha256(content).hexdigest()}


def test_earlier_outputs_detector_and_keys_are_named(summary: dict[str, Any]) -> None:
    job = summary["job"] | {"against": [{"output": "/home/me/out", "digest": "ab" * 32}]}
    marks = {"keys": [{"id": "k1", "key_hash": "cd" * 16}]}
    told = summary | {"job": job, "detector": {"name": "embedded", "digest": "ef" * 32}, "watermarks": marks}
    text = json.dumps(statement(told, "00" * 32, []))
    for digest in ("job:" + "ab" * 32, "watermark-key:" + "cd" * 16, "detector:" + "ef" * 32):
        assert f"urn:human-reserve:{digest}" in text
    assert "/home/me" not in text, "paths of this machine would make two runs differ"


@pytest.mark.parametrize(
    ("name", "uri"),
    [
        ("a/crawl 1.warc.gz", "urn:human-reserve:shard:a/crawl%201.warc.gz"),
        ("s3://bucket/a.warc.gz", "s3://bucket/a.warc.gz"),
        ("https://example.com/a.gz?x=1", "https://example.com/a.gz?x=1"),
        ("Straße#1", "urn:human-reserve:shard:Stra%C3%9Fe%231"),
        ("bad\udcff", "urn:human-reserve:shard:bad%FF"),
    ],
)
def test_shards_as_uris(name: str, uri: str) -> None:
    assert shard_uri(name) == uri


@pytest.mark.parametrize("module", [bag, provenance_statement])
def test_examples_in_the_docs(module: ModuleType) -> None:
    result = doctest.testmod(module)
    assert result.attempted
    assert not result.failed


def test_every_file_is_described_once_and_rightly(sealed_output: Path, described: dict[str, Any]) -> None:
    found = outside_seal(sealed_output)
    assert set(found) >= OWN
    single = {one["contentUrl"]: one for one in described["distribution"] if one["@type"] == "cr:FileObject"}
    sets = [one for one in described["distribution"] if one["@type"] == "cr:FileSet"]
    assert {one["@type"] for one in described["distribution"]} == {"cr:FileObject", "cr:FileSet"}
    for name in set(found) - {"croissant.json"}:
        held = [one["@id"] for one in sets if fnmatch.fnmatch(name, one["includes"])]
        assert len(held) + (name in single) == 1, name
    for name, one in single.items():
        assert (one["sha256"], one["contentSize"]) == (sha256(found[name]), f"{found[name].stat().st_size} B")
    for one in sets:
        sizes = [path.stat().st_size for name, path in found.items() if fnmatch.fnmatch(name, one["includes"])]
        assert one["contentSize"] == f"{sum(sizes)} B"
        assert f"files: {len(sizes)}," in one["description"]


TYPES = {
    "sc:Text": (pa.types.is_string, pa.types.is_large_string),
    "sc:Integer": (pa.types.is_integer,),
    "sc:Float": (pa.types.is_floating,),
    "sc:DateTime": (pa.types.is_timestamp,),
}


@pytest.mark.parametrize("place", [place.value for place in PLACES])
def test_a_field_for_each_column(
    sealed_output: Path, described: dict[str, Any], summary: dict[str, Any], place: str
) -> None:
    (records,) = [one for one in described["recordSet"] if one["@id"] == place]
    schema = pq.read_schema(sealed_output / place / "part-00000.parquet")
    assert [field["name"] for field in records["field"]] == schema.names
    for field, column in zip(records["field"], schema, strict=True):
        assert field["@id"] == f"{place}/{column.name}"
        assert field["description"]
        for leaf, kind in leaves(field, column):
            assert any(is_kind(kind) for is_kind in TYPES[leaf["dataType"]])
            assert leaf["source"]["fileSet"] == {"@id": f"{place}-files"}
            assert leaf["source"]["extract"] == {"column": column.name}
    rows = sum(pq.read_metadata(path).num_rows for path in (sealed_output / place).glob("*.parquet"))
    assert records["annotation"]["value"] == records["annotation"]["cr:value"] == rows == summary["records"][place]


def leaves(field: dict[str, Any], column: pa.Field) -> list[tuple[dict[str, Any], pa.DataType]]:
    if not pa.types.is_list(column.type):
        return [(field, column.type)]
    items = list(column.type.value_type)
    assert field["isArray"]
    assert [sub["source"]["transform"]["jsonPath"] for sub in field["subField"]] == [item.name for item in items]
    return [(sub, item.type) for sub, item in zip(field["subField"], items, strict=True)]


def test_all_columns_of_the_schemas_have_words() -> None:
    made = croissant(SUMMARY, [])
    by_id = {one["@id"]: one for one in made["recordSet"]}
    assert [field["name"] for field in by_id["reserve"]["field"]] == OUTPUT.names
    assert [field["name"] for field in by_id["duplicates"]["field"]] == DUPLICATES.names


def test_a_key_is_only_claimed_where_it_is_one() -> None:
    settings = SUMMARY["job"]["settings"]
    without = settings | {"neardup": settings["neardup"] | {"enabled": False}}
    told = croissant(SUMMARY | {"job": SUMMARY["job"] | {"settings": without}}, [])
    keys = {one["@id"]: one.get("key") for one in croissant(SUMMARY, [])["recordSet"]}
    assert keys["reserve"] == {"@id": "reserve/doc_id"}
    assert keys["duplicates"] is keys["rejects"] is None
    assert not any("key" in one for one in told["recordSet"])


def test_terms_are_of_the_context_and_references_resolve(described: dict[str, Any]) -> None:
    assert described["conformsTo"][0] == "http://mlcommons.org/croissant/1.1"
    context = described.pop("@context")
    schema_org = {"identifier", "license", "contentSize", "contentUrl", "distribution", "encodingFormat", "sha256"}
    schema_org |= {"softwareVersion", "value"}
    ids: list[str] = []
    for node in nodes(described):
        for term in node:
            prefix, colon, _ = term.partition(":")
            assert term[0] == "@" or (prefix in context if colon else term in context or term in schema_org), term
        if "@type" in node and "@id" in node:
            ids.append(node["@id"])
    assert len(ids) == len(set(ids))
    references = [node["@id"] for node in nodes(described) if set(node) == {"@id"}]
    assert references
    assert set(references) <= set(ids)
    described["@context"] = context


def test_neither_says_that_anything_is_human(described: dict[str, Any], stated: dict[str, Any]) -> None:
    words = json.dumps([{k: v for k, v in described.items() if k != "@context"}, stated])
    assert not re.search(r"(?<!-)\bhuman\b(?!-)", words.replace("human-reserve", ""), re.IGNORECASE)


def test_the_description_does_not_grow_with_the_numbers_of_parts_and_shards() -> None:
    def size(shards: int, parts: int) -> int:
        inputs = [{"name": f"crawl-{i}.warc.gz", "bytes": 1000} for i in range(shards)]
        written = [FileDigest(f"reserve/part-{i:05d}.parquet", 1000, "0" * 64) for i in range(parts)]
        return len(croissant_bytes(SUMMARY | {"job": SUMMARY["job"] | {"inputs": inputs}}, written))

    assert abs(size(10 * LISTED, 20_000) - size(LISTED + 1, 10)) < 50
    assert size(LISTED, 10) > size(LISTED + 1, 10)


def test_written_again_it_is_the_same_and_follows_the_files(sealed_output: Path, tmp_path: Path) -> None:
    output = copy_of(sealed_output, tmp_path / "out")
    before = (output / "croissant.json").read_bytes()
    assert rewrite_croissant(str(output)) == str(output / "croissant.json")
    assert (output / "croissant.json").read_bytes() == before
    part = output / "reserve/part-00000.parquet"
    rows = pq.read_table(part)
    pq.write_table(rows.slice(1), part)
    (output / "report.html").write_text("another one")
    described = json.loads(Path(rewrite_croissant(str(output))).read_text())
    test_every_file_is_described_once_and_rightly(output, described)
    (count,) = (one["annotation"]["value"] for one in described["recordSet"] if one["@id"] == "reserve")
    assert count == sum(pq.read_metadata(path).num_rows for path in part.parent.glob("*.parquet"))
    (output / "summary.json").unlink()
    with pytest.raises(UsageError, match="no finished run here"):
        rewrite_croissant(str(output))


def test_the_order_of_the_files_does_not_matter() -> None:
    written = [FileDigest(f"reserve/part-{i:05d}.parquet", i, f"{i:064x}") for i in range(12)]
    written += [FileDigest("README.md", 1, "1" * 64), FileDigest("superseded.parquet", 2, "2" * 64)]
    assert croissant_bytes(SUMMARY, written) == croissant_bytes(SUMMARY, written[::-1])
    assert statement_bytes(SUMMARY, "0" * 64, written) == statement_bytes(SUMMARY, "0" * 64, written[::-1])


def test_the_card_says_what_the_seal_shows_and_what_it_does_not(sealed_output: Path, summary: dict[str, Any]) -> None:
    card = (sealed_output / "README.md").read_text()
    assert summary["seal"]["root"] in card
    assert "origin | `example.com/reserve`" in card
    assert "reserve verify OUT --key" in card
    assert "captured before 2022-11-30 according to the crawl" in card
    assert "This output is not sealed" not in card
    unsealed = data_card(summary | {"seal": None})
    assert "This output is not sealed: nothing in it proves" in unsealed
    assert "## The seal" not in unsealed
    dated = data_card(summary | {"seal": summary["seal"] | {"captured_before": "2024-01-02T03:04:05Z"}})
    assert "according to the crawl | 2024-01-02T03:04:05Z" in dated


@pytest.mark.slow
def test_mlcroissant_validates_it_and_reads_every_row(sealed_output: Path) -> None:
    mlcroissant = pytest.importorskip("mlcroissant")
    data = mlcroissant.Dataset(str(sealed_output / "croissant.json"))
    assert not data.metadata.ctx.issues.errors
    for place in PLACES:
        rows = pq.read_table(sealed_output / place.value).to_pylist()
        found = list(data.records(place.value)) if rows else []
        assert len(found) == len(rows)
        for record, row in zip(found, rows, strict=True):
            assert {name: plain(record[f"{place.value}/{name}"]) for name in row} == row


def plain(value: Any) -> Any:
    """A value of `mlcroissant` as pyarrow gives it: its texts are bytes, its nested names are whole ids."""
    if isinstance(value, list):
        return [{name.rpartition("/")[2]: plain(item) for name, item in one.items()} for one in value]
    return value.decode() if isinstance(value, bytes) else value


SUMMARY: dict[str, Any] = {
    "records": {"in": 9, "reserve": 3, "quarantine": 2, "review": 1, "duplicates": 2, "rejects": 1},
    "verdicts": {"dated": 3, "suspected": 2, "undetermined": 1, "clear": 2},
    "synthetic_share": {"judged": 0, "after_cutoff": 4},
    "detector": None,
    "watermarks": None,
    "repeats": None,
    "seal": None,
    "job": {
        "digest": "a" * 64,
        "inputs": [{"name": "crawl-0.warc.gz", "bytes": 1000}],
        "against": [],
        "settings": {
            "cutoff": "2022-11-30",
            "neardup": {"enabled": True, "threshold": 0.8, "shingle": 5, "verify": "exact", "keep": ["captured_at"]},
        },
        "policy": {"rules": [{"verdict": "clear", "when": {}, "because": "no known signal was found"}]},
    },
    "versions": {"python": "3.11.7", "human-reserve": "0.1.0", "code": "b" * 16},
}
