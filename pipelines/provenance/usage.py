"""How a page's publisher wants it to be used: preferences against or for training, and reservations of rights.

A preference says nothing about who wrote the page. It is evidence of a source of its own, which no rule of the default
policy uses; whoever takes texts from the reserve can filter on it::

    >>> [(p.kind, p.what, p.value) for p in header_preferences({"Content-Usage": "train-ai=n, search=y"})]
    [('usage_no_ai_training', 'content-usage', 'train-ai=n, search=y')]

Sources: draft-ietf-aipref-attach-05 (header field Content-Usage; the draft defines no element, but pages carry one);
draft-ietf-aipref-vocab, "Exemplary Serialization Format" (labels and values; labels of older drafts are read too);
RFC 9651, section 3.2 (dictionaries); draft-romm-aipref-contentsignals-00 (Content-Signal); TDM Reservation Protocol,
W3C Community Group Final Report of 10 May 2024 (header fields and elements tdm-reservation and tdm-policy); the
conventions noai, noimageai (DeviantArt, 2022) and noml in robots elements and in X-Robots-Tag, whose rules may name the
crawler that they address (MDN, "X-Robots-Tag").
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

SOURCE = "usage"

# Literals of which a page that states a preference in its markup holds one.
WORDS = ("noai", "noimageai", "noml", "tdm-reservation", "tdm-policy", "content-usage", "content-signal")

_MAX_VALUE = 4096
_ROBOTS = {"noai": "usage_no_ai_training", "noml": "usage_no_ai_training", "noimageai": "usage_no_image_training"}
# Rules of X-Robots-Tag with a value of their own: what stands before their colon is no crawler.
_VALUED = frozenset({"max-snippet", "max-image-preview", "max-video-preview", "unavailable_after"})
_AGENT = re.compile(r"\s*([\w.*-]{1,64})\s*:(?!//)\s*")
_CRAWLER = re.compile(
    r"[\w.-]*(?:bot|spider|crawler)(?:-[\w-]+)?|google-extended|applebot-extended|anthropic-ai|claude-[\w-]+|slurp",
    re.IGNORECASE,
)

# For each use its labels, the most specific one first, and the kind of evidence where it is not wanted.
_USES = (
    (("train-genai", "train-ai", "ai-train", "all", "bots"), "usage_no_ai_training"),
    (("ai-use", "ai-input", "all", "bots"), "usage_no_ai_use"),
    (("search", "all", "bots"), "usage_no_search"),
)
_TRAINING = _USES[0][0]
_TOKENS = {"content-usage": {"y": True, "n": False}, "content-signal": {"yes": True, "no": False}}
_MEMBER = re.compile(r"(?:[^,\"]|\"(?:[^\"\\]|\\.)*+\")++")
_KEY = re.compile(r"[a-z*][a-z0-9_.*-]*")


class Preference(NamedTuple):
    """One preference: the kind of evidence, the header or element that states it, and its value."""

    kind: str
    what: str
    value: str


def header_preferences(headers: Mapping[str, str]) -> Iterator[Preference]:
    """What HTTP headers state. Values of repeated headers are joined with commas."""
    for name, value in headers.items():
        plain = name.strip().lower()
        if plain == "x-robots-tag":
            yield from _robots(plain, value, named=False)
        else:
            yield from _named(plain, value, plain)


def meta_preferences(name: str, value: str) -> Iterator[Preference]:
    """What a ``meta`` element of that name, in lower case, states."""
    if name == "robots" or _CRAWLER.fullmatch(name):
        yield from _robots(f"meta {name}", value, named=name != "robots")
    else:
        yield from _named(name, value, f"meta {name}")


def _named(name: str, value: str, what: str) -> Iterator[Preference]:
    if name in _TOKENS:
        kinds = _dictionary_kinds(value[:_MAX_VALUE], _TOKENS[name])
    elif name == "tdm-reservation":
        stated = {part.strip() for part in value[:_MAX_VALUE].split(",")}
        kinds = ["usage_tdm_reserved" if "1" in stated else "usage_tdm_allowed" if stated == {"0"} else "usage_unclear"]
    elif name == "tdm-policy":
        kinds = ["usage_policy"] if value.strip() else []
    else:
        kinds = []
    for kind in kinds:
        yield Preference(kind, what, value)


def _robots(what: str, value: str, named: bool) -> Iterator[Preference]:
    """A list of rules. A crawler's name holds for all that follows it, up to the next one."""
    kinds = []
    for rule in value[:_MAX_VALUE].split(","):
        if (agent := _AGENT.match(rule)) and agent[1].lower() not in _VALUED:
            named, rule = agent[1].lower() not in ("*", "robots"), rule[agent.end() :]
        for word in rule.lower().split():
            if kind := _ROBOTS.get(word):
                kinds.append("usage_named_crawler" if named else kind)
    for kind in dict.fromkeys(kinds):
        yield Preference(kind, what, value)


def _dictionary_kinds(value: str, tokens: Mapping[str, bool]) -> list[str]:
    members = _dictionary(value)
    stated = {key: tokens[token] for key, token in members.items() if token in tokens}
    kinds = []
    for labels, kind in _USES:
        if next((stated[label] for label in labels if label in stated), None) is False:
            kinds.append(kind)
    if next((stated[label] for label in _TRAINING if label in stated), False):
        kinds.append("usage_ai_training_allowed")
    known = any(label in stated for labels, _ in _USES for label in labels)
    return kinds or ["usage_other" if known else "usage_unclear"]


def _dictionary(value: str) -> dict[str, str]:
    """Keys and values, without parameters, of a dictionary (RFC 9651, section 4.2.2); empty where it is none."""
    members: dict[str, str] = {}
    for member in _MEMBER.findall(value):
        name, equals, rest = member.partition(";")[0].partition("=")
        if not _KEY.fullmatch(name.strip(" \t")):
            return {}
        # A key that stands twice has its last value; one without a value is the boolean true, which is no preference.
        members[name.strip(" \t")] = rest.strip(" \t") if equals else "?1"
    return members
