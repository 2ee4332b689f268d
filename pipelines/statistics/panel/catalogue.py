"""The catalogue of the collapse panel's measures: what each is called, what it means, and which way is worse.

for one in MEASURES:
    print(one.name, one.meaning)
"""

from __future__ import annotations

from typing import NamedTuple

from pipelines.statistics.panel.estimators import LOG, NATURAL, ROOT, SHARE

HIGHER, LOWER, NEITHER = "higher", "lower", "neither"


class Measure(NamedTuple):
    """A measure in plain words. ``worse`` is "lower", "higher" or "neither"; ``by_size``: it changes with the size of a
    corpus, and is compared on equal samples; ``scale`` is that on which its errors are about normal
    (``estimators.on_scale``).
    """  # fmt: skip

    name: str
    title: str
    meaning: str
    worse: str
    by_size: bool
    scale: str = NATURAL


MEASURES = (
    Measure(
        "distinct_trigrams",
        "Distinct three-word phrases",
        "How many different runs of three words occur; on the equal sample, their share among all such runs. Lower: "
        "the same phrases again and again.",
        LOWER,
        True,
        LOG,
    ),
    Measure(
        "distinct_documents",
        "Distinct documents",
        "How many different texts there are; on the equal sample, the share of different openings. Lower: more of the "
        "same texts.",
        LOWER,
        True,
        LOG,
    ),
    Measure(
        "overlap",
        "Phrases known from the reference",
        "The share of the three-word phrases that also occur in the reference; for comparison, thinned to one size. "
        "Higher: less is said that was not said before.",
        HIGHER,
        True,
        SHARE,
    ),
    Measure(
        "hapax_share",
        "Words that occur once",
        "The share of the different words that occur only once. Lower: rare words, the tail of a language, are lost.",
        LOWER,
        True,
        SHARE,
    ),
    Measure(
        "missing_mass",
        "Chance of a new word",
        "How likely the next word is one that has not occurred yet (Good and Turing). Lower: nothing new is to come.",
        LOWER,
        True,
        LOG,
    ),
    Measure(
        "entropy",
        "Entropy of words",
        "How many bits it takes to say which word comes, on a sample of fixed size, with words that were not seen "
        "allowed for (Chao and Shen). Lower: fewer words do more of the work.",
        LOWER,
        True,
    ),
    Measure(
        "renyi2",
        "Collision entropy",
        "How rarely two words from different documents are the same, in bits (Rényi, order 2). It speaks of the common "
        "words. Lower: the common words grow more common.",
        LOWER,
        False,
    ),
    Measure(
        "zipf_exponent",
        "Zipf tail exponent",
        "How fast words get fewer as their count grows: P(count = c) falls as c to this power. Lower: few rare words "
        "for every common one, a thin tail.",
        LOWER,
        True,
    ),
    Measure(
        "mattr",
        "Different words in fifty",
        "The share of different words in a window of fifty words, on average: variety within a text, whatever its "
        "length. Lower: texts repeat themselves.",
        LOWER,
        False,
        SHARE,
    ),
    Measure(
        "compression_ratio",
        "Compression ratio",
        "How many times smaller zlib makes a sample of fixed size. Higher: more is repeated between and within texts.",
        HIGHER,
        True,
    ),
    Measure(
        "near_duplicate_rate",
        "Near-duplicates",
        "The share of documents that were removed as copies of another. Higher: more of the crawl is copies.",
        HIGHER,
        False,
        SHARE,
    ),
    Measure(
        "template_rate",
        "Template pairs",
        "How likely two documents drawn at random share three tenths or more of their text. Higher: texts are made "
        "from templates.",
        HIGHER,
        False,
        ROOT,
    ),
    Measure(
        "vendi",
        "Effective number of kinds",
        "How many clearly different kinds of document there are in effect, by the words they use (Vendi score; 64 at "
        "most). Lower: documents are more alike.",
        LOWER,
        True,
        LOG,
    ),
    Measure(
        "surprisal_median",
        "Surprise, median",
        "Bits a word of the median document, under a small fixed model of human text. Neither way is worse: text that "
        "base models continue is easier to guess than people's, text of assistants often harder.",
        NEITHER,
        False,
    ),
    Measure(
        "surprisal_spread",
        "Surprise, spread",
        "How far the least and the most surprising tenth of the documents lie apart, in bits a word. Lower: the odd "
        "and the plain texts at both ends are lost; but assistants' texts are not always closer together.",
        NEITHER,
        False,
    ),
    Measure(
        "surprisal_drift",
        "Surprise, drift",
        "The greatest distance between the distributions of surprise here and in the reference (Kolmogorov and "
        "Smirnov): 0 for none, 1 at most. Higher: the texts are of another making.",
        HIGHER,
        False,
        LOG,
    ),
)
_BY_NAME = {one.name: one for one in MEASURES}


def measure(name: str) -> Measure:
    """The measure of that name."""
    return _BY_NAME[name]
