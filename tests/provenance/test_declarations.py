import base64
import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.provenance.declarations import declarations
from pipelines.provenance.locations import read_location

SHARED = Path(__file__).parents[2] / ".." / "shared"
IPTC = "http://cv.iptc.org/newscodes/digitalsourcetype/"
STORE = b"\0\0\0\x20jumb" + f"{IPTC}trainedAlgorithmicMedia\0".encode()


def kinds(html: str, headers: dict[str, str] | None = None) -> list[str]:
    return [finding.kind for finding in declarations(html, headers or {})]


def ld(data: object) -> str:
    text = data if isinstance(data, str) else json.dumps(data)
    return f'<html><head><script type="application/ld+json">{text}</script></head><body>x</body></html>'


@pytest.mark.parametrize(
    ("html", "expected"),
    [
        ('<meta name="ai-disclosure" content="ai-generated">', ["ai_disclosure"]),
        ("<META CONTENT=Autonomous NAME=AI-Disclosure>", ["ai_disclosure"]),
        ('<meta name="ai-content-declaration" content="true">', ["ai_disclosure"]),
        ('<meta name="ai-generated" content="yes">', ["ai_disclosure"]),
        ('<meta http-equiv="AI-Disclosure" content="mode=machine-generated; model=x">', ["ai_disclosure"]),
        ('<meta name="ai-disclosure" content="ai_assisted">', ["ai_assisted"]),
        ('<meta name="ai-disclosure" content="none">', ["ai_disclosure_none"]),
        ('<meta name="ai-generated" content="false">', ["ai_disclosure_none"]),
        ('<meta name="ai-disclosure" content="https://a.org/our-policy">', ["ai_disclosure_unclear"]),
        ("<html ai-disclosure>", ["ai_disclosure_unclear"]),
        ('<html ai-disclosure="ai-generated"><body>', ["ai_disclosure"]),
        ("<body data-ai-disclosure=ai-generated>", ["ai_disclosure"]),
        ("<article ai-disclosure=ai-generated>x</article>", ["ai_disclosure"]),
        ("<article ai-disclosure=ai-generated>x</article><article>y</article>", ["ai_disclosure_part"]),
        ("<aside ai-disclosure=ai-generated>x</aside>", ["ai_disclosure_part"]),
        ("<div itemprop=articleBody ai-disclosure=ai-generated>x</div>", ["ai_disclosure"]),
        ("<section ai-disclosure=none>x</section>", []),
        ('<meta name="generator" content="KoalaWriter 2.1">', ["ai_generator"]),
        ('<meta name="Generator" content="chatgpt">', ["ai_generator"]),
        ('<meta name="generator" content="ChatGPT Comment Plugin for WordPress">', []),
        ('<meta name="generator" content="WordPress 6.5"><p>ChatGPT and OpenAI</p>', []),
        ("<p>We discuss ai-disclosure, digitalSourceType and c2pa-manifest.</p>", []),
        ('<link rel="c2pa-manifest" href="/a.c2pa">', ["c2pa_manifest_link"]),
        ('<link rel="alternate C2PA-Manifest" href="/a.c2pa">', ["c2pa_manifest_link"]),
        (f'<script type="application/c2pa">{base64.b64encode(STORE).decode()}</script>', ["digital_source_type"]),
        ('<script type="application/c2pa">not base64 é</script>', ["c2pa_manifest_link"]),
    ],
)
def test_markup(html: str, expected: list[str]) -> None:
    assert kinds(html) == expected


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"AI-Disclosure": "mode=ai-originated, model=x"}, ["ai_disclosure"]),
        ({"ai-disclosure": 'model="mode=none"; mode="machine-generated"'}, ["ai_disclosure"]),
        ({"AI-DISCLOSURE": "mode=ai-modified"}, ["ai_assisted"]),
        ({"ai-disclosure": "none"}, ["ai_disclosure_none"]),
        ({"ai-disclosure": "perhaps"}, ["ai_disclosure_unclear"]),
        ({"Link": '</style.css>; rel=preload, </a.c2pa>; rel="c2pa-manifest"'}, ["c2pa_manifest_link"]),
        ({"Link": "</c2pa-manifest>; rel=preload"}, []),
        ({"Server": "ai-disclosure"}, []),
    ],
)
def test_headers(headers: dict[str, str], expected: list[str]) -> None:
    assert kinds("", headers) == expected


