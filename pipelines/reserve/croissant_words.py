"""What Croissant's terms of responsible AI say of an output: sentences made of the summary's figures.

Source: http://mlcommons.org/croissant/RAI/1.0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipelines.records import Verdict
from pipelines.reserve.audits import audit_sentence
from pipelines.reserve.card import MEANINGS, false_positives_sentence, repeats_sentence, share_sentence
from pipelines.reserve.card import watermarks_sentence as marks_sentence

Json = dict[str, Any]


def responsible_terms(summary: Mapping[str, Any]) -> Json:
    """The terms by name; those that do not apply are left out.

    Args:
        summary: of the run, as `summary.json` holds it.
    """
    whole = dict(summary)
    terms = {
        "rai:dataCollection": _collection(whole),
        "rai:dataCollectionType": ["Web Scraping", "Secondary Data analysis"],
        "rai:dataCollectionRawData": (
            "The shards under prov:wasDerivedFrom, which are not part of this output. Each document names its shard, "
            "where in it the record begins, and the SHA-256 of the bytes that the crawler kept."
        ),
        "rai:dataCollectionMissingData": _missing(whole),
        "rai:dataPreprocessingProtocol": _preprocessing(whole),
        "rai:dataManipulationProtocol": _manipulation(whole),
        "rai:dataAnnotationProtocol": _annotation(whole),
        "rai:annotationsPerItem": _per_item(whole),
        "rai:machineAnnotationTools": _tools(whole),
        "rai:dataLimitations": _limitations(whole),
        "rai:dataBiases": _biases(whole),
        "rai:dataUseCases": _uses(whole),
        "rai:personalSensitiveInformation": [
            "The texts stand as they were extracted from the pages. Names, addresses and other personal data in them "
            "were neither searched for nor removed, and `url` and `host` name the pages."
        ],
        "rai:dataReleaseMaintenancePlan": _maintenance(whole),
    }
    return {name: words for name, words in terms.items() if words}


def _collection(summary: Json) -> str:
    job, records = summary["job"], summary["records"]
    return (
        f"{records['in']:,} records were read from {len(job['inputs']):,} shards that a web crawl had written; no page "
        "was fetched for this output. URLs, capture times and payloads are the crawl's own word."
    )


def _missing(summary: Json) -> str:
    records = summary["records"]
    return (
        f"{records['rejects']:,} records gave no document; rejects/ says why of each. Columns are null where the crawl "
        "or a check gives nothing: captured_at, language and machine_probability among them. Of copies with the very "
        "same text, the text stands once."
    )


def _preprocessing(summary: Json) -> list[str]:
    near = summary["job"]["settings"]["neardup"]
    steps = ["The main text of each page was extracted, and its language identified."]
    if near["enabled"]:
        steps.append(
            f"Near-duplicates (similarity of {near['threshold']} or more on shingles of {near['shingle']} words; "
            f"verified: {near['verify']}) were grouped, one of each group was kept (by {', '.join(near['keep'])}), and "
            "the others were moved to duplicates/."
        )
    steps.append("Each document was moved to the folder to which the policy sends its verdict.")
    return steps


def _manipulation(summary: Json) -> str:
    repeats = summary["repeats"]
    return repeats_sentence(repeats) if repeats and repeats["mode"] == "trim" else ""


def _annotation(summary: Json) -> str:
    policy = summary["job"]["policy"]
    rules = "; ".join(f"{rule['verdict']}: {rule['because']}" for rule in policy["rules"])
    return f"The first rule of the policy that holds gives the verdict. {rules}."


def _per_item(summary: Json) -> str:
    said = "0 by people: programs and the rules of the policy gave all verdicts"
    audit = summary.get("audit")
    if not audit:
        return said
    return f"{said}. {audit['labelled']:,} documents of a random sample were labelled by people to measure them."


def _tools(summary: Json) -> list[str]:
    detector, marks = summary["detector"], summary["watermarks"]
    tools = [f"detector {detector['name']}, digest {detector['digest']}"] if detector else []
    return [*tools, marks_sentence(marks)] if marks else tools


def _limitations(summary: Json) -> list[str]:
    verdicts = summary["verdicts"]
    said = [
        "A verdict says when a page was captured, according to the crawl, and which signs of machine origin were "
        "found. It proves nothing about who or what wrote a text.",
        f"Of {verdicts.get(Verdict.CLEAR, 0):,} documents nothing more is known than: "
        f"{MEANINGS[Verdict.CLEAR]}. Machine text without a known signal is among them.",
        share_sentence(summary),
    ]
    found, audit = false_positives_sentence(summary), summary.get("audit")
    return [*said, *([found] if found else []), *([audit_sentence(audit)] if audit else [])]


def _biases(summary: Json) -> list[str]:
    undetermined = summary["verdicts"].get(Verdict.UNDETERMINED, 0)
    said = [
        "The crawl chose the pages: sites, languages and years stand in its proportions, as statistics/ counts them.",
        f"{undetermined:,} documents are undetermined ({MEANINGS[Verdict.UNDETERMINED]}); where the policy keeps "
        "these out of the reserve, short texts and languages without a calibrated detector are rarer there.",
    ]
    if summary["detector"]:
        said.append(
            "A detector errs more often on some kinds of text than on others; what it flags wrongly after the cut-off "
            "is missing from the reserve."
        )
    return said


def _uses(summary: Json) -> list[str]:
    return [
        "Training and anchoring language models on text with a known capture date and a known decision.",
        "Measuring the share of machine text in a crawl, by month, host and language.",
        "Not for: deciding who wrote a single text, or training a detector on these verdicts as if they were the "
        "truth; they are what detectors and rules said.",
    ]


def _maintenance(summary: Json) -> str:
    if not summary["seal"]:
        return ""
    return (
        "Releases go on from one another in one log, and nothing sealed is rewritten. A document that is withdrawn "
        "leaves an entry in the log that says so."
    )
