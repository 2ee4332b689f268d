"""Parquet and JSON Lines, and that the same texts give the same documents in every format."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from io import BytesIO

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from pipelines.ingest.options import Columns, Ingest
from pipelines.ingest.reader import read_shard
from pipelines.records import DOCUMENTS, REJECTS
from tests.ingest.building import Pipe, gz, prose, read, record

WHEN = datetime(2020, 1, 31, 12, 0, 5, tzinfo=UTC)


def parquet(table: pa.Table, **options) -> bytes:
    sink = BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


def jsonl(*rows) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def test_the_same_texts_give_the_same_documents_in_every_format():
    texts = [prose(1), "Größe 漢字 🙂\r\n\ttwo\n", "a\0b nul", "\ufeffwith a mark", "  spaces around  "]
    rows = [
        {"url": f"HTTPS://User@Site{n}.Example.:443/p", "timestamp": "2020-01-31T12:00:05Z", "text": t}
        for n, t in enumerate(texts)
    ]
    wet = b"".join(
        record(row["text"].encode(), n, kind="conversion", content_type="text/plain")
        .replace(f"https://site{n}.example/page".encode(), row["url"].encode())
        .replace(f"2020-01-02T03:04:{n:02d}Z".encode(), b"2020-01-31T12:00:05Z")
        for n, row in enumerate(rows)
    )
    lines = jsonl(*rows)
    shards = {
        "x.wet": wet,
        "x.wet.gz": gz(wet),
        "x.jsonl": lines,
        "x.jsonl.gz": gz(lines),
        "x.jsonl.zst": zstandard.ZstdCompressor().compress(lines),
        "x.parquet": parquet(pa.Table.from_pylist(rows)),
    }
    found = {name: read(data, name) for name, data in shards.items()}
    wanted = [(f"site{n}.example", WHEN, text) for n, text in enumerate(texts)]
    for name, outcome in found.items():
        assert outcome.rejects == [], name
        assert [(row["host"], row["captured_at"]) for row in outcome.documents] == [want[:2] for want in wanted], name
    assert [row["text"] for row in found["x.wet"].documents] == texts
    for key in ("doc_id", "payload_sha256", "text", "url"):
        columns = [[row[key] for row in outcome.documents] for outcome in found.values()]
        assert all(column == columns[0] for column in columns), key


@pytest.mark.parametrize(
    "column",
    [
        pa.array([WHEN], pa.timestamp("ns", "UTC")),
        pa.array([WHEN], pa.timestamp("us", "Europe/Berlin")),
        pa.array([WHEN.replace(tzinfo=None)], pa.timestamp("ms")),
        pa.array([int(WHEN.timestamp())], pa.int64()),
        pa.array([int(WHEN.timestamp())], pa.uint32()),
        pa.array([int(WHEN.timestamp()) * 10**3]),
        pa.array([int(WHEN.timestamp()) * 10**6]),
        pa.array([int(WHEN.timestamp()) * 10**9]),
        pa.array([WHEN.timestamp()], pa.float64()),
        pa.array(["2020-01-31T13:00:05+01:00"]),
        pa.array(["2020-01-31 12:00:05"]),
        pa.array(["20200131120005"]),
        pa.array(["Fri, 31 Jan 2020 12:00:05 GMT"]),
        pa.array(["2020-01-31T12:00:05Z"]).dictionary_encode(),
    ],
    ids=str,
)
def test_capture_times(column):
    found = read(parquet(pa.table({"text": ["a text"], "date": column})))
    assert [row["captured_at"] for row in found.documents] == [WHEN]
    assert found.documents[0]["evidence"] == []


def test_dates_and_times_that_cannot_be_read():
    days = read(parquet(pa.table({"text": ["a"], "date": [date(2020, 1, 31)]})))
    assert days.documents[0]["captured_at"] == datetime(2020, 1, 31, tzinfo=UTC)
    far = pa.array([2**62], pa.timestamp("us"))
    for bad in (pa.array(["yesterday"]), far, pa.array([float("nan")]), pa.array([[1]])):
        found = read(parquet(pa.table({"text": ["a"], "date": bad})))
        assert [row["captured_at"] for row in found.documents] == [None]
    none = read(parquet(pa.table({"text": ["a"], "date": pa.array([None], pa.string())})))
    assert none.documents[0]["evidence"] == []


@pytest.mark.parametrize(
    "kind",
    [pa.string(), pa.large_string(), pa.binary(), pa.large_binary(), pa.dictionary(pa.int32(), pa.string())],
    ids=str,
)
def test_text_columns(kind):
    column = pa.array(["one", None, " ", "two"]).cast(kind)
    found = read(parquet(pa.table({"other": [1, 2, 3, 4], "content": column})))
    assert [(row["text"], row["record_offset"]) for row in found.documents] == [("one", 0), ("two", 3)]
    assert found.losses == [(1, "no_text"), (2, "no_text")]


def test_row_groups_columns_and_options():
    table = pa.table(
        {
            "text": [f"short {n}" for n in range(5000)],
            "body": [prose(n) for n in range(5000)],
            "u": ["http://a.b"] * 5000,
        }
    )
    data = parquet(table, row_group_size=700)
    found = read(data, columns=Columns(text=["nothing", "body"], url="u"), batch_bytes=1)
    assert found.offsets == list(range(5000))
    assert found.documents[4999]["text"] == prose(4999)
    assert found.documents[0]["host"] == "a.b"
    with pytest.raises(ValueError, match="seek"):
        read(Pipe(data), "x.parquet")


def test_a_parquet_shard_without_text_rejects_each_row():
    found = read(parquet(pa.table({"title": ["a"] * 40_000})))
    assert found.reasons == {"missing_column": 40_000}
    assert found.offsets == list(range(40_000))
    assert "title" in found.rejects[0]["detail"]
    numbers = read(parquet(pa.table({"text": [1, 2]})))
    assert numbers.reasons == {"missing_column": 2}


def test_damaged_parquet():
    table = pa.table({"text": [prose(n) for n in range(3000)]})
    data = parquet(table, row_group_size=1000, compression="zstd", write_page_checksum=False)
    assert read(data[: len(data) // 2], "x.parquet").losses == [(0, "truncated")]
    assert read(data[:-30] + bytes(26) + b"PAR1", "x.parquet").reasons == {"damaged": 1}
    start = pq.ParquetFile(BytesIO(data)).metadata.row_group(1).column(0).dictionary_page_offset
    broken = data[:start] + bytes(4000) + data[start + 4000 :]
    found = read(broken, "x.parquet")
    assert found.losses == [(1000, "damaged")]
    assert found.rejects[0]["detail"].startswith("1000 rows of row group 1")
    assert [row["record_offset"] for row in found.documents] == [*range(1000), *range(2000, 3000)]


def test_json_lines_that_give_no_document():
    lines = [
        b'{"text": "good"}',
        b"",
        b"  ",
        b'{"text": "cut',
        b'["no object"]',
        b'{"text": null}',
        b'{"title": "no text"}',
        b'{"text": 5}',
        b'{"text": " "}',
        b"[" * 100_000,
        b'{"text": "' + b"x" * 3000 + b'"}',
        b'{"text": "last"}',
    ]
    data = b"\n".join(lines)
    offsets = [sum(len(line) + 1 for line in lines[:n]) for n in range(len(lines))]
    for shard in (data, gz(data), Pipe(data)):
        found = read(shard, "x.jsonl", maximum_record_bytes=2000)
        assert [(row["text"], row["record_offset"]) for row in found.documents] == [("good", 0), ("last", offsets[11])]
        assert found.losses == [
            (offsets[3], "bad_record"),
            (offsets[4], "bad_record"),
            (offsets[5], "no_text"),
            (offsets[6], "no_text"),
            (offsets[7], "bad_record"),
            (offsets[8], "no_text"),
            (offsets[9], "too_large"),
            (offsets[10], "too_large"),
        ]
    deep = read(b'{"text": "a"}\n' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "x.jsonl")
    assert deep.reasons == {"bad_record": 1}


def test_lone_surrogates_and_bytes_that_are_no_utf8_are_replaced():
    data = b'{"text": "a \\ud800 b \\ud83d\\ude42", "url": "http://h\\udfff/"}\n{"text": "\xff ok"}\n'
    data += b'{"text": 1, "url": "\\ud800"}'
    found = read(data, "x.jsonl")
    assert [row["text"] for row in found.documents] == ["a \ufffd b 🙂", "\ufffd ok"]
    assert found.documents[0]["url"] == "http://h\ufffd/"


def test_damage_in_compressed_json_lines():
    first, second = jsonl(*({"text": prose(n)} for n in range(50))), jsonl(*({"text": prose(n)} for n in range(50, 60)))
    packed = gz(first)
    truncated = read((packed + gz(second))[:-9], "x.jsonl.gz")
    assert truncated.reasons == {"truncated": 1}
    assert len(truncated.documents) >= 50
    broken = bytearray(packed)
    broken[len(packed) // 2 :] = bytes(len(packed) - len(packed) // 2)
    found = read(bytes(broken) + gz(second), "x.jsonl.gz")
    assert set(found.reasons) <= {"damaged", "bad_record"}
    assert found.reasons["damaged"] == 1
    assert [row["text"] for row in found.documents][-10:] == [prose(n) for n in range(50, 60)]
    assert len(set(found.offsets)) == len(found.offsets)


def test_batches_have_the_schemas_and_about_the_size_asked_for():
    data = jsonl(*({"text": prose(n, 100)} for n in range(400)))
    batches = list(read_shard(BytesIO(data), "x.jsonl", Ingest(batch_bytes=20_000)))
    assert len(batches) > 5
    for batch in batches:
        assert batch.documents.schema == DOCUMENTS
        assert batch.rejects.schema == REJECTS
        assert batch.documents.num_rows < 60
        batch.documents.validate(full=True)


@pytest.mark.parametrize(
    ("data", "name", "reason"),
    [
        (b"", "x.warc.gz", "empty_shard"),
        (gz(b""), "x.warc.gz", "empty_shard"),
        (gz(b""), "x.gz", "empty_shard"),
        (gz(b"hello")[:-12] + bytes(12), "x.gz", "damaged"),
        (b"\r\n", "x.warc", "empty_shard"),
        (b"\n \n", "x.jsonl", "empty_shard"),
        (parquet(pa.table({"text": pa.array([], pa.string())})), "x.parquet", "empty_shard"),
        (b"hello", "x.txt", "unsupported"),
        (gz(b"hello"), "x.warc.gz", "unsupported"),
        (b"PK\x03\x04rest", "x.wacz", "unsupported"),
        (b"\x04\x22\x4d\x18rest", "x.warc.lz4", "unsupported"),
        (b"filedesc://a.arc 0.0.0.0 2008 text/plain 76\n", "x.arc", "unsupported"),
        (gz(b"filedesc://a.arc 0.0.0.0 2008 text/plain 76\n"), "x.arc.gz", "unsupported"),
        (b'[{"text": "a"}]', "x.json", "unsupported"),
        (b"hello", "x.warc", "damaged"),
        (b"PAR1", "x.parquet", "damaged"),
    ],
)
def test_shards_of_other_formats(data, name, reason):
    found = read(data, name)
    assert found.reasons == {reason: 1}
    assert found.rejects[0]["shard"] == name
    assert found.rejects[0]["detail"]


def test_the_first_bytes_decide_over_the_name():
    assert len(read(jsonl({"text": "a"}), "x.warc.gz").documents) == 1
    assert len(read(parquet(pa.table({"text": ["a"]})), "x.jsonl").documents) == 1
    assert len(read(gz(jsonl({"text": "a"})), "x.parquet").documents) == 1


def test_options_refuse_what_they_do_not_know():
    assert Columns(text="body").text == ("body",)
    for bad in (
        {"formatt": "warc"},
        {"format": "arc"},
        {"columns": {"txt": "a"}},
        {"minimum_characters": 0},
        {"columns": {"text": []}},
    ):
        with pytest.raises(ValueError, match="validation error"):
            Ingest.model_validate(bad)