ARTICLE = {"@type": "NewsArticle", "digitalSourceType": f"{IPTC}trainedAlgorithmicMedia"}
IMAGE = {"@type": "ImageObject", "digitalSourceType": f"{IPTC}trainedAlgorithmicMedia"}
TEXT, MEDIA = ["digital_source_type"], ["digital_source_type_media"]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (ARTICLE, TEXT),
        ({"@type": "Article", "digitalSourceType": "https://schema.org/TrainedAlgorithmicMediaDigitalSource"}, TEXT),
        (
            {"@type": ["Thing", "schema:BlogPosting"], "schema:digitalSourceType": {"@id": f"{IPTC}algorithmicMedia"}},
            TEXT,
        ),
        ({"@graph": [{"@type": "Organization"}, ARTICLE]}, TEXT),
        ([ARTICLE], TEXT),
        ({"@type": "WebPage", "mainEntity": ARTICLE}, TEXT),
        ({"digitalSourceType": ["print", "trainedAlgorithmicMedia"]}, TEXT),
        (IMAGE, MEDIA),
        ({"@type": "Article", "image": IMAGE}, MEDIA),
        ({"@type": "Article", "image": {"digitalSourceType": "trainedAlgorithmicMedia"}}, MEDIA),
        ({"@type": "WebPage", "mainEntity": IMAGE}, MEDIA),
        ({"@type": "Article", "comment": ARTICLE, "mentions": [ARTICLE]}, MEDIA),
        ({"@type": "Article", "digitalSourceType": f"{IPTC}algorithmicallyEnhanced"}, ["ai_assisted"]),
        ({"@type": "Article", "digitalSourceType": f"{IPTC}humanEdits"}, []),
        ({"@type": "Article", "digitalSourceType": None, "x": {"digitalSourceType": 3}}, []),
        ('{"@type": "Article", "digitalSourceType": "trainedAlgorithmicMedia",}', TEXT),
        ('{"@type": "ImageObject", "digitalSourceType": "trainedAlgorithmicMedia"', MEDIA),
        ('{"@type": "Article", "text": "a\nb", "digitalSourceType": "trainedAlgorithmicMedia"}', TEXT),
        ("[" * 100_000 + '"digitalSourceType"', []),
    ],
)
def test_json_ld(data: object, expected: list[str]) -> None:
    assert kinds(ld(data)) == expected


@pytest.mark.parametrize(
    ("html", "expected"),
    [
        (f'<meta property="iptc:digitalSourceType" content="{IPTC}trainedAlgorithmicMedia">', TEXT),
        (
            '<article itemscope itemtype="https://schema.org/Article"><link itemprop="digitalSourceType" href="{}">',
            TEXT,
        ),
        (
            '<div itemscope itemtype="https://schema.org/ImageObject"><meta itemprop="digitalSourceType" content="{}">',
            MEDIA,
        ),
        ('<div typeof="schema:Article"><span property="schema:digitalSourceType" resource="{}">x</span></div>', TEXT),
        ('<div typeof="Article"><figure><span property="digitalSourceType" content="{}"></span></figure></div>', MEDIA),
        ("<div><span itemprop=digitalSourceType>trainedAlgorithmicMedia</span></div>", TEXT),
    ],
)
def test_microdata_and_rdfa(html: str, expected: list[str]) -> None:
    assert kinds(html.replace("{}", f"{IPTC}trainedAlgorithmicMedia")) == expected


