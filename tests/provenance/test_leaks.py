import gzip
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipelines.provenance.anchors import Anchors
from pipelines.provenance.hidden import hidden_characters, hidden_in_markup
from pipelines.provenance.leaks import leaked_markup, leaked_phrases
from pipelines.provenance.locations import read_location
from pipelines.provenance.signals import load_signals
from watermark.c2pa_text import wrap

SHARED = Path(__file__).parents[2] / ".." / "shared"

# One sentence at least for every signal: a test below holds that none is left out.
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
    ("chatbot_phrase", "As an AI, which I am, I don't have personal opinions."),
    ("chatbot_phrase", "No, soy solo un modelo de lenguaje."),
    ("chatbot_phrase", "Lo siento, pero no puedo ayudarte con esa solicitud."),
    ("chatbot_phrase", "Eu sou apenas um modelo de linguagem."),
    ("chatbot_phrase", "Desculpe, mas não posso atender a essa solicitação."),
    ("chatbot_phrase", "Io sono soltanto un modello linguistico."),
    ("chatbot_phrase", "Je suis seulement un modèle de langage."),
    ("chatbot_phrase", "Désolé, mais je ne peux pas répondre à cette demande."),
    ("chatbot_phrase", "depuis ma dernière mise à jour de mes connaissances"),
    ("chatbot_phrase", "Ich bin nur ein KI-Sprachmodell."),
    ("chatbot_phrase", "Es tut mir leid, aber ich kann diese Anfrage nicht erfüllen."),
    ("chatbot_phrase", "Ik ben slechts een taalmodel."),
    ("chatbot_phrase", "Но я — языковая модель."),
    ("chatbot_phrase", "Niestety jestem tylko modelem językowym."),
    ("chatbot_phrase", "Ama ben sadece bir yapay zeka dil modeliyim."),
    ("chatbot_phrase", "Maaf, saya hanyalah model bahasa."),
    ("chatbot_phrase", "نعم، أنا مجرد نموذج لغوي"),
    ("chatbot_phrase", "एक एआई भाषा मॉडल के रूप में, मैं नहीं जानता।"),
    ("chatbot_phrase", "Là một mô hình ngôn ngữ AI, tôi không biết."),
    ("chatbot_phrase", "네, 저는 인공지능 언어 모델입니다."),
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
    ("chatbot_markup", "as shown \ue200cite\ue202turn0search3\ue201."),
    ("chatbot_markup", "as shown \ue200filecite\ue202turn12file0\ue201."),
    ("chatbot_markup", "as shown iturn0image0turn0image1."),
    ("chatbot_markup", "as shown【turn0search1】."),
    ("chatbot_markup", "as shown [oai_citation_attribution:3‡a site](https://a.org)"),
    ("chatbot_markup", 'the firm entity["company","A Firm","a firm of 1900"] is old'),
    ("chatbot_markup", "as shown [citation:4]."),
    ("chatbot_markup", '<antArtifact identifier="a" type="text/markdown">'),
    ("chatbot_markup", "<think>\nOkay, what is asked is a poem.</think>"),
    ("chatbot_markup", "as shown <grok:richcontent x=1>"),
    ("chatbot_link", "https://example.org/a?b=1&utm_source=openai"),
    ("chatbot_link", "https://example.org/a?b=1&utm_source=copilot.com"),
    ("chatbot_link", "https://example.org/a?b=1&utm_source=chatgpt.com"),
    ("chatbot_link", "https://example.org/a?referrer=grok.com"),
]

# Signals that hold at the start or the end of a text only.
AT_THE_EDGE = [
    ("chatbot_phrase_weak", "Sure! Here is a short poem about the sea:\nIt is wide."),
    ("chatbot_markup", "and so it ends.<|im_end|>\n"),
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
    # One for every signal that was added for its language: the same words, but not a chatbot's own voice.
    "GPT es un modelo de lenguaje, y su modelo de lenguaje de 2019 es otro.",
    "Lo siento, no puedo firmar esta solicitud de empleo.",
    "O GPT é um modelo de linguagem; ela sou eu.",
    "Não posso assinar esta solicitação antes de amanhã.",
    "Il modello linguistico di oggi: sono un modello per altri.",
    "Elle est un modèle de langage clair; je suis un modèle.",
    "Je ne peux pas signer cette demande, et ma mise à jour est prête.",
    "Ein Sprachmodell bin ich nicht, sagt er, und als Kind kann ich das.",
    "Es tut mir leid, aber diese Anfrage liegt beim Amt.",
    "Het taalmodel is groot, en ik ben een mens.",
    "Языковая модель обучена, а я живу в Москве.",
    "To jest model językowy, a ja jestem modelem w Paryżu.",
    "Bu bir dil modelidir, ben bir öğretmenim.",
    "Model bahasa itu besar, dan saya adalah guru.",
    "هذا نموذج لغوي وأنا معلم",
    "भाषा मॉडल बड़े हैं और मैं अध्यापक हूँ।",
    "Mô hình ngôn ngữ lớn là gì? Tôi không rõ.",
    "언어 모델은 크고 저는 교사입니다.",
    "As an AI researcher, I don't have much time.",
    "Make sure here is a good place, he said: yes.",
    "The entity[0] and entity['name'] of the table.",
    "See [citation needed] and [citation: Smith 2004].",
    'The <think> element and "<think>okay" are names.',
    "The token <|endoftext|> ends each document in that corpus.",
    "It turned to search0, to turn0x and to returnturn0search.",
    "The private-use letters \ue200 and \ue202 of a font.",
    "A saturn0image0 and an antartifact.",
]


