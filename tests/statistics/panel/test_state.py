import argparse
import functools
import hashlib
import inspect
import json
import logging
import random
import subprocess
import tarfile
import unittest
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import datasketches
import numpy as np
import pyarrow as pa
import pytest

from pipelines.neardup.minhash import sign
from pipelines.neardup.options import NearDup
from pipelines.statistics.host_class import host_classes
from pipelines.statistics.panel.embedding import embed
from pipelines.statistics.panel.encode import encode, pack, state_of_row, unpack
from pipelines.statistics.panel.sketches import MAX_THETA, registers_of, sample
from pipelines.statistics.panel.state import (
    EXCERPT_BYTES,
    EXCERPTS,
    GROUPS,
    NO_SIGNATURE,
    SAMPLE,
    WINDOW,
    State,
    empty_state,
    merge_states,
    mixed,
    state_of,
)
from pipelines.statistics.panel.surprisal import BINS, BINS_PER_BIT, languages, surprisal
from pipelines.statistics.panel.tally import PANEL, Cell, PanelRules, merge_panel, states, tally_panel, without_texts
from pipelines.statistics.panel.words import ngram_keys, word_hashes

CUTOFF = datetime(2022, 11, 30, tzinfo=UTC)
RULES = PanelRules(CUTOFF)
OPTIONS = NearDup()
ODD = ["", "one", "a\0b\0", "🎉" * 700, "é" * 600, "line " * 60_000, "\n" * 3000, "我爱北京天安门" * 80]


@functools.cache
def passages(count: int = 400, words: int = 70) -> list[str]:
    """Passages of the documentation of Python's standard library."""
    documented = [inspect.getdoc(found) for module in _MODULES for found in vars(module).values()]
    documented += [
        inspect.getdoc(member)
        for module in _MODULES
        for found in vars(module).values()
        if inspect.isclass(found)
        for member in vars(found).values()
    ]
    text = " ".join(doc for doc in documented if doc).split()
    starts = random.Random(0).sample(range(len(text) - words), count)
    return [" ".join(text[at : at + words]) for at in starts]


_MODULES = (argparse, inspect, json, logging, random, subprocess, tarfile, unittest, np, pa, functools)


def table_of(texts: Sequence[str | None], seed: int = 0, **columns: Sequence[Any]) -> pa.Table:
    """Documents in two languages, on both sides of the cut-off, of three hosts."""
    rng = random.Random(seed)
    count = len(texts)
    column = pa.array(texts, pa.large_string())
    given = {
        "captured_at": [rng.choice([datetime(2020, 2, 3, tzinfo=UTC), None]) for _ in texts],
        "host": [rng.choice(["www.gov.uk", "www.bbc.co.uk", None]) for _ in texts],
        "language": [rng.choice(["en", "en", "de"]) for _ in texts],
        "place": ["reserve"] * count,
    } | columns
    keys = [hashlib.sha256(f"{seed} {i}".encode()).digest()[:16] for i in range(count)]
    return pa.table(
        {
            "doc_id": pa.array(keys, pa.binary(16)),
            "captured_at": pa.array(given["captured_at"], pa.timestamp("us", tz="UTC")),
            **{name: pa.array(given[name], pa.string()) for name in ("host", "language", "place")},
            "text": column,
            "text_sha256": pa.array([hashlib.sha256((t or "").encode()).digest() for t in texts], pa.binary(32)),
            "signature": sign(column, OPTIONS).column(),
        }
    )


