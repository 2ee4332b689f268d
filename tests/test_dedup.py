"""Near-duplicates of Parquet files by themselves: the list of rows to drop, and what is said where that cannot be."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.cli import main
from pipelines.dedup import SCHEMA
from tests.neardup.support import edited, jaccard, shingles, vocabulary

START = datetime(2020, 1, 1, tzinfo=UTC)


def documents() -> list[dict[str, Any]]:
    rng = random.Random(8)
    words = vocabulary(rng)
    rows: list[dict[str, Any]] = []
    for _ in range(150):
        text = " ".join(rng.choices(words, k=rng.randint(30, 300)))
        rows.append({"body": text, "seen": START + timedelta(days=rng.randrange(900))})
        for edits in rng.choice([(), (), (0,), (1,), (0, 1, 3), (40,)]):
            rows.append({"body": edited(text, rng, edits), "seen": START + timedelta(days=rng.randrange(900))})
    rows += [{"body": None, "seen": None}, {"body": "", "seen": START}, {"body": "!?", "seen": START}]
    rng.shuffle(rows)
    return rows


def write(folder: Path, rows: list[dict[str, Any]], cuts: list[int], **options: Any) -> list[tuple[str, int]]:
    """Writes rows into files and gives the place of each."""
    folder.mkdir()
    places = []
    for number, (begin, end) in enumerate(zip([0, *cuts], [*cuts, len(rows)], strict=True)):
        pq.write_table(pa.Table.from_pylist(rows[begin:end]), folder / f"{number}.parquet", **options)
        places += [(f"{number}.parquet", row) for row in range(end - begin)]
    return places


def dedup(folder: Path, output: Path, *more: str) -> list[dict[str, Any]]:
    assert main(["dedup", f"{folder}/*.parquet", "--output", str(output), "--text", "body", *more]) == 0
    table = pq.read_table(output / "duplicates.parquet")
    assert table.schema.equals(SCHEMA)
    assert [path.name for path in output.iterdir()] == ["duplicates.parquet"]
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


def test_the_list_names_each_copy_and_what_it_is_a_copy_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = documents()
    places = write(tmp_path / "in", rows, [100, 101, 250], row_group_size=40)
    texts = {place: row["body"] or "" for place, row in zip(places, rows, strict=True)}
    sets = {place: set(shingles(text)) for place, text in texts.items()}
    order = {place: i for i, place in enumerate(places)}
    found = dedup(tmp_path / "in", tmp_path / "out")
    assert len(found) > 60
    dropped = {(row["file"], row["row"]) for row in found}
    for row in found:
        copy, kept = (row["file"], row["row"]), (row["kept_file"], row["kept_row"])
        assert kept not in dropped
        assert row["jaccard"] == pytest.approx(jaccard(sets[copy], sets[kept]), abs=1e-6)
        assert row["cluster_size"] == 1 + sum((r["kept_file"], r["kept_row"]) == kept for r in found)
        assert (-len(texts[kept].encode()), order[kept]) <= (-len(texts[copy].encode()), order[copy])
    lost = [
        (a, b)
        for a in places
        for b in places
        if order[a] < order[b] and {a, b}.isdisjoint(dropped) and jaccard(sets[a], sets[b]) >= 0.8
    ]
    assert not lost
    said = capsys.readouterr().out
    assert f"documents   {len(rows):>12,}" in said
    assert f"to drop     {len(found):>12,}" in said


def test_the_earliest_capture_stays_where_there_is_a_time(tmp_path: Path) -> None:
    rows = documents()
    when = dict(zip(write(tmp_path / "in", rows, [200]), (row["seen"] for row in rows), strict=True))
    found = dedup(tmp_path / "in", tmp_path / "out", "--time", "seen")
    never = datetime.max.replace(tzinfo=UTC)
    for row in found:
        kept, copy = when[row["kept_file"], row["kept_row"]], when[row["file"], row["row"]]
        assert (kept or never) <= (copy or never)


@pytest.mark.slow
def test_files_row_groups_and_workers_do_not_matter(tmp_path: Path) -> None:
    rows = documents()

    def pairs(name: str, cuts: list[int], *more: str, **options: Any) -> list[tuple[int, int, float]]:
        at = {place: i for i, place in enumerate(write(tmp_path / name, rows, cuts, **options))}
        found = dedup(tmp_path / name, tmp_path / f"{name}-out", *more)
        return sorted((at[r["file"], r["row"]], at[r["kept_file"], r["kept_row"]], r["jaccard"]) for r in found)

    one = pairs("one", [])
    assert pairs("many", [3, 90, 91, 200, 300], row_group_size=11) == one
    assert pairs("two-workers", [150], "--workers", "2") == one


def test_json_and_large_strings_and_string_times(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in").mkdir()
    table = pa.table(
        {
            "body": pa.array(["the same words in both of these"] * 2, pa.large_string()),
            "seen": ["2021-05-01T00:00:00Z", "2020-05-01"],
        }
    )
    pq.write_table(table, tmp_path / "in" / "a.parquet")
    (row,) = dedup(tmp_path / "in", tmp_path / "out", "--time", "seen", "--json")
    assert (row["row"], row["kept_row"], row["jaccard"]) == (0, 1, 1.0)
    assert json.loads(capsys.readouterr().out) == {
        "path": str(tmp_path / "out" / "duplicates.parquet"),
        "documents": 2,
        "duplicates": 1,
        "clusters": 1,
    }


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--text", "txt"], 2, "--text txt: {folder}/a.parquet has no such column; it has body, n"),
        (["--text", "n"], 2, "--text n: in {folder}/a.parquet this column is int64, not text"),
        (["--text", "body", "--time", "when"], 2, "--time when: {folder}/a.parquet has no such column"),
        (["--text", "body", "--set", "cutoff=2020-01-01"], 2, "only takes keys that begin with 'neardup.'"),
        (["--text", "body", "--set", "neardup.keep=[length, length]"], 2, "a preference is named twice"),
    ],
)
def test_a_wrong_call_is_told_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, says: str
) -> None:
    pq.write_table(pa.table({"body": ["a"], "n": [1]}), tmp_path / "a.parquet")
    output = tmp_path / "out"
    assert main(["dedup", str(tmp_path / "a.parquet"), "--output", str(output), *arguments]) == code
    said = capsys.readouterr().err
    assert says.format(folder=tmp_path) in said
    assert len(said.splitlines()) == 1
    assert not output.exists()


def test_damage_and_an_earlier_list_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole, cut = tmp_path / "whole.parquet", tmp_path / "cut.parquet"
    pq.write_table(pa.table({"text": ["one text"] * 3}), whole)
    cut.write_bytes(whole.read_bytes()[:-20])
    output = tmp_path / "out"
    staged = output / ".work" / "staged"  # of a run that was stopped
    staged.mkdir(parents=True)
    assert main(["dedup", str(whole), str(cut), "--output", str(output)]) == 1
    assert f"reserve: {cut}: cannot be read as Parquet" in capsys.readouterr().err
    assert main(["dedup", str(whole), "--output", str(output)]) == 0
    assert main(["dedup", str(whole), "--output", str(output)]) == 2
    assert "is there already; name another --output, or replace it with --overwrite" in capsys.readouterr().err
    assert main(["dedup", str(whole), "--output", str(output), "--overwrite"]) == 0
    assert staged.exists()
