"""The kinds of evidence: the words in which checks speak and the policy decides.

A policy may use these and the kinds that its own ``extra_kinds`` adds; a name outside both is refused, since a misspelt
kind would silently never match.
"""

from __future__ import annotations

from typing import Final

KINDS: Final[dict[str, str]] = {
    # What the page says of itself.
    "ai_disclosure": "the page declares that AI generated it",
    "ai_assisted": "the page declares that AI assisted or edited",
    "ai_disclosure_unclear": "the page carries an AI disclosure whose value is not known",
    "ai_disclosure_part": "a part of the page, not its main text, carries an AI disclosure",
    "ai_disclosure_none": "the page declares that no AI was used",
    "ai_generator": "the generator named in the page is an AI writer",
    "digital_source_type": "the page's digitalSourceType is one of a machine",
    "digital_source_type_media": "an image, video, sound or another work on the page has a machine's digitalSourceType",
    "c2pa_manifest_link": "the page links or embeds a C2PA manifest",
    # What leaked from a chatbot.
    "chatbot_phrase": "a chatbot speaks of itself in the first person",
    "chatbot_phrase_weak": "a phrase that chatbots often and people sometimes write",
    "chatbot_phrase_quoted": "a chatbot's phrase between quotation marks",
    "chatbot_markup": "a token of a chatbot's interface",
    "chatbot_link": "a link that a chatbot handed out",
    # What is hidden in characters that do not show.
    "c2pa_text_manifest": "a C2PA manifest in the text, of a machine's or of no stated source type",
    "c2pa_text_manifest_human": "a C2PA manifest in the text that states human source types only",
    "variation_selectors": "bytes hidden in variation selectors",
    "tag_characters": "text hidden in tag characters",
    "zero_width": "a message hidden in zero-width characters",
    # What a statistical test of the tokens finds.
    "watermark": "a watermark test rejects the null after correction for multiple tests",
}
