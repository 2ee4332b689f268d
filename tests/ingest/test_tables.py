"""Parquet and JSON Lines, and that the same texts give the same documents in every format."""

from __future__ import annotations

import json
import random
from datetime import UTC, date, datetime
from decimal import Decimal
from io import BytesIO

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from pipelines.ingest.batches import BatchBuilder
from pipelines.ingest.jsonl import read_jsonl
from pipelines.ingest.options import Columns, Ingest
from pipelines.ingest.parquet import read_parquet
from pipelines.ingest.reader import read_shard
from pipelines.ingest.streams import Piece
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
        {"format": "zip"},
        {"columns": {"txt": "a"}},
        {"minimum_characters": 0},
        {"columns": {"text": []}},
    ):
        with pytest.raises(ValueError, match="validation error"):
            Ingest.model_validate(bad)


def test_columns_and_keys_in_structs():
    rows = [
        {"content": {"body": "one", "meta": {"a.b": "http://a.example/"}}, "t": {"at": "2020-01-31T12:00:05Z"}},
        {"content": {"body": None, "meta": None}, "t": None},
        {"content": None, "t": {"at": None}},
    ]
    columns = Columns(text=["no.such", "content.body"], url="content.meta.a.b", captured_at="t.at")
    for shard in (parquet(pa.Table.from_pylist(rows)), jsonl(*rows)):
        found = read(shard, columns=columns)
        (document,) = found.documents
        assert (document["text"], document["url"], document["captured_at"]) == ("one", "http://a.example/", WHEN)
        assert found.reasons == {"no_text": 2}
    literal = [{"content": {"body": "in the struct"}, "content.body": "of its own"}]
    for shard in (parquet(pa.Table.from_pylist(literal)), jsonl(*literal)):
        assert [row["text"] for row in read(shard, columns=columns).documents] == ["of its own"]
    whole = read(parquet(pa.Table.from_pylist(rows)), columns=Columns(text="content"))
    assert whole.reasons == {"missing_column": 3}
    assert "content.body" in whole.rejects[0]["detail"]


def test_a_list_of_paragraphs_is_a_text_of_lines():
    rows = [{"text": ["one", None, "two"]}, {"text": []}, {"text": None}]
    for shard in (parquet(pa.Table.from_pylist(rows)), jsonl(*rows)):
        found = read(shard)
        assert [row["text"] for row in found.documents] == ["one\ntwo"]
        assert found.reasons == {"no_text": 2}
    nested = parquet(pa.Table.from_pylist([{"text": [{"a": "b"}]}]))
    assert read(nested).reasons == {"missing_column": 1}


@pytest.mark.parametrize(
    ("column", "wanted"),
    [
        (pa.array([-1, None], pa.timestamp("ns")), "1969-12-31T23:59:59.999999"),
        (pa.array([-1], pa.timestamp("ms", "Asia/Tokyo")), "1969-12-31T23:59:59.999000"),
        (pa.array([253_402_300_799], pa.timestamp("s")), "9999-12-31T23:59:59"),
        (pa.array([253_402_300_800], pa.timestamp("s")), None),
        (pa.array([2**50, 0], pa.timestamp("s")), None),
        (pa.array([-(2**62)], pa.timestamp("ms")), None),
        (pa.array([-1], pa.date32()), "1969-12-31T00:00:00"),
        (pa.array([2**31 - 1], pa.int32()).cast(pa.date32()), None),
        (pa.array([86_400_000], pa.int64()).cast(pa.date64()), "1970-01-02T00:00:00"),
        (pa.array([Decimal("1580472005.500")], pa.decimal128(20, 3)), "2020-01-31T12:00:05.500000"),
        (pa.array([Decimal("1580472005000000000")], pa.decimal256(40, 0)), "2020-01-31T12:00:05"),
        (pa.array([b"2020-01-31T12:00:05Z"]), "2020-01-31T12:00:05"),
        (pa.array(["20200131120005123"]), "2020-01-31T12:00:05.123000"),
        (pa.array(["2020/01/31 12:00:05"]), "2020-01-31T12:00:05"),
        (pa.array(["2020-01-31T12:00:05.123456789+00:00"]), "2020-01-31T12:00:05.123456"),
        (pa.array([True]), None),
        (pa.array([5], pa.duration("s")), None),
    ],
    ids=str,
)
def test_odd_times(column, wanted):
    found = read(parquet(pa.table({"text": ["a"] * len(column), "date": column})))
    assert found.rejects == []
    when = found.documents[0]["captured_at"]
    assert (when and when.replace(tzinfo=None).isoformat()) == wanted
    assert bool(found.documents[0]["evidence"]) == (wanted is None)


def test_int96_and_view_columns():
    table = pa.table({"text": pa.array(["one"]).cast(pa.string_view()), "date": pa.array([WHEN], pa.timestamp("us"))})
    found = read(parquet(table, use_deprecated_int96_timestamps=True))
    assert [(row["text"], row["captured_at"]) for row in found.documents] == [("one", WHEN)]


