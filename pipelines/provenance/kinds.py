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
    # How the page's publisher wants it to be used: says nothing about who wrote it.
    "usage_no_ai_training": "the publisher does not want AI to be trained on the page",
    "usage_no_ai_use": "the publisher does not want the page as input to generative AI",
    "usage_no_image_training": "the publisher does not want AI to be trained on the page's images",
    "usage_no_search": "the publisher does not want the page in search applications",
    "usage_tdm_reserved": "the rights of text and data mining are reserved",
    "usage_policy": "the page links a policy for text and data mining",
    "usage_ai_training_allowed": "the publisher allows AI to be trained on the page",
    "usage_tdm_allowed": "the rights of text and data mining are not reserved",
    "usage_other": "the publisher states a preference, but neither for nor against AI training",
    "usage_named_crawler": "a preference against AI use that is addressed to a named crawler only",
    "usage_unclear": "the page states a usage preference that cannot be read or has no known label",
    # What reading the shard found: says nothing about who wrote the page, but its bytes are not vouched for.
    "block_digest_mismatch": "the record's bytes are not those that the crawler made its digest of",
    "payload_digest_mismatch": "the page's bytes are not those that the crawler made its digest of",
    "content_length_mismatch": "the record is shorter or longer than its header says",
    "unreadable_capture_time": "the capture time cannot be read",
    # What a statistical test of the tokens finds.
    "watermark": "a watermark test rejects the null after correction for multiple tests",
    "watermark_site": "the documents of its site together carry a watermark, but its own text does not tell",
    "watermark_tested": "a watermark was looked for and not found: says nothing about who wrote the page",
}

# What is added after the verdict. A policy that names one is refused: no rule would ever see it.
AFTER_VERDICT: Final[dict[str, str]] = {
    "posterior": "the probability of machine origin that all evidence and the capture month come to",
}
