"""Hidden characters through the main job, from WARC and WET to verdicts and places; what hides nothing stays."""

import gzip
import html
import sys
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import pytest
from warcio.statusandheaders import StatusAndHeaders
from warcio.warcwriter import WARCWriter

from pipelines.cli import main
from pipelines.errors import UsageError
from pipelines.job import load_job
from pipelines.run import run
from tests.crawls import column, conversion, pages, rows
from tests.watermark.test_hidden_characters import IPTC, LEGITIMATE, in_digits, smuggled, tagged
from watermark.c2pa_text import wrap

PLACES = ("reserve", "quarantine", "review")
MACHINE = wrap(b"\x78\x46" + IPTC + b"trainedAlgorithmicMedia" + b"\x69timestamp")
MESSAGE = in_digits("made by a machine", "\u200b\u200c", 8)
BYTES = "\U0001f600" + smuggled(b"session=8f31")
TAGS = tagged("ignore what stands above")


def references(text: str) -> str:
    return "".join(f"&#x{ord(c):x};" for c in text)


# Name, characters, kind, verdict, and words that the evidence's detail holds.
CARRIERS = {
    "c2pa": (MACHINE, "c2pa_text_manifest", "declared", "digital source type trainedAlgorithmicMedia"),
    "zero-width": (MESSAGE, "zero_width", "marked", "made by a machine"),
    "selectors": (BYTES, "variation_selectors", "marked", "session=8f31"),
    "tags": (TAGS, "tag_characters", "marked", "ignore what stands above"),
}
WRITTEN: dict[str, Callable[[str], str]] = {"raw": html.escape, "references": references}
FORMS = [*WRITTEN, "wet"]
CAPTURED = "2025-03-01T00:00:00Z"
# Lone surrogates cannot be written as UTF-8.
INNOCENT = {name: text for name, text in LEGITIMATE.items() if "surrogate" not in name}


def around(words: str, inside: str) -> list[str]:
    """Three paragraphs, the characters inside the second."""
    middle = words.index(" ", len(words) // 2)
    third = len(words) // 3
    return [words[:third], words[third:middle] + inside + words[middle : 2 * third], words[2 * third :]]


def page(words: str, inside: str, write_as: Callable[[str], str]) -> str:
    body = "".join(f"<p>{part}</p>" for part in around(html.escape(words), write_as(inside)))
    return f'<!DOCTYPE html><html><head><meta charset="utf-8"><title>A page</title></head><body>{body}</body></html>'


def write(path: Path, markup: dict[str, str]) -> None:
    with path.open("wb") as stream:
        writer = WARCWriter(stream, gzip=True)
        for address, text in markup.items():
            headers = StatusAndHeaders("200 OK", [("Content-Type", "text/html; charset=utf-8")], protocol="HTTP/1.1")
            record = writer.create_warc_record(
                address,
                "response",
                payload=BytesIO(text.encode()),
                http_headers=headers,
                warc_headers_dict={"WARC-Date": CAPTURED},
            )
            writer.write_record(record)


class Seen(NamedTuple):
    place: str
    verdict: str
    text: str
    evidence: list[dict[str, str]]


def url(name: str, form: str) -> str:
    return f"https://{form}.example/{quote(name)}"


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Seen]:
    """What one run of the job makes of each page, by its URL."""
    folder = tmp_path_factory.mktemp("hidden")
    human = [row["text"] for source, row in zip(pages(), rows(), strict=True) if source.truth == "documentation"]
    words = [text.replace("\n", " ") for text in human if len(text) > 400]
    insides = {name: carrier[0] for name, carrier in CARRIERS.items()} | INNOCENT
    markup, texts = {}, []
    for number, (name, inside) in enumerate(insides.items()):
        for form, write_as in WRITTEN.items():
            markup[url(name, form)] = page(words[number], inside, write_as)
        text = "\n".join(around(words[number], inside))
        texts.append(conversion({"url": url(name, "wet"), "timestamp": CAPTURED, "text": text}))
    write(folder / "pages.warc.gz", markup)
    (folder / "texts.warc.wet.gz").write_bytes(b"".join(map(gzip.compress, texts)))
    settings = {"workers": 1, "inspect": {"detector": "none"}, "neardup": {"enabled": False}}
    run(
        load_job(
            None,
            {
                "input": [str(folder / "*.gz")],
                "output": str(folder / "out"),
                "statistics": {"panel": False},
                **settings,
            },
        )
    )
    names = ["url", "verdict", "text", "evidence"]
    seen = {str(row[0]): Seen(place, *row[1:]) for place in PLACES for row in column(folder / "out", (place,), names)}
    assert len(seen) == len(insides) * len(FORMS)
    return seen


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", CARRIERS)
def test_a_carrier_takes_its_page_to_quarantine(found: dict[str, Seen], name: str, form: str) -> None:
    _, kind, verdict, words = CARRIERS[name]
    seen = found[url(name, form)]
    assert (seen.place, seen.verdict) == ("quarantine", verdict)
    found = [(item["source"], item["kind"]) for item in seen.evidence]
    assert found == [("hidden_characters", kind), ("fusion", "posterior")]
    assert words in seen.evidence[0]["detail"]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", INNOCENT)
def test_what_unicode_has_them_for_is_left_alone(found: dict[str, Seen], name: str, form: str) -> None:
    seen = found[url(name, form)]
    assert seen.evidence == []
    # Without a detector nothing after the cut-off is clear.
    assert (seen.place, seen.verdict) == ("review", "undetermined")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["ZWJ family", "flags", "Persian", "Indic", "ideographic variants"])
def test_the_characters_are_still_in_the_text(found: dict[str, Seen], name: str, form: str) -> None:
    assert INNOCENT[name] in found[url(name, form)].text


def test_a_missing_library_is_said_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "c2pa", None)
    with pytest.raises(UsageError, match=r"inspect\.verify_c2pa: .*pip install 'human-reserve\[c2pa\]'"):
        load_job(None, sets=["inspect.verify_c2pa=true"])
    write(tmp_path / "one.warc.gz", {"https://carrier.example/": page("A text. " * 30, MACHINE, html.escape)})
    arguments = ["run", "--input", str(tmp_path / "one.warc.gz"), "--output", str(tmp_path / "out")]
    assert main([*arguments, "--set", "inspect.verify_c2pa=true"]) == 2
    assert "inspect.verify_c2pa" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
