import gzip
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.provenance.anchors import Anchors
from pipelines.provenance.hidden import hidden_characters
from pipelines.provenance.leaks import leaked_markup, leaked_phrases
from pipelines.provenance.signals import load_signals
from watermark.c2pa_text import wrap

SHARED = Path(__file__).parents[2] / ".." / "shared"

# One sentence at least for every signal of signals.yaml: a test below holds that none is left out.
LEAKED = [
    ("chatbot_phrase", "As an AI language model, I cannot taste wine."),
    ("chatbot_phrase", "It is hard, but as a large language model trained by OpenAI, I can’t say."),
    ("chatbot_phrase", "I'm just an AI language model and cannot know."),
    ("chatbot_phrase", "As an AI assistant created by Anthropic, I try to help."),
    ("chatbot_phrase", "As an AI, I don't have feelings."),
    ("chatbot_phrase", "I am ChatGPT, a large language model trained by OpenAI."),
    ("chatbot_phrase", "There may be news after my knowledge cutoff."),
    ("chatbot_phrase", "This was so as of my last knowledge update in 2021."),
    ("chatbot_phrase", "My training data only goes up to 2021."),
    ("chatbot_phrase", "I’m sorry, but I can’t assist with that."),
    ("chatbot_phrase", "I cannot fulfill this request."),
    ("chatbot_phrase", "Como modelo de lenguaje de IA, no tengo opiniones."),
    ("chatbot_phrase", "Como una inteligencia artificial, no puedo sentir."),
    ("chatbot_phrase", "Desde mi última actualización de conocimientos"),
    ("chatbot_phrase", "Como modelo de linguagem, não tenho emoções."),
    ("chatbot_phrase", "Como uma inteligência artificial, eu não posso opinar."),
    ("chatbot_phrase", "Come modello linguistico, non posso giudicare."),
    ("chatbot_phrase", "En tant que modèle de langage, je ne peux pas juger."),
    ("chatbot_phrase", "En tant qu’intelligence artificielle, je n'ai pas d'avis."),
    ("chatbot_phrase", "Als KI-Sprachmodell kann ich das nicht beurteilen."),
    ("chatbot_phrase", "Mein Wissensstand endet im Jahr 2021."),
    ("chatbot_phrase", "Als AI-taalmodel kan ik dat niet weten."),
    ("chatbot_phrase", "Как языковая модель, я не могу судить."),
    ("chatbot_phrase", "Jako model językowy, nie mam uczuć."),
    ("chatbot_phrase", "Bir yapay zeka dil modeli olarak, benim duygularım yok."),
    ("chatbot_phrase", "Sebagai model bahasa AI, saya tidak tahu."),
    ("chatbot_phrase", "كنموذج لغوي، لا أستطيع"),
    ("chatbot_phrase", "作为一个AI语言模型，我无法回答。"),
    ("chatbot_phrase", "我的知识截止到2021年。"),
    ("chatbot_phrase", "我是一个人工智能语言模型"),
    ("chatbot_phrase", "AI言語モデルとして、私は意見を持ちません。"),
    ("chatbot_phrase", "AI 언어 모델로서, 저는 알 수 없습니다."),
    ("chatbot_phrase_weak", "The end.\nRegenerate response\n"),
    ("chatbot_phrase_weak", "Certainly! Here's a short essay."),
    ("chatbot_phrase_weak", "Let me know if you'd like me to adjust the tone."),
    ("chatbot_phrase_weak", "Fin.\nRégénérer la réponse"),
    ("chatbot_markup", "as shown :contentReference[oaicite:0]{index=0}."),
    ("chatbot_markup", "as shown citeturn0search0turn1news12."),
    ("chatbot_markup", "as shown【4:0†source】."),
    ("chatbot_markup", "as shown [cite_start]here [cite: 1, 2]."),
    ("chatbot_markup", 'as shown <grok-card data-id="e4f">'),
    ("chatbot_markup", 'as shown ({"attribution":{"attributableIndex":"3-1"}})'),
    ("chatbot_markup", "as shown.[attached_file:1]"),
    ("chatbot_markup", "as shown.[web:3][web:4]"),
    ("chatbot_markup", "[the table](sandbox:/mnt/data/table.csv)"),
    ("chatbot_link", "https://example.org/a?b=1&utm_source=chatgpt.com"),
    ("chatbot_link", "https://example.org/a?referrer=grok.com"),
]

