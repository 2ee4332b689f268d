"""`reserve compare`: repeated samples of a model against those of people, and two corpora side by side."""

import argparse
import gzip
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks import joke_test
from pipelines.cli import _command
from pipelines.cli_compare import add_compare
from pipelines.compare import compare_corpora
from pipelines.compare_samples import Columns, Settings, compare_samples
from pipelines.compare_text import render_corpora, render_samples
from pipelines.errors import JobError, UsageError
from tests.crawls import SHARED, rows

YELP = SHARED / "text" / "biscope.parquet"


def reserve(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    add_compare(parser.add_subparsers(), _command)
    options = parser.parse_args(["compare", *arguments])
    code: int = options.do(options)
    return code


def write(path: Path, samples: Sequence[str], prompt: str | None = "why") -> str:
    named = {} if prompt is None else {"prompt": prompt}
    path.write_text("".join(json.dumps({**named, "answer": text}) + "\n" for text in samples))
    return str(path)


def different(size: int, seed: int = 0) -> list[str]:
    random = np.random.default_rng(seed)
    return [" ".join(f"w{k}" for k in random.integers(0, 10**6, 12)) for _ in range(size)]


def compared(samples: Sequence[str], reference: str | None = None, columns: Columns = Columns()) -> dict:  # noqa: B008
    return compare_samples(samples, reference, columns, Settings())


class TestJokes:
    """People, a model of 25 jokes and one of 3 have intervals that do not overlap, and that hold the truth."""

    def told_apart(self, tmp_path: Path, people: list[str]) -> None:
        model = write(tmp_path / "model.jsonl", joke_test.model_like())
        three = write(tmp_path / "three.jsonl", joke_test.collapsed())
        result = compared([three, model], write(tmp_path / "people.jsonl", people))
        collapsed, like, human = (source["effective"]["2"] for source in result["sources"])
        truth = joke_test.truth()
        assert collapsed["low"] <= truth["collapsed"] <= collapsed["high"] < like["low"]
        assert like["low"] <= truth["model_like"] <= like["high"] < human["low"]
        for order in "012":
            three_at, model_at, human_at = (source["at_size"][order] for source in result["sources"])
            assert three_at["high"] < model_at["low"] <= model_at["high"] < human_at["low"]
        assert [source["answers"] for source in result["sources"][:1]] == [3]
        for source in result["sources"][:2]:
            assert source["against_reference"]["ratio"]["high"] < 0.01
            assert source["against_reference"]["p_value"] < 1e-8
        assert "at least" in render_samples(result)

    def test_against_answers_that_are_all_different(self, tmp_path: Path) -> None:
        self.told_apart(tmp_path, different(600))

    @pytest.mark.skipif(not YELP.exists(), reason="the text sets are not here")
    def test_against_reviews_by_people(self, tmp_path: Path) -> None:
        self.told_apart(tmp_path, joke_test.people_of(str(YELP), "yelp", 600))


class TestSamples:
    def test_every_format_gives_the_same(self, tmp_path: Path) -> None:
        texts = ["yes", "no, never", "Yes!", "perhaps"]
        table = pa.table({"question": ["why"] * 4, "response": texts})
        pq.write_table(table, tmp_path / "a.parquet")
        lines = "".join(json.dumps(row) + "\n" for row in table.to_pylist())
        (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
        (tmp_path / "c.csv").write_text('question,response\nwhy,yes\nwhy,"no, never"\nwhy,Yes!\nwhy,perhaps\n')
        (tmp_path / "d.txt").write_text("\n".join(texts))
        (tmp_path / "e.jsonl").write_text(json.dumps({"question": "why", "responses": texts}) + "\n")
        (tmp_path / "f.json").write_text("".join(json.dumps(text) + "\n" for text in texts))
        found = [compared([str(path)])["sources"][0] for path in sorted(tmp_path.iterdir())]
        assert len(found) == 6
        for each in found:
            each.pop("name")
            for row in each["most_frequent"]:
                row.pop("prompt")
        assert all(each == found[0] for each in found)
        assert found[0]["answers"] == 3

    def test_prompts_that_both_have_are_compared(self, tmp_path: Path) -> None:
        a, b = tmp_path / "a.csv", tmp_path / "b.csv"
        a.write_text("prompt,text\n" + "".join(f"{p},{t}\n" for p in "xyz" for t in ("one", "two", "one")))
        b.write_text("prompt,text\n" + "".join(f"{p},{t}\n" for p in "yzv" for t in ("one", "two", "six")) + "x,one\n")
        result = compared([str(a)], str(b))
        assert result["prompt_names"] == ["y", "z"]
        notes = " ".join(result["notes"])
        assert "a.csv: 1 of 3 prompts are not in all files" in notes
        assert "b.csv: 1 prompts with a single sample" in notes
        assert "b.csv: 1 of 3 prompts" in notes

    def test_one_prompt_in_other_words_is_compared_and_said(self, tmp_path: Path) -> None:
        a = write(tmp_path / "a.jsonl", ["one", "two"])
        b = write(tmp_path / "b.jsonl", ["one", "two"], "for what reason")
        assert "differ in wording" in compared([a], b)["notes"][0]

    def test_files_of_one_name_keep_their_folders(self, tmp_path: Path) -> None:
        paths = []
        for folder in ("a", "b"):
            (tmp_path / folder).mkdir()
            paths.append(write(tmp_path / folder / "x.jsonl", ["one", "two"]))
        assert [source["name"] for source in compared(paths)["sources"]] == paths

    def test_sizes_are_those_of_the_smaller_file(self, tmp_path: Path) -> None:
        result = compared([write(tmp_path / "a.jsonl", different(50))], write(tmp_path / "b.jsonl", different(20, 1)))
        assert result["compared_at"] == {"smallest": 20, "largest": 20}
        assert result["sources"][0]["at_size"]["0"]["value"] == pytest.approx(20)
        assert "no difference shown" in render_samples(result)

    def test_a_model_of_more_answers_than_the_reference(self, tmp_path: Path) -> None:
        few = write(tmp_path / "few.jsonl", [f"{i % 3}" for i in range(300)])
        some = write(tmp_path / "some.jsonl", [f"{i % 12}" for i in range(300)])
        assert "times as many; p < 1e-8" in render_samples(compared([some], few))
        assert "one for each 4." in render_samples(compared([few], some))

    def test_at_equal_coverage(self, tmp_path: Path) -> None:
        few = write(tmp_path / "few.jsonl", [f"{i % 3}" for i in range(300)])
        some = write(tmp_path / "some.jsonl", [f"{i % 40}" for i in range(300)])
        told = compared([few], some)["sources"][0]["against_reference"]["at_coverage"]
        assert told["source"]["samples"] < told["reference"]["samples"]
        assert told["coverage"] > 0.95
        assert compared([few], write(tmp_path / "all.jsonl", different(99)))["sources"][0]["against_reference"][
            "at_coverage"
        ] is None  # fmt: skip

    def test_control_characters_are_not_printed(self, tmp_path: Path) -> None:
        text = render_samples(compared([write(tmp_path / "a.jsonl", ["\x1b[31mred", "\x1b[31mred"])]))
        assert "\x1b" not in text

    def test_near_answers_are_others_by_exact_words(self, tmp_path: Path) -> None:
        joke = "why did the old bicycle fall over in the yard it was two tired"
        path = write(tmp_path / "a.jsonl", [joke, joke.replace("yard", "garden")])
        assert compared([path])["sources"][0]["answers"] == 1
        assert compare_samples([path], None, Columns(), Settings(near=False))["sources"][0]["answers"] == 2


class TestWrongSamples:
    def refused(self, path: str, error: type[Exception], words: str, columns: Columns = Columns()) -> None:  # noqa: B008
        with pytest.raises(error, match=words):
            compared([path], None, columns)

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            ("", "is empty"),
            ('{"answer": "x"}\n', "no prompt has two samples or more .prompts: 1, samples: 1"),
            ('{"answer": " "}\n', "no sample with any text"),
            ('{"answer": "x"}\n{bad\n', "line 2 is not JSON"),
            ("[1]\n", "line 1 is a JSON list"),
            ('{"answer": 3}\n', "line 1: 'answer' holds int"),
            ('{"answer": "x"}\n{"other": "x"}\n', "line 2 has no 'answer'; it has 'other'"),
        ],
    )
    def test_content(self, tmp_path: Path, content: str, words: str) -> None:
        path = tmp_path / "a.jsonl"
        path.write_text(content)
        self.refused(str(path), JobError, words)

    def test_columns(self, tmp_path: Path) -> None:
        path = tmp_path / "a.jsonl"
        path.write_text('{"q": "why", "said": "x"}\n')
        self.refused(str(path), UsageError, "name one of q, said with --text")
        self.refused(str(path), UsageError, "--text nope: .* it has q, said", Columns("nope"))
        self.refused(str(path), UsageError, "--prompt nope: .* it has q, said", Columns("said", "nope"))

    def test_columns_of_several_names(self, tmp_path: Path) -> None:
        a, b = tmp_path / "a.csv", tmp_path / "b.csv"
        a.write_text("said\nx\ny\n")
        b.write_text("told\nx\ny\n")
        assert compared([str(a)], str(b), Columns("said,told"))["prompts"] == 1

    def test_files(self, tmp_path: Path) -> None:
        (tmp_path / "a.txt").write_bytes(b"abc\xff\n")
        (tmp_path / "a.parquet").write_bytes(b"no parquet")
        (tmp_path / "a.jsonl.gz").write_bytes(b"no gzip")
        self.refused(str(tmp_path / "a.txt"), JobError, "byte 3 is not UTF-8")
        self.refused(str(tmp_path / "none.txt"), JobError, "cannot be read")
        self.refused(str(tmp_path / "a.parquet"), JobError, "cannot be read")
        self.refused(str(tmp_path / "a.jsonl.gz"), JobError, "cannot be read")

    def test_no_common_prompt(self, tmp_path: Path) -> None:
        a, b = tmp_path / "a.csv", tmp_path / "b.csv"
        a.write_text("prompt,text\nx,one\nx,two\ny,one\ny,two\n")
        b.write_text("prompt,text\nv,one\nv,two\n")
        with pytest.raises(UsageError, match="no prompt is in all files"):
            compared([str(a)], str(b))
        with pytest.raises(UsageError, match="named twice"):
            compared([str(a)], str(a))