def test_details_name_place_and_value() -> None:
    (finding,) = declarations('<meta name="AI-Disclosure" content="ai-generated">', {})
    assert (finding.source, finding.detail) == ("declaration", "markup at 0, meta ai-disclosure: ai-generated")
    (finding,) = declarations(ld(ARTICLE), {})
    at = ld(ARTICLE).index("digitalSourceType")
    assert finding.detail == f"markup at {at}, JSON-LD NewsArticle: trainedAlgorithmicMedia"
    (finding,) = declarations("", {"AI-Disclosure": "mode=ai-originated"})
    assert finding.detail == "HTTP header ai-disclosure: mode=ai-originated"


@pytest.mark.parametrize(
    ("page", "at"),
    [
        ('<p>é\U0001f600İ ai-disclosure</p>§<META CONTENT="ai-generated" NAME=AI-Disclosure>', "§"),
        (
            '<!-- <meta name="ai-disclosure" content="full"> -->§<meta name="ai-disclosure" content="full">',
            "§",
        ),
        ('<meta name="ai-disclosure" content="perhaps">§<meta name="ai-disclosure" content="ai-generated">', "§"),
        ("<p>x</p>§<main ai-disclosure=ai-generated>", "§"),
        ('<p>c2pa-manifest</p>§<link href="/a.c2pa" rel="c2pa-manifest">', "§"),
        (f'<b>x</b>§<script type="application/c2pa">{base64.b64encode(STORE).decode()}</script>', "§"),
        (
            '<div itemscope itemtype="https://schema.org/Article"><meta itemprop="§digitalSourceType" content="print">'
            '<meta itemprop="digitalSourceType" content="trainedAlgorithmicMedia">',
            "§",
        ),
    ],
)
def test_places_are_those_of_the_source(page: str, at: str) -> None:
    """The mark stands where the place is expected; the last finding of each page is the one that is meant."""
    html = page.replace(at, "")
    location = read_location(declarations(html, {})[-1].detail or "")
    assert location is not None
    assert location.offset == page.index(at)


def test_a_place_that_cannot_be_told_is_left_out() -> None:
    (finding,) = declarations('<meta name="ai-disclosure" content="&#97;i-generated">', {})
    assert (finding.kind, finding.detail) == ("ai_disclosure", "markup, meta ai-disclosure: ai-generated")


@settings(max_examples=200)
@given(
    st.lists(
        st.sampled_from(
            [
                '<meta name="ai-disclosure"',
                " content=",
                ">",
                "<",
                '"',
                "ai-generated",
                "</script>",
                "digitalSourceType",
                "{",
                "}",
                '<script type="application/ld+json">',
                "<link rel=c2pa-manifest href=data:;base64,",
                "\0",
                "\ud800",
                ":",
                "é",
            ]
        ),
        max_size=25,
    )
)
def test_malformed_pages_never_raise(parts: list[str]) -> None:
    assert len(declarations("".join(parts), {"AI-Disclosure": "".join(parts), "Link": "".join(parts)})) <= 32


def test_hostile_pages_end() -> None:
    """Each of these takes hours where a scan is quadratic."""
    pages = [
        '<script type="application/ld+json">' + '[{"digitalSourceType":' * 25_000,
        '<script type="application/ld+json">' + ('"digitalSourceType" : ' + " " * 15) * 15_000,
        "<div itemtype=x>" * 50_000 + "<p itemprop=digitalSourceType>" * 2000 + " ai-disclosure",
        "<meta name=ai-disclosure content=x>" * 10_000,
        "<article ai-disclosure=ai-generated>" * 10_000,
        '<link rel=c2pa-manifest href="data:;base64,' + "A" * 500_000 + '">',
        "mode" + " " * 500_000 + " ai-disclosure",
    ]
    for page in pages:
        assert isinstance(declarations(page, {"AI-Disclosure": page, "Link": page}), list)


def test_no_false_alarm_on_real_pages() -> None:
    pages = sorted((SHARED / "html_gold/html").glob("*.gz"))
    if not pages:
        pytest.skip("no ../shared/html_gold")
    for page in pages:
        assert declarations(gzip.decompress(page.read_bytes()).decode("utf-8", "replace"), {}) == [], page.name