MENTIONED = [
    "ChatGPT is an AI language model that OpenAI trained.",
    "As an AI language model, ChatGPT can write essays.",
    "Large language models have a knowledge cutoff, as its makers say.",
    "Nach meinem Wissensstand ist das richtig.",
    "Certainly! The house was old.",
    "We regenerate response headers on every request.",
    "The turn0 variable and search0 are set.",
    "作为一个老师，我不同意。人工智能语言模型很有用。",
    "I cannot fulfil this promise, and I am sorry.",
    "See https://example.org/?utm_source=newsletter and https://chatgpt.com/.",
    "In 2019 [web: 3] and [cite this: 1].",
    "Let me know if you would like to come.",
]


@pytest.mark.parametrize(("kind", "text"), LEAKED)
def test_leaks_are_found_in_running_text(kind: str, text: str) -> None:
    for embedded in (text, f"Before it.\n{text}\nBehind it.", text.replace(" ", "\n", 1)):
        if embedded is text or kind == "chatbot_phrase" or "Before" in embedded:
            assert kind in [finding.kind for finding in leaked_phrases(embedded)], embedded


def test_every_signal_has_an_example() -> None:
    for leak in load_signals().leaks:
        if leak.where != "html":
            pattern = leak.compile()
            assert any(pattern.search(text) for kind, text in LEAKED if kind == leak.kind), leak.pattern


def test_every_match_of_a_pattern_holds_an_anchor() -> None:
    for leak in load_signals().leaks:
        anchors, pattern = Anchors(leak.anchors), leak.compile()
        for _, text in LEAKED:
            for match in pattern.finditer(text):
                assert anchors.found(match.group()), (leak.pattern, match.group())


@pytest.mark.parametrize("text", MENTIONED)
def test_mere_mention_is_no_leak(text: str) -> None:
    assert leaked_phrases(text) == []


@pytest.mark.parametrize("quote", ['"{}"', "“{}”", "«{}»", "„{}“", "「{}」"])
def test_quoted_phrases_are_reports(quote: str) -> None:
    report = "It answered " + quote.format("Hello. As an AI language model, I cannot") + " and fell silent."
    assert [f.kind for f in leaked_phrases(report)] == ["chatbot_phrase_quoted"]
    both = report + " As an AI language model, I cannot judge it."
    assert [f.kind for f in leaked_phrases(both)] == ["chatbot_phrase"]


@pytest.mark.parametrize(
    ("html", "kinds"),
    [
        ('<a href="https://a.org/?utm_source=chatgpt.com">a</a>', ["chatbot_link"]),
        ("<a href=https://a.org/?x=1&amp;utm_source=chatgpt.com>a</a>", ["chatbot_link"]),
        ("<A HREF = 'https://a.org/?utm_source=openai'>a</A>", ["chatbot_link"]),
        ('<a href="https://a.org/?utm_source=chatgpt.community">a</a>', []),
        ('<p data-x="https://a.org/?utm_source=chatgpt.com">a</p>', []),
        ("<script>if (u == '?utm_source=chatgpt.com') f('oaicite:1}{index=1}')</script>", []),
        ("<!-- contentReference[oaicite:2] --><p>x</p>", []),
        ("<pre>contentReference[oaicite:2]</pre><code>turn0search1</code>", []),
        ("<p>as shown contentReference[oaicite:2]</p>", ["chatbot_markup"]),
        ("<pre>never closed <p>contentReference[oaicite:2]", ["chatbot_markup"]),
        ("<script>never closed <p>contentReference[oaicite:2]", []),
        ('<p>x<grok-card data-id="1"></grok-card></p>', ["chatbot_markup"]),
        ('<a href="sandbox:/mnt/data/table.csv">the table</a>', ["chatbot_markup"]),
        ("<p>nothing</p>", []),
    ],
)
def test_leaks_in_markup(html: str, kinds: list[str]) -> None:
    assert [finding.kind for finding in leaked_markup(html)] == kinds


