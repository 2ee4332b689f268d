import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.provenance.declarations import declarations
from pipelines.provenance.kinds import KINDS
from pipelines.provenance.usage import header_preferences


def kinds(html: str, headers: dict[str, str] | None = None) -> list[str]:
    found = declarations(html, headers or {})
    assert {finding.source for finding in found} <= {"usage"}
    return [finding.kind for finding in found]


NO_TRAINING = ["usage_no_ai_training"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("train-ai=n", NO_TRAINING),
        ("train-ai=y", ["usage_ai_training_allowed"]),
        ("train-ai=n, search=y", NO_TRAINING),
        ("search=n", ["usage_no_search"]),
        ("search=y", ["usage_other"]),
        ("ai-use=n, train-ai=n", ["usage_no_ai_training", "usage_no_ai_use"]),
        # Labels of older drafts: the specific one wins over the general one.
        ("train-ai=y, train-genai=n", NO_TRAINING),
        ("all=n, train-ai=y", ["usage_no_ai_use", "usage_no_search", "usage_ai_training_allowed"]),
        ("bots=n", ["usage_no_ai_training", "usage_no_ai_use", "usage_no_search"]),
        # RFC 9651: of a key that stands twice the last, no parameters, tokens only, keys in lower case.
        ("train-ai=n, train-ai=y", ["usage_ai_training_allowed"]),
        ("train-ai;allow=n, train-ai=y;x=n", ["usage_ai_training_allowed"]),
        ('train-ai=y, train-ai, search=n, search="n"', ["usage_unclear"]),
        ('x="a, train-ai=y", train-ai=n', NO_TRAINING),
        ("Train-AI=n", ["usage_unclear"]),
        ("train-ai=no", ["usage_unclear"]),
        ("", ["usage_unclear"]),
        ("own-label=n", ["usage_unclear"]),
    ],
)
def test_content_usage(value: str, expected: list[str]) -> None:
    assert kinds("", {"Content-Usage": value}) == expected


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"Content-Signal": "ai-train=no, search=yes, ai-input=no"}, ["usage_no_ai_training", "usage_no_ai_use"]),
        ({"content-signal": "ai-train=yes"}, ["usage_ai_training_allowed"]),
        ({"X-Robots-Tag": "noai"}, NO_TRAINING),
        ({"X-Robots-Tag": "noindex, NoAI , noimageai"}, ["usage_no_ai_training", "usage_no_image_training"]),
        ({"X-Robots-Tag": "noml"}, NO_TRAINING),
        ({"X-Robots-Tag": "noindex, nofollow"}, []),
        ({"X-Robots-Tag": "noairlines"}, []),
        ({"X-Robots-Tag": "googlebot: noai"}, ["usage_named_crawler"]),
        # A crawler's name holds for all that follows it; a rule with a value names no crawler.
        ({"X-Robots-Tag": "googlebot: nofollow, noai"}, ["usage_named_crawler"]),
        ({"X-Robots-Tag": "noai, otherbot: noindex, noai"}, ["usage_no_ai_training", "usage_named_crawler"]),
        ({"X-Robots-Tag": "max-snippet: 50, noai"}, NO_TRAINING),
        ({"X-Robots-Tag": "unavailable_after: 25 Jun 2030 15:00:00 PST, noai"}, NO_TRAINING),
        ({"X-Robots-Tag": "googlebot: nofollow, *: noai"}, NO_TRAINING),
        ({"TDM-Reservation": "1"}, ["usage_tdm_reserved"]),
        ({"tdm-reservation": "1, 1", "tdm-policy": "https://a.org/p.json"}, ["usage_tdm_reserved", "usage_policy"]),
        ({"tdm-reservation": "0"}, ["usage_tdm_allowed"]),
        ({"tdm-reservation": "yes"}, ["usage_unclear"]),
        ({"X-Content-Usage": "train-ai=n", "Robots": "noai"}, []),
    ],
)
def test_headers(headers: dict[str, str], expected: list[str]) -> None:
    assert kinds("", headers) == expected


@pytest.mark.parametrize(
    ("html", "expected"),
    [
        ('<meta name="robots" content="index, noai, noimageai">', ["usage_no_ai_training", "usage_no_image_training"]),
        ("<META CONTENT=NOAI NAME=ROBOTS>", NO_TRAINING),
        ('<meta name="googlebot" content="noai">', ["usage_named_crawler"]),
        ('<meta name="CCBot" content="nofollow"><meta name=GPTBot content=noml>', ["usage_named_crawler"]),
        ('<meta name="keywords" content="noai, art">', []),
        ('<!-- <meta name="robots" content="noai"> --><p>x', []),
        ("<p>Write noai into the robots element, or tdm-reservation.</p>", []),
        ('<meta name="robots" content="index"><p>noai</p>', []),
        ('<meta name="tdm-reservation" content="1">', ["usage_tdm_reserved"]),
        ('<meta name="tdm-policy" content="https://a.org/p">', ["usage_policy"]),
        ('<meta http-equiv="Content-Usage" content="train-ai=n">', NO_TRAINING),
    ],
)
def test_markup(html: str, expected: list[str]) -> None:
    assert kinds(html) == expected


def test_value_and_place_are_kept() -> None:
    html = '<p>é</p><meta name="robots" content="index,  noai">'
    found = declarations(html, {"Content-Usage": "train-ai=n;why=x"})
    assert [(f.source, f.kind, f.detail) for f in found] == [
        ("usage", "usage_no_ai_training", "HTTP header content-usage: train-ai=n;why=x"),
        ("usage", "usage_no_ai_training", "markup at 8, meta robots: index, noai"),
    ]


@given(st.sampled_from(["content-usage", "content-signal", "x-robots-tag", "tdm-reservation", "tdm-policy"]), st.text())
def test_any_value_gives_known_kinds(name: str, value: str) -> None:
    assert {preference.kind for preference in header_preferences({name: value})} <= set(KINDS)