class TestCommand:
    def test_text_json_and_files(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        path = write(tmp_path / "a.jsonl", ["yes", "no", "yes", "yes"])
        assert reserve("--samples", path, "--output", str(tmp_path / "out"), "--json") == 0
        printed = json.loads(capsys.readouterr().out)
        assert printed == json.loads((tmp_path / "out" / "compare.json").read_text())
        assert printed["sources"][0]["effective"]["0"]["high"] is None
        assert "different answers." in (tmp_path / "out" / "compare.txt").read_text()

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            ((), "two corpora"),
            (("a", "b", "c"), "corpora given: 3"),
            (("a", "b", "--exact"), "--exact: only goes with --samples"),
            (("a", "--samples", "b"), "name every file behind it"),
            (("--samples", "b", "--language", "de"), "--language: is for corpora"),
            (("a", "b", "--level", "1.5"), "--level 1.5"),
        ],
    )
    def test_wrong_calls(self, arguments: Sequence[str], words: str) -> None:
        with pytest.raises(UsageError, match=words):
            reserve(*arguments)


def write_corpus(path: Path, texts: Sequence[str]) -> str:
    urls = [f"http://{path.stem}.example/{number}" for number in range(len(texts))]
    pq.write_table(pa.table({"text": list(texts), "url": urls}), path)
    return str(path)