@given(
    st.lists(st.sampled_from(["oaicite", "Language Model", "语言模型", "turn0", "abcd", "bcde"]), unique=True),
    st.text(),
)
def test_anchors_agree_with_a_plain_search(literals: list[str], noise: str) -> None:
    text = noise + "xABCDEé语言模型TURN0language\nmodel" + noise
    plain = text.translate({c: c + 32 for c in range(65, 91)} | {10: " ", 9: " "})
    expected = [at for at, literal in enumerate(literals) if literal.lower() in plain]
    assert Anchors(literals).found(text) == expected


def test_anchor_at_both_ends_and_too_short_ones() -> None:
    assert Anchors(["oaicite", "abcd"]).found("oaicite") == [0]
    assert Anchors(["oaicite"]).found("oaicit") == []
    assert Anchors([]).found("x") == []
    assert Anchors(["abcd"]).found("\ud800abcd") == [0]
    with pytest.raises(ValueError, match="fewer than 4 bytes"):
        Anchors(["abc"])


def test_hidden_characters_as_evidence() -> None:
    human = wrap(b"http://cv.iptc.org/newscodes/digitalsourcetype/humanEdits\0")
    machine = wrap(b"http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia\0")
    assert [f.kind for f in hidden_characters("x" + human)] == ["c2pa_text_manifest_human"]
    assert [f.kind for f in hidden_characters("x" + wrap(b"jumb"))] == ["c2pa_text_manifest"]
    (finding,) = hidden_characters("x" + machine[:-1])
    assert (finding.source, finding.kind) == ("hidden_characters", "c2pa_text_manifest")
    assert "trainedAlgorithmicMedia; the header states" in (finding.detail or "")
    assert len(hidden_characters("a\U000e0141\U000e0142\U000e0143" * 500)) == 32


def test_hostile_text_ends() -> None:
    """Each of these takes hours where a scan is quadratic."""
    for text in (
        "as an ai language model " * 20_000,
        "“as an ai language model, i " * 15_000,
        "citeturn0search" * 30_000,
        "<pre>oaicite" * 30_000,
        "<!--" * 100_000 + "turn0",
        "a" * 500_000 + "?utm_source=chatgpt.com",
        "<p>?utm_source=chatgpt.com " * 20_000,
        "(\n" * 1000 + " " * 500_000 + "regenerate response",
    ):
        assert isinstance(leaked_phrases(text) + leaked_markup(text), list)


def test_no_false_alarm_on_human_text_and_pages() -> None:
    paths = sorted((SHARED / "text").glob("*.parquet"))
    if not paths:
        pytest.skip("no ../shared/text")
    machine = 0
    for path in paths:
        table = pq.read_table(path, columns=["text", "label"])
        for text, label in zip(table["text"].to_pylist(), table["label"].to_pylist(), strict=True):
            found = leaked_phrases(text)
            assert not (found and label == "human"), found
            machine += any(finding.kind == "chatbot_phrase" for finding in found)
    assert machine > 400
    for page in sorted((SHARED / "html_gold/html").glob("*.gz")):
        html = gzip.decompress(page.read_bytes()).decode("utf-8", "replace")
        assert leaked_markup(html) == []
        assert leaked_phrases(html) == []
        assert hidden_characters(html) == []