def test_lines_with_odd_json():
    lines = [
        b'\xef\xbb\xbf{"text": "first"}\r',
        b'{"text": "a", "text": "last key wins", "x": NaN, "y": -Infinity}',
        b'{"text": "a"}{"text": "b"}',
        b'[{"text": "a"}]',
        bytes(20),
        b'{"text": "a", "n": ' + b"9" * 5000 + b"}",
        b'{"text": "big", "timestamp": ' + b"9" * 400 + b"}",
        b'{"text": "bad",}',
    ]
    found = read(b"\n".join(lines), "x.jsonl")
    assert [row["text"] for row in found.documents] == ["first", "last key wins", "big"]
    details = [row["detail"] for row in found.rejects]
    assert found.reasons == {"bad_record": 5}
    assert details[0] == "Extra data at character 13 of the line"
    assert details[1] == "a list, not an object"
    assert details[2] == "Expecting value at character 0 of the line"


def rows_of(batch, batches):
    parts = [*batches, batch.take()]
    return [pa.Table.from_batches([part[side] for part in parts]).combine_chunks() for side in (0, 1)]


def spans(draw, size, step):
    places = sorted({0, *(draw.randrange(size) for _ in range(size // step))})
    return list(zip(places, [*places[1:], None], strict=True))


@pytest.mark.parametrize("step", [1, 7, 100, 5000])
def test_ranges_of_json_lines_give_what_the_whole_gives(step):
    draw = random.Random(step)
    lines = [json.dumps({"text": prose(n, draw.randrange(1, 9))}) for n in range(60)]
    data = ("\n".join([*lines[:20], "", "  ", "{bad", *lines[20:], '{"text": "no line feed at the end"}'])).encode()

    def part(begin, end, batch):
        start = max(begin - 1, 0)
        sliced = [data[at : at + 50] for at in range(start, len(data), 50)]
        pieces = (
            Piece(piece, start + 50 * n, start + 50 * n + len(piece), True, True) for n, piece in enumerate(sliced)
        )
        return list(read_jsonl(pieces, Ingest(), batch, begin, end))

    whole = BatchBuilder("x", 1 << 20)
    batches = part(0, None, whole)
    wanted = rows_of(whole, batches)
    bounds = [(at, at + 1) for at in range(len(data))] if step == 1 else spans(draw, len(data), step)
    ranged = BatchBuilder("x", 1 << 20)
    batches = [full for begin, end in bounds for full in part(begin, end, ranged)]
    assert rows_of(ranged, batches) == wanted
    assert wanted[0].num_rows == 61


@pytest.mark.parametrize("step", [1, 50, 1000, 20_000])
def test_ranges_of_parquet_give_what_the_whole_gives(step):
    draw = random.Random(step)
    table = pa.table({"x": range(300), "text": [prose(n, 30) for n in range(300)]})
    for options in ({}, {"use_dictionary": False, "compression": "zstd"}):
        data = parquet(table, row_group_size=40, **options)
        whole = BatchBuilder("x", 5000)
        wanted = rows_of(whole, list(read_parquet(BytesIO(data), Ingest(), whole)))
        if step == 1:
            metadata = pq.ParquetFile(BytesIO(data)).metadata
            first = [metadata.row_group(n).column(0) for n in range(metadata.num_row_groups)]
            starts = {c.dictionary_page_offset or c.data_page_offset for c in first}
            places = sorted({0, *(start + by for start in starts for by in (-1, 0, 1))})
            bounds = list(zip(places, [*places[1:], None], strict=True))
        else:
            bounds = spans(draw, len(data), step)
        ranged = BatchBuilder("x", 5000)
        batches = [f for begin, end in bounds for f in read_parquet(BytesIO(data), Ingest(), ranged, begin, end)]
        assert rows_of(ranged, batches) == wanted
        assert wanted[0].num_rows == 300


def test_what_concerns_the_whole_parquet_file_is_told_once():
    missing = parquet(pa.table({"title": ["a"] * 10}))
    cut = parquet(pa.table({"text": ["a"] * 10}))[:-9]
    for data, rejects in ((missing, 10), (cut, 1)):
        batch = BatchBuilder("x", 1 << 20)
        for begin, end in ((0, 5), (5, 50), (50, None)):
            list(read_parquet(BytesIO(data), Ingest(), batch, begin, end))
        assert batch.take().rejects.num_rows == rejects


def test_an_encrypted_parquet_file_is_unsupported():
    data = parquet(pa.table({"text": ["a"]}))
    batch = BatchBuilder("x", 1 << 20)
    list(read_parquet(BytesIO(data[:-4] + b"PARE"), Ingest(), batch))
    (row,) = batch.take().rejects.to_pylist()
    assert (row["reason"], "encrypted" in row["detail"]) == ("unsupported", True)
