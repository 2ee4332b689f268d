from pathlib import Path

import pytest
import yaml

from pipelines.provenance.kinds import KINDS
from pipelines.provenance.policy import PolicyError, load_policy, parse_policy, reasons
from pipelines.records import Place, Verdict

ROUTES = (
    "routes: {dated: reserve, clear: reserve, suspected: review, marked: review, declared: review, "
    "undetermined: review}"
)
MINIMAL = "rules: [{verdict: clear, because: nothing was found}]\n" + ROUTES


def test_default_policy_is_whole() -> None:
    policy = load_policy(None)
    assert {rule.verdict for rule in policy.rules} == set(Verdict)
    assert policy.routes == {
        Verdict.DATED: Place.RESERVE,
        Verdict.CLEAR: Place.RESERVE,
        Verdict.SUSPECTED: Place.QUARANTINE,
        Verdict.MARKED: Place.QUARANTINE,
        Verdict.DECLARED: Place.QUARANTINE,
        Verdict.UNDETERMINED: Place.REVIEW,
    }
    assert len(reasons(policy)) == len(policy.rules)


def test_reasons_claim_no_human() -> None:
    assert not [reason for reason in reasons(load_policy(None)) if "human" in reason]


def test_own_policy_is_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(MINIMAL)
    assert load_policy(str(path)).routes[Verdict.SUSPECTED] is Place.REVIEW


def test_extra_kinds_may_be_used() -> None:
    rule = "{verdict: marked, when: {evidence_any: [own_mark]}, because: own}"
    text = f"extra_kinds: [own_mark]\nrules: [{rule}, {{verdict: clear, because: x}}]\n{ROUTES}"
    assert parse_policy(text).rules[0].when.evidence_any == ("own_mark",)


def rules(*lines: str) -> str:
    return f"rules: [{', '.join(lines)}, {{verdict: clear, because: x}}]\n{ROUTES}"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (MINIMAL + "\nspeed: 3", ["speed", "unknown key", "rules, routes, extra_kinds"]),
        (rules("{verdict: human, because: x}"), ["rules.0.verdict", "'human'", "'dated'", "'undetermined'"]),
        (rules("{verdict: dated, when: {colour: red}, because: x}"), ["rules.0.when.colour", "captured_before_cutoff"]),
        (rules("{verdict: dated, wen: {}, because: x}"), ["rules.0.wen", "verdict, when, because"]),
        (
            rules("{verdict: dated, when: {captured_before_cutoff: 3}, because: x}"),
            ["captured_before_cutoff", "3", "boolean"],
        ),
        (
            rules("{verdict: suspected, when: {machine_probability_at_least: 1.5}, because: x}"),
            ["rules.0.when.machine_probability_at_least", "1.5", "from 0 to 1, or threshold"],
        ),
        (
            rules("{verdict: suspected, when: {machine_probability_below: treshold}, because: x}"),
            ["machine_probability_below", "'treshold'", "or threshold"],
        ),
        (rules("{verdict: suspected, when: {machine_probability_below: .nan}, because: x}"), ["nan", "from 0 to 1"]),
        (
            rules("{verdict: declared, when: {evidence_any: [ai_disclosur]}, because: x}"),
            ["'ai_disclosur'", "ai_disclosure?"],
        ),
        (
            rules("{verdict: declared, when: {evidence_any: [qqqqqq]}, because: x}"),
            ["'qqqqqq'", "tag_characters", "extra_kinds"],
        ),
        (rules("{verdict: declared, when: {evidence_any: []}, because: x}"), ["rules.0.when.evidence_any"]),
        (rules("{verdict: dated, because: x}"), ["rules.0.when", "no later rule"]),
        (rules("{verdict: dated, when: {captured_before_cutoff: true}}"), ["rules.0.because", "missing"]),
        (
            f"rules: [{{verdict: dated, when: {{captured_before_cutoff: true}}, because: x}}]\n{ROUTES}",
            ["rules.0.when", "has to be empty in the last rule"],
        ),
        (MINIMAL.replace("dated: reserve, ", ""), ["routes", "missing: dated"]),
        (MINIMAL.replace("dated: reserve", "dated: bin"), ["routes.dated", "'bin'", "'reserve'"]),
        (
            MINIMAL.replace("dated: reserve", "dated: rejects"),
            ["routes", "rejects", "allowed: reserve, quarantine, review"],
        ),
        (MINIMAL.replace("dated: reserve", "outdated: reserve"), ["routes.outdated", "'dated'"]),
        ("rules: []\n" + ROUTES, ["rules"]),
        (ROUTES, ["rules", "missing"]),
        (MINIMAL + "\nrules: []", ["'rules' stands twice"]),
        ("rules: [", ["not valid YAML"]),
        ("- 1", ["expected the keys rules and routes"]),
        ("", ["expected the keys rules and routes", "None"]),
    ],
)
def test_wrong_policies_are_refused_in_one_line(text: str, parts: list[str]) -> None:
    with pytest.raises(PolicyError) as error:
        parse_policy(text)
    message = str(error.value)
    assert "\n" not in message
    assert [part for part in parts if part not in message] == [], message


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match=r"missing\.yaml: cannot be read: No such file"):
        load_policy(str(tmp_path / "missing.yaml"))


def test_every_kind_in_the_default_policy_is_documented() -> None:
    text = (Path(__file__).parents[2] / "pipelines/provenance/policy.yaml").read_text()
    used = {kind for rule in yaml.safe_load(text)["rules"] for kind in rule.get("when", {}).get("evidence_any", [])}
    informational = {
        kind for kind in KINDS if kind.endswith(("_none", "_part", "_media", "_link", "_human", "_quoted"))
    } | {kind for kind in KINDS if kind.startswith("usage_") or kind in ("unreadable_capture_time", "watermark_tested")}
    assert used | informational == set(KINDS)
    assert not {kind for kind in used if kind.startswith("usage_")}