@pytest.fixture(scope="module")
def english() -> list[str]:
    texts = [row["text"] for row in rows()]
    pieces = [text[at : at + 500] for text in texts for at in range(0, len(text), 500)]
    assert len(pieces) > 700
    return [piece for piece in pieces if len(piece) > 300][:700]


class TestCorpora:
    def test_a_narrowed_corpus_is_told_from_its_source(self, tmp_path: Path, english: list[str]) -> None:
        half = len(english) // 2
        assert half >= 256
        a = write_corpus(tmp_path / "a.parquet", [*english[:40]] * (half // 40))
        b = write_corpus(tmp_path / "b.parquet", english[half:])
        result = compare_corpora(a, b)
        found = {row["measure"]: row for row in result["measures"]}
        assert not found["distinct_documents"]["value"] > 0.5
        for name in ("distinct_trigrams", "distinct_documents", "compression_ratio"):
            assert found[name]["worse_than_reference"], name
        assert "A is worse than B" in render_corpora(result)
        json.dumps(result, allow_nan=False)

    def test_halves_of_one_corpus_differ_by_little(self, tmp_path: Path, english: list[str]) -> None:
        order = np.random.default_rng(4).permutation(len(english))
        sides = [[english[i] for i in order[k::2]] for k in range(2)]
        paths = [write_corpus(tmp_path / f"{k}.parquet", side) for k, side in enumerate(sides)]
        result = compare_corpora(*paths)
        assert not any(row["worse_than_reference"] for row in result["measures"])
        assert sum(corpus["documents_read"] for corpus in result["corpora"]) == len(english)
        assert "A is worse than B by none" in render_corpora(result)

    def test_packs_make_no_difference(
        self, tmp_path: Path, english: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for number in range(3):
            write_corpus(tmp_path / f"a{number}.parquet", english[number * 100 : number * 100 + 100])
        a, b = str(tmp_path / "a*.parquet"), write_corpus(tmp_path / "b.parquet", english[300:])
        whole = compare_corpora(a, b)
        assert whole["corpora"][0]["documents_read"] == 300
        monkeypatch.setattr("pipelines.compare._PACK", 1)
        batches: Callable[..., object] = compare_corpora
        assert batches(a, b) == whole

    def test_few_documents_are_said(self, tmp_path: Path, english: list[str]) -> None:
        a, b = write_corpus(tmp_path / "a.parquet", english[:50]), write_corpus(tmp_path / "b.parquet", english[50:])
        result = compare_corpora(a, b)
        assert result["too_few"] == [a]
        assert "too few" in render_corpora(result)
        assert not any(row["worse_than_reference"] for row in result["measures"])

    def test_a_finished_run_is_its_reserve(self, tmp_path: Path, english: list[str]) -> None:
        out = tmp_path / "out"
        (out / "reserve").mkdir(parents=True)
        (out / "summary.json").write_text("{}")
        half = len(english) // 2
        table = pa.table(
            {
                "doc_id": [f"{n:032x}" for n in range(half)],
                "language": ["en"] * (half - 1) + [None],
                "text": english[:half],
            }
        )
        pq.write_table(table, out / "reserve" / "part-00000.parquet")
        result = compare_corpora(str(out), write_corpus(tmp_path / "b.parquet", english[half:]))
        assert result["corpora"][0]["kind"] == "reserve"
        assert (result["corpora"][0]["documents"], result["corpora"][0]["documents_read"]) == (half - 1, half)
        assert all(row["value"] is None or math.isfinite(row["value"]) for row in result["measures"])

    def test_what_is_no_corpus(self, tmp_path: Path, english: list[str]) -> None:
        b = write_corpus(tmp_path / "b.parquet", english[:10])
        with pytest.raises(UsageError, match="folder without a finished run"):
            compare_corpora(str(tmp_path), b)
        with pytest.raises(UsageError, match="matches no file"):
            compare_corpora(str(tmp_path / "none"), b)
        with pytest.raises(JobError, match="no document of language 'sw'; its languages are en"):
            compare_corpora(b, b, "sw")
        (tmp_path / "x.jsonl").write_text('{"nothing": 1}\n')
        with pytest.raises(JobError, match="its records gave none"):
            compare_corpora(str(tmp_path / "x.jsonl"), b)
