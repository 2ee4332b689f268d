"""Writes the model card of a trained detector from its measured numbers (Mitchell et al., 2019, arXiv:1810.03993)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from detectors.base import ASSISTANTS, HELD_OUT, LEFT_OUT, ErrorRates, SliceRates, clopper_pearson

_USE = """\
It gives one finding among several to a batch job that sorts crawled documents, and the counts that a statistic of the
machine share needs. A flagged document shows a style that the model met more often in machine text than in human text.

**Do not use it** to accuse a person, to grade, to hire or to moderate; on a single text as proof; on texts shorter than
the minimum or in other languages; as a licence to call a text human: a low probability says that nothing was
found, and text of models that are not in the training data, paraphrased or base-model text mostly passes."""


def model_card(settings: Mapping[str, Any]) -> str:
    """The card, in Markdown, of a ``detector.json``."""
    rates = ErrorRates.from_dict(settings["error_rates"])
    parts = [
        "# Model card: the embedded detector",
        f"A linear classifier over hashed runs of up to {settings['model']['word_ngrams']} words, a byte a weight,"
        f" on the levelled view of the first {settings['scored_characters']} characters."
        f" Languages: {', '.join(settings['languages'])}."
        f" Minimum length: {settings['minimum_tokens']} tokens (words and punctuation marks; characters in Chinese)."
        f" The probability is of machine origin **at prior 0.5**, calibrated on {_calibrated(settings)}.",
        "## Intended use",
        _USE,
        "## Error rates on sets that the model never saw",
        "Each row was scored by a model trained without that set and without any text that the set shares with others."
        f"{_collections(settings)} Intervals are Clopper–Pearson, 95 %."
        " The spread between the rows, not the interval of one row, says what to expect of a new source.",
        _point_table("decision", rates.decision.threshold, rates.decision.of_kind(LEFT_OUT)),
        _point_table("quantification", rates.quantification.threshold, rates.quantification.of_kind(LEFT_OUT)),
        "### Without the text of base models",
        "The share of machine text in a crawl is estimated with the rates below. They leave out text that models"
        f" without instruction tuning continued ({', '.join(settings['options']['base_models'])}): hardly anything"
        " finds it, and what the web is written with are assistants. Where that is wrong, the true share is higher.",
        _point_table("quantification", rates.quantification.threshold, rates.quantification.of_kind(ASSISTANTS)),
        "### With calibration and threshold chosen without the set, too",
        f"The decision threshold above lets at most {settings['options']['false_positive_rate']:.0%} of human text be"
        " flagged in the worst of these very slices. Chosen without the set in question, it"
        " gives the honest forecast for a kind of human writing that nobody thought of:",
        _nested_table(settings["nested"]),
        "## Error rates on held-out texts of known sets (test split)",
        _point_table("decision", rates.decision.threshold, _by_language(rates.decision.of_kind(HELD_OUT))),
        _point_table(
            "quantification", rates.quantification.threshold, _by_language(rates.quantification.of_kind(HELD_OUT))
        ),
        "The ten slices with the highest false positive rates, of those with 20 human texts or more:",
        _worst(rates.decision),
        "## Altered and mixed text",
        _attack_table(settings["mixed"], settings["options"]["excluded_attacks"]),
        "## Training data",
        "Licences are those of the sources; for the model in the package they stand in `SOURCES.md` beside this card."
        " No training text is part of it.",
        _data_table(settings["data"]),
        "## Limits",
        "- Layout, digits and typography are levelled out before training and scoring; what remains is wording.\n"
        "- Text that an assistant writes with care, in the manner of a human model, mostly passes.\n"
        "- Formal human prose (business, law, public relations) lies closest to the threshold.\n"
        "- Continuations by base models, watermarked or not, are hardly told from human text.\n"
        "- Only rates by set are known; rates for authors of a given background, beyond learners of English, are not.",
    ]
    return "\n\n".join(parts) + "\n"


def _collections(settings: Mapping[str, Any]) -> str:
    names = ", ".join(settings["options"]["collections"])
    return f" Collections of several sources ({names}) are left out source by source." if names else ""


def _calibrated(settings: Mapping[str, Any]) -> str:
    return "sets left out of training" if settings["calibrated_on"] == LEFT_OUT else "the validation split"


def _rate(successes: int, trials: int) -> str:
    if not trials:
        return "–"
    low, high = clopper_pearson(successes, trials)
    return f"{successes / trials:.2%} ({low:.2%} to {high:.2%})"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return "Not measured."
    lines = ["| " + " | ".join(cells) + " |" for cells in (header, ["---"] * len(header), *rows)]
    return "\n".join(lines)


def _point_table(name: str, threshold: float, slices: Sequence[SliceRates]) -> str:
    rows = [
        [
            part.name,
            str(part.human),
            _rate(part.human_flagged, part.human),
            str(part.machine),
            _rate(part.machine_flagged, part.machine),
        ]
        for part in slices
    ]
    header = ["slice", "human n", "false positive rate", "machine n", "true positive rate"]
    return f"At the {name} threshold, probability ≥ {threshold:.4f}:\n\n{_table(header, rows)}"


def _nested_table(nested: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        [
            "/".join(filter(None, (part["set"], part["language"]))),
            f"{part['threshold']:.4f}",
            _rate(part["human_flagged"], part["human"]),
            _rate(part["machine_flagged"], part["machine"]),
        ]
        for part in nested
    ]
    return _table(["set", "threshold", "false positive rate", "true positive rate"], rows)


def _by_language(slices: Sequence[SliceRates]) -> list[SliceRates]:
    return [part for part in slices if not part.set]


def _worst(point: Any) -> str:
    slices = [part for part in point.of_kind(HELD_OUT) if part.set and part.human >= 20]
    slices.sort(key=lambda part: (-part.false_positive_rate, part.name))
    rows = [[part.name, str(part.human), _rate(part.human_flagged, part.human)] for part in slices[:10]]
    return _table(["slice", "human n", "false positive rate at the decision threshold"], rows)


def _attack_table(mixed: Sequence[Mapping[str, Any]], excluded: Sequence[str]) -> str:
    rows = [
        [
            (part["attack"] or "none") + (" (neither trained on nor counted)" if part["attack"] in excluded else ""),
            str(part["n"]),
            _rate(part["flagged_decision"], part["n"]),
            _rate(part["flagged_quantification"], part["n"]),
        ]
        for part in mixed
    ]
    return _table(["alteration", "n", "flagged at the decision threshold", "at the quantification threshold"], rows)


def _data_table(data: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        [
            part["set"],
            str(part["human"]),
            str(part["machine"]),
            ", ".join(part["languages"]),
            ", ".join(part["domains"]),
            ", ".join(name for name in part["generators"] if name),
        ]
        for part in data
    ]
    return _table(["set", "human", "machine", "languages", "domains", "generators"], rows)
