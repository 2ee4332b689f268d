"""Pages that are built to cost more than they weigh. What is found in them is asserted; how long it takes is measured
by hand, and each of these took minutes or more in a check that went over the page once for each of its parts."""

import pytest

from pipelines.provenance.declarations import declarations
from pipelines.provenance.hidden import hidden_characters
from pipelines.provenance.leaks import leaked_markup, leaked_phrases

META = "<meta name=ai-disclosure content=ai-generated>"
LD = '<script type="application/ld+json">'
DISCLOSED, LEAKED = ["ai_disclosure"], ["chatbot_markup"]


@pytest.mark.parametrize(
    ("html", "declared", "leaked"),
    [
        pytest.param("<" * 500_000 + META + "turn0search0", DISCLOSED, LEAKED, id="opening"),
        pytest.param(META + "turn0search0 " + "<!--" * 250_000, DISCLOSED, LEAKED, id="comments"),
        pytest.param(META + "<pre>oaicite</pre>" * 50_000 + "[oaicite:1]", DISCLOSED, LEAKED, id="code"),
        # Ingestion refuses these two for the same reason: they cannot be parsed in reasonable time.
        pytest.param("<div>" * 100_000 + META + "turn0search0", [], LEAKED, id="nested"),
        pytest.param(META + "<p " + " ".join(f"a{i}=1" for i in range(100_000)) + ">", [], [], id="attributes"),
        pytest.param("\0" * 1_000_000 + META + "turn0search0", DISCLOSED, LEAKED, id="nul"),
        pytest.param("\ud800" * 100_000 + META + "turn0search0", DISCLOSED, LEAKED, id="surrogates"),
        pytest.param(META + LD + '[{"digitalSourceType":' * 100_000, DISCLOSED, [], id="json-nested"),
        pytest.param(META + LD + "[" * 100_000 + '"digitalSourceType"', DISCLOSED, [], id="json-lists"),
        pytest.param(
            LD + "[" + '{"digitalSourceType":"trainedAlgorithmicMedia"},' * 20_000 + "0]</script>",
            ["digital_source_type"],
            [],
            id="json-many",
        ),
        pytest.param(LD + ('"digitalSourceType" : ' + " " * 15) * 25_000, [], [], id="json-broken"),
        pytest.param(
            '<!DOCTYPE x [<!ENTITY a "&a;&a;">]><meta name=ai-disclosure content="' + "&amp;" * 200_000 + '">',
            ["ai_disclosure_unclear"],
            [],
            id="entities",
        ),
        pytest.param("<meta name=generator content=x>" * 30_000 + "openai", [], [], id="metas"),
        pytest.param(META * 30_000, DISCLOSED, [], id="disclosures"),
        pytest.param("<article ai-disclosure=ai-generated>" * 15_000, DISCLOSED, [], id="articles"),
        pytest.param(
            "".join(f'<meta name=ai-disclosure content="&#97;{i}">' for i in range(15_000)),
            ["ai_disclosure_unclear"] * 32,
            [],
            id="escaped-values",
        ),
        pytest.param(
            "noai <noai></noai>" * 50_000 + "<meta name=robots content=noai>", ["usage_no_ai_training"], [], id="noai"
        ),
        pytest.param("?utm_source=chatgpt.com&a" * 20_000, [], [], id="links"),
        pytest.param("<p>?utm_source=chatgpt.com " * 20_000, [], [], id="urls"),
        pytest.param("a" * 500_000 + "?utm_source=chatgpt.com", [], [], id="one-url"),
    ],
)
def test_pages(html: str, declared: list[str], leaked: list[str]) -> None:
    assert [finding.kind for finding in declarations(html, {})] == declared
    assert [finding.kind for finding in leaked_markup(html)] == leaked


@pytest.mark.parametrize(
    ("text", "leaked"),
    [
        pytest.param("as an ai language model " * 20_000, [], id="almost"),
        pytest.param("“as an ai language model, i " * 15_000, ["chatbot_phrase_quoted"], id="quotes"),
        pytest.param("citeturn0search" * 30_000, [], id="tokens"),
        pytest.param('entity["ab","c"' + ',"b"' * 100_000, [], id="entity"),
        pytest.param("(\n" * 1000 + " " * 500_000 + "\nregenerate response", ["chatbot_phrase_weak"], id="blanks"),
        pytest.param("<think>    " * 30_000, [], id="think"),
        pytest.param("<|endoftext|>  " * 30_000 + "x", [], id="endings"),
    ],
)
def test_texts(text: str, leaked: list[str]) -> None:
    assert [finding.kind for finding in leaked_phrases(text)] == leaked


def test_headers() -> None:
    hostile = dict.fromkeys(("AI-Disclosure", "Link", "Content-Usage", "X-Robots-Tag"), "mode" + ' ,"\\;' * 100000)
    assert [finding.kind for finding in declarations("", hostile)] == ["ai_disclosure_unclear", "usage_unclear"]


def test_carriers() -> None:
    assert len(hidden_characters("a\U000e0141\U000e0142\U000e0143" * 10_000)) == 32