@pytest.mark.parametrize(("kind", "text"), LEAKED)
def test_leaks_are_found_in_running_text(kind: str, text: str) -> None:
    for embedded in (text, f"Before it.\n{text}\nBehind it.", text.replace(" ", "\n", 1)):
        if embedded is text or kind == "chatbot_phrase" or "Before" in embedded:
            assert kind in [finding.kind for finding in leaked_phrases(embedded)], embedded


@pytest.mark.parametrize(("kind", "text"), AT_THE_EDGE)
def test_openings_and_endings(kind: str, text: str) -> None:
    assert [finding.kind for finding in leaked_phrases(text)] == [kind]
    assert leaked_phrases(f"Before it.\n{text}\nBehind it.") == []


def test_every_signal_has_an_example() -> None:
    for leak in load_signals().leaks:
        if leak.where != "html":
            pattern = leak.compile()
            assert any(pattern.search(text) for kind, text in LEAKED + AT_THE_EDGE if kind == leak.kind), leak.id


def test_findings_name_the_signal_and_the_place() -> None:
    text = "Ü\U0001f600 one. I'm just an AI language model. citeturn0search1"
    locations = [read_location(finding.detail or "") for finding in leaked_phrases(text)]
    assert [(at.layer, at.offset, at.what) for at in locations if at] == [
        ("text", text.index("I'm"), "i-am-a-language-model"),
        ("text", text.index("citeturn"), "turn0search0"),
    ]
    quoted = "“As an AI, I cannot say.” But no. As an AI, I cannot know."
    (finding,) = leaked_phrases(quoted)
    assert finding.detail == f"text at {quoted.rindex('As an AI')}, as-an-ai-i-cannot: As an AI, I cannot"


def test_places_in_markup_are_those_of_the_whole_page() -> None:
    html = "<p>é</p><script>turn0search9</script><pre>oaicite</pre><!-- ü --><p>seen turn0search1"
    (finding,) = leaked_markup(html)
    assert finding.detail == f"markup at {html.index('turn0search1')}, turn0search0: turn0search1"


def test_marks_that_the_page_shows_are_found_where_the_text_does_not_hold_them() -> None:
    html = "<p>as shown \ue200cite\ue202turn0search3\ue202turn0news1\ue201</p>"
    found = [read_location(finding.detail or "") for finding in leaked_markup(html)]
    assert {(at.what, at.offset) for at in found if at} == {("private-use-token", 12), ("turn0search0", 17)}


def test_every_match_of_a_pattern_holds_an_anchor() -> None:
    for leak in load_signals().leaks:
        anchors, pattern = Anchors(leak.anchors), leak.compile()
        for _, text in LEAKED + AT_THE_EDGE:
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


def test_hidden_characters_as_evidence() -> None:
    human = wrap(b"http://cv.iptc.org/newscodes/digitalsourcetype/humanEdits\0")
    machine = wrap(b"http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia\0")
    assert [f.kind for f in hidden_characters("x" + human)] == ["c2pa_text_manifest_human"]
    assert [f.kind for f in hidden_characters("x" + wrap(b"jumb"))] == ["c2pa_text_manifest"]
    (finding,) = hidden_characters("x" + machine[:-1])
    assert (finding.source, finding.kind) == ("hidden_characters", "c2pa_text_manifest")
    assert "trainedAlgorithmicMedia; the header states" in (finding.detail or "")
    assert len(hidden_characters("a\U000e0141\U000e0142\U000e0143" * 500)) == 32


def test_hidden_characters_as_references() -> None:
    bits = "".join(f"{byte:08b}" for byte in b"hidden")
    run = bits.replace("0", "&#x200B;").replace("1", "&zwnj;")
    html = f"<p>é &#20013;&#22269;&#20154; a{run}b&zwnj;&zwnj;&zwnj;&zwnj;&zwnj;&zwnj;&zwnj;&zwnj;&zwnj;"
    (finding,) = hidden_in_markup(html)
    assert finding.detail == f"markup at {html.index(run)}, 48 characters: hidden"
    (finding,) = hidden_in_markup(f"<p>x{wrap(b'jumb')}")
    assert (finding.kind, finding.detail) == (
        "c2pa_text_manifest",
        "markup at 4, 18 characters: C2PA manifest, 4 bytes",
    )


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
        assert hidden_in_markup(html) == []