def file_of(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def arrays_of(state: State) -> dict[str, Any]:
    return encode(state)


def only(table: pa.Table) -> dict[Cell, State]:
    return dict(states(table))


@functools.cache
def crawl() -> tuple[pa.Table, bytes]:
    """Documents, more than the sketches of the larger slices can hold, and the panel of all in one."""
    texts = [*passages(), *ODD]
    when = [CUTOFF.replace(year=2019) if i % 5 == 0 else None for i in range(len(texts))]
    table = table_of(texts, host=[None] * len(texts), language=["en"] * len(texts), captured_at=when)
    return table, file_of(tally_panel(table, RULES))


def test_the_crawl_fills_the_sketches() -> None:
    found = only(tally_panel(crawl()[0], RULES))
    largest = max(found.values(), key=lambda state: int(state.documents.sum()))
    assert any(int(one.theta) < MAX_THETA for one in largest.samples[3])
    assert any(one.counts.max() > 1 for one in largest.samples[3])
    assert any(int(one.theta) < MAX_THETA for one in largest.samples[1])
    assert any(count > EXCERPTS for count in largest.documents)


@pytest.mark.parametrize("seed", range(100))
def test_any_sharding_in_any_order_of_merging_gives_the_same_bytes(seed: int) -> None:
    table, expected = crawl()
    rng = np.random.default_rng(seed)
    shard = rng.integers(0, rng.integers(2, 4), table.num_rows)
    parts = [
        tally_panel(table.take(pa.array(rng.permutation(np.flatnonzero(shard == i)))), RULES)
        for i in range(shard.max() + 1)
    ]
    while len(parts) > 1:
        together = [parts.pop(int(rng.integers(len(parts)))) for _ in range(int(rng.integers(2, len(parts) + 1)))]
        parts.append(merge_panel(iter(together)))
    assert file_of(parts[0]) == expected


def test_states_of_any_corpus_merge_as_well() -> None:
    texts = passages()
    keys = np.random.default_rng(0).integers(0, 2**64, len(texts), np.uint64)
    whole = arrays_of(state_of(texts, keys))
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(len(texts))
        parts = [state_of([texts[i] for i in at], keys[at]) for at in np.array_split(order, 4)]
        left = merge_states([merge_states(parts[:1]), merge_states(parts[1:])])
        right = merge_states([merge_states([parts[3], parts[0]]), parts[2], empty_state(), parts[1]])
        assert arrays_of(left) == arrays_of(right) == whole


def test_without_keys_the_order_of_the_texts_makes_no_difference() -> None:
    texts = [*passages()[:40], "the same joke", "the same joke", "the same joke"]
    forwards, backwards = state_of(texts), state_of(texts[::-1])
    assert arrays_of(forwards) == arrays_of(backwards)
    assert sum(text == b"the same joke" for one in forwards.excerpts for text in one.texts) == 3


def test_every_field_against_brute_force() -> None:
    texts = [*passages(300), *ODD]
    column = pa.array(texts, pa.large_string())
    keys = np.random.default_rng(1).integers(0, 2**64, len(texts), np.uint64)
    state = state_of(texts, keys)
    words = word_hashes(column)
    for group in range(GROUPS):
        rows = [i for i in range(len(texts)) if int(keys[i]) % GROUPS == group]
        own = [words.take(np.array([i])) for i in rows]
        assert state.documents[group] == len(rows)
        assert state.words[group] == sum(len(one.keys) for one in own)
        assert state.bytes[group] == sum(len(texts[i].encode()) for i in rows)
        spans = [one.keys[at : at + WINDOW].tolist() for one in own for at in range(len(one.keys) - WINDOW + 1)]
        assert state.windows[group] == len(spans)
        assert state.window_types[group] == sum(len(set(span)) for span in spans)
        for order in (1, 3):
            expected = sample(np.concatenate([ngram_keys(one, order).keys for one in own]), SAMPLE)
            found = state.samples[order][group]
            assert found.keys.tolist() == expected.keys.tolist()
            assert found.counts.tolist() == expected.counts.tolist()
            assert found.theta == expected.theta
        assert abs(state.signed[group]).sum() <= state.words[group]
        assert state.signed[group].sum() % 2 == state.words[group] % 2
        drawn = sorted(rows, key=lambda i: int(mixed(keys[i : i + 1])[0]))[:EXCERPTS]
        assert state.excerpts[group].keys.tolist() == mixed(keys[drawn]).tolist()
        assert state.excerpts[group].texts == [
            texts[i].encode()[:EXCERPT_BYTES].decode(errors="ignore").encode() for i in drawn
        ]
        assert (state.excerpts[group].signatures == sign(column.take(pa.array(drawn)), OPTIONS).values).all()
        bits = np.concatenate([surprisal(*one, "en") for one in own])
        expected_bins = Counter(min(int(b * BINS_PER_BIT), BINS - 1) for b in bits if not np.isnan(b))
        assert {int(b): int(state.surprisal[group, b]) for b in np.flatnonzero(state.surprisal[group])} == expected_bins
        vectors = np.concatenate([embed(*one) for one in own]).astype(np.int64)
        assert (state.outer[group] == vectors.T @ vectors).all()
    contents = np.array([int.from_bytes(hashlib.sha256(t.encode()).digest()[:8], "little") for t in texts], np.uint64)
    assert (state.registers["documents"] == registers_of(contents)).all()
    assert (state.registers["trigrams"] == registers_of(ngram_keys(words, 3).keys)).all()


def test_the_signed_sketch_gives_the_second_moment_of_the_words() -> None:
    texts = passages()
    counts = Counter(word_hashes(pa.array(texts, pa.large_string())).keys.tolist())
    state = state_of(texts)
    exact = sum(count**2 for count in counts.values())
    assert (state.signed.sum(axis=0) ** 2).sum() == pytest.approx(exact, rel=4 * (2 / 512) ** 0.5)


def test_documents_of_a_language_with_a_model_have_a_surprisal_and_others_none() -> None:
    assert "en" in languages()
    assert state_of(["plain English words here"], language="en").surprisal.sum() == 1
    assert state_of(["plain English words here"], language="xx").surprisal.sum() == 0
    assert state_of(["…"], language="en").surprisal.sum() == 0


def test_the_state_of_a_crawl_is_that_of_each_slices_documents() -> None:
    table = table_of([*passages(60), *ODD], seed=3)
    found = only(tally_panel(table, RULES))
    rows = table.to_pylist()
    classes = host_classes(table["host"]).to_pylist()
    expected: dict[Cell, list[int]] = {}
    for i, row in enumerate(rows):
        when = row["captured_at"]
        period = "before" if when is not None else "after"
        month = f"{when:%Y-%m}" if when is not None else "unknown"
        expected.setdefault(Cell("month", month, None, row["language"], period), []).append(i)
        expected.setdefault(Cell("host_class", None, classes[i], row["language"], period), []).append(i)
    assert set(found) == set(expected)
    for cell, at in expected.items():
        keys = np.array([int.from_bytes(rows[i]["doc_id"][:8], "little") for i in at], np.uint64)
        direct = state_of([rows[i]["text"] for i in at], keys, cell.language)
        assert arrays_of(direct) == arrays_of(found[cell])


def test_the_cut_off_itself_and_unknown_dates_are_after() -> None:
    moments = [CUTOFF.replace(day=29), CUTOFF, None]
    table = table_of(["a b c", "d e f", "g h i"], captured_at=moments, language=["en"] * 3, host=[None] * 3)
    found = {(c.month, c.period): int(s.documents.sum()) for c, s in states(tally_panel(table, RULES))}
    found.pop((None, "before"))
    assert found.pop((None, "after")) == 2
    assert found == {("2022-11", "before"): 1, ("2022-11", "after"): 1, ("unknown", "after"): 1}


def test_duplicates_and_documents_of_no_known_language_are_left_out() -> None:
    texts = passages(5)
    places = ["reserve", "duplicates", "quarantine", "review", "reserve"]
    table = table_of(texts, place=places, language=["en", "en", "en", None, "und"])
    assert {int(state.documents.sum()) for _, state in states(tally_panel(table, RULES))} <= {1, 2}
    assert sum(int(s.documents.sum()) for c, s in states(tally_panel(table, RULES)) if c.family == "month") == 2


def test_documents_without_a_signature_have_one_that_no_text_has() -> None:
    table = table_of(passages(3), language=["en"] * 3, captured_at=[None] * 3)
    at = table.schema.get_field_index("signature")
    signatures = table["signature"].to_pylist()
    table = table.set_column(at, "signature", pa.array([signatures[0], None, signatures[2]], pa.binary(512)))
    month = next(state for cell, state in states(tally_panel(table, RULES)) if cell.family == "month")
    rows = np.concatenate([one.signatures for one in month.excerpts if len(one.keys)])
    assert (rows == NO_SIGNATURE).all(axis=1).sum() == 1
    assert (rows == NO_SIGNATURE).any(axis=1).sum() == 1


def test_a_column_of_chunks_and_a_slice_are_read_as_they_stand() -> None:
    table = table_of(passages(60))
    chunked = pa.concat_tables([table.slice(0, 7), table.slice(7, 20), table.slice(27)])
    assert file_of(tally_panel(chunked, RULES)) == file_of(tally_panel(table, RULES))
    assert file_of(tally_panel(table.slice(10, 20), RULES)) == file_of(
        tally_panel(table.take(pa.array(range(10, 30))), RULES)
    )


def test_tables_without_documents_and_documents_without_text() -> None:
    empty = tally_panel(table_of([]), RULES)
    assert empty.schema == PANEL
    assert empty.num_rows == 0
    assert merge_panel([]).equals(empty)
    assert merge_panel([empty, empty]).equals(empty)
    duplicates = tally_panel(table_of(["a"], place=["duplicates"]), RULES)
    assert duplicates.equals(empty)
    void = tally_panel(table_of(["", None], language=["en"] * 2, captured_at=[None] * 2, host=[None] * 2), RULES)
    found = next(state for _, state in states(merge_panel([void, empty])))
    assert found.documents.sum() == 2
    assert found.words.sum() == found.bytes.sum() == found.surprisal.sum() == 0


def test_rows_come_in_the_order_of_their_cells_whatever_is_merged_first() -> None:
    table = table_of(passages(12), language=[f"l{i:02d}" for i in range(12)], captured_at=[None] * 12)
    parts = [tally_panel(table.slice(i, 1), RULES) for i in range(12)]
    expected = file_of(tally_panel(table, RULES))
    assert file_of(merge_panel(parts[::-1])) == file_of(merge_panel([*parts[5:], *parts[:5]])) == expected


@pytest.mark.parametrize("character", ["a", "é", "我", "🎉"])
@pytest.mark.parametrize("before", range(4))
def test_an_excerpt_ends_with_a_whole_character(character: str, before: int) -> None:
    text = "x" * before + character * EXCERPT_BYTES
    found = [part for one in state_of([text]).excerpts for part in one.texts]
    assert found == [text.encode()[:EXCERPT_BYTES].decode(errors="ignore").encode()]
    assert EXCERPT_BYTES - 4 < len(found[0]) <= EXCERPT_BYTES


def test_states_of_no_text() -> None:
    assert arrays_of(state_of([])) == arrays_of(empty_state()) == arrays_of(merge_states([]))
    assert arrays_of(merge_states([state_of(ODD), empty_state()])) == arrays_of(state_of(ODD))


def test_excerpts_of_signatures_of_two_widths_do_not_merge() -> None:
    with pytest.raises(ValueError, match="64, 128"):
        merge_states([state_of(["a"]), state_of(["a"], options=NearDup(permutations=64))])


def test_a_key_too_few_is_refused() -> None:
    with pytest.raises(ValueError, match="1 keys for 2 texts"):
        state_of(["a", "b"], np.zeros(1, np.uint64))


def test_two_documents_of_one_key_are_ordered_by_what_they_say() -> None:
    keys = np.zeros(1, np.uint64)
    one, two = state_of(["b"], keys), state_of(["a"], keys)
    merged = merge_states([one, two])
    assert arrays_of(merged) == arrays_of(merge_states([two, one]))
    assert merged.excerpts[0].texts == [b"a", b"b"]
    many = [state_of([f"text {i}"], keys) for i in range(EXCERPTS + 5)]
    assert arrays_of(merge_states(many)) == arrays_of(merge_states([merge_states(many[20:]), *many[19::-1]]))
    direct = state_of([f"text {i}" for i in range(EXCERPTS + 5)][::-1], np.zeros(EXCERPTS + 5, np.uint64))
    assert arrays_of(direct) == arrays_of(merge_states(many))


def test_a_large_state_takes_less_than_a_megabyte_and_a_small_one_little() -> None:
    rng = np.random.default_rng(0)
    vocabulary = np.array([f"word{i}" for i in range(50_000)])
    words = vocabulary[np.minimum(rng.zipf(1.2, 300_000), 50_000) - 1]
    large = state_of([" ".join(part) for part in np.split(words, 1000)])
    bulky = large
    for _ in range(3):
        bulky = merge_states([bulky] * 64)
    assert bulky.outer.max() > 2**32
    assert all(int(one.theta) < MAX_THETA for one in [*large.samples[1], *large.samples[3]])
    assert (
        pa.Table.from_pylist([{"family": "", "language": "", "period": ""} | encode(bulky)], PANEL).nbytes < 1_000_000
    )
    small = pa.Table.from_pylist([{"family": "", "language": "", "period": ""} | encode(state_of(["a b c"]))], PANEL)
    assert small.nbytes < 10_000


@pytest.mark.parametrize("state", [empty_state(), state_of(ODD), state_of(passages())], ids=["none", "odd", "full"])
def test_a_row_says_all_there_is_to_a_state(state: State) -> None:
    row = encode(state)
    table = pa.Table.from_pylist([{"family": "", "language": "", "period": ""} | row], PANEL)
    back = state_of_row(table.to_pylist()[0])
    assert encode(back) == row
    for name in ("documents", "words", "bytes", "window_types", "windows", "signed", "surprisal", "outer"):
        assert getattr(back, name).tolist() == getattr(state, name).tolist()
    for name, registers in state.registers.items():
        assert back.registers[name].tolist() == registers.tolist()
    for one, other in zip(back.excerpts, state.excerpts, strict=True):
        assert one.texts == other.texts
        assert one.signatures.tolist() == other.signatures.tolist()


@pytest.mark.parametrize(
    ("values", "size"),
    [
        ([], 2),
        ([0] * 9, 2),
        ([127, -128], 4),
        ([128, 0, 0, -1], 10),
        ([2**31 - 1, -(2**31)], 10),
        ([2**31], 10),
        ([2**63 - 1, -(2**63)], 18),
        ([0] * 70_000 + [5], 7),
        ([0] * 100 + [-300], 6),
    ],
)
def test_integers_are_packed_into_few_bytes(values: list[int], size: int) -> None:
    array = np.array(values, np.int64)
    assert len(pack(array)) == size
    assert unpack(pack(array), array.shape).tolist() == values


def test_what_is_kept_has_no_text_and_is_read_by_datasketches() -> None:
    table = table_of(passages(120))
    panel = tally_panel(table, RULES)
    kept = without_texts(panel)
    raw = file_of(kept)
    assert not any(text[:20].encode() in raw for text in passages())
    assert any(text[:20].encode() in file_of(panel) for text in passages())
    for (cell, state), (same_cell, other), row in zip(states(panel), states(kept), kept.to_pylist(), strict=True):
        assert cell == same_cell
        row_of = encode(state)
        dropped = {name: value for name, value in encode(other).items() if not name.startswith("excerpt_")}
        assert dropped == {name: row_of[name] for name in dropped}
        assert sum(len(one.keys) for one in other.excerpts) == 0
        joined = datasketches.theta_union(12)
        for image in row["trigrams_theta"]:
            joined.update(datasketches.compact_theta_sketch.deserialize(image))
        texts = [r["text"] for r in table.to_pylist() if _in(r, cell)]
        keys = ngram_keys(word_hashes(pa.array(texts, pa.large_string())), 3).keys
        assert joined.get_result().get_estimate() == pytest.approx(len(set(keys.tolist())), rel=0.1)
        counted = datasketches.hll_sketch.deserialize(row["documents_hll"])
        assert counted.get_estimate() == pytest.approx(len(set(texts)), rel=0.1)
    assert encode(merge_states([other, other])) is not None


def _in(row: dict[str, Any], cell: Cell) -> bool:
    before = row["captured_at"] is not None
    if row["language"] != cell.language or before != (cell.period == "before"):
        return False
    return cell.family == "month" or host_classes(pa.array([row["host"]]))[0].as_py() == cell.host_class
