"""The policy: how evidence becomes a verdict, and a verdict a place. Data, not code.

Rules are tried in order, and the first whose conditions all hold gives the verdict; the last has no condition::

    >>> policy = load_policy(None)
    >>> policy.rules[-1].verdict.value, policy.routes[policy.rules[-1].verdict].value
    ('clear', 'reserve')

A wrong policy gives a :class:`PolicyError` of one line that names the key, its value and what is allowed.
"""

from __future__ import annotations

import difflib
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, StrictBool, ValidationError, field_validator, model_validator

from pipelines.provenance.kinds import KINDS
from pipelines.records import Place, Verdict

Probability = Annotated[float, Field(ge=0, le=1, strict=True, allow_inf_nan=False)]
Bound = Literal["threshold"] | Probability
_ROUTABLE = (Place.RESERVE, Place.QUARANTINE, Place.REVIEW)


class PolicyError(ValueError):
    """A policy that cannot be used; the message is one line."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Conditions(_Model):
    """What has to hold for a rule, all of it. A condition that is left out is not asked.

    ``captured_before_cutoff``: whether the capture time is known and before the cut-off; the instant itself is after.
    ``older_copy_before_cutoff``: whether a verified near-duplicate was captured before the cut-off.
    ``evidence_any``, ``evidence_none``: at least one, or no, finding is of these kinds.
    ``machine_probability_at_least``, ``machine_probability_below``: a number, or ``threshold`` for the detector's own
    decision threshold; false where no detector spoke.
    ``detector_abstained``: whether no detector spoke.
    """

    captured_before_cutoff: StrictBool | None = None
    older_copy_before_cutoff: StrictBool | None = None
    evidence_any: tuple[str, ...] | None = Field(default=None, min_length=1)
    evidence_none: tuple[str, ...] | None = Field(default=None, min_length=1)
    machine_probability_at_least: Bound | None = None
    machine_probability_below: Bound | None = None
    detector_abstained: StrictBool | None = None

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of evidence that are asked for."""
        return (self.evidence_any or ()) + (self.evidence_none or ())

    @property
    def is_empty(self) -> bool:
        """Whether the rule always holds."""
        return all(value is None for _, value in self)


class Rule(_Model):
    """One line of the policy: the verdict, when it holds, and why, in plain words."""

    verdict: Verdict
    when: Conditions = Conditions()
    because: str = Field(min_length=1)


class Policy(_Model):
    """Rules and routes. ``extra_kinds`` names kinds of evidence that own detectors add."""

    rules: tuple[Rule, ...] = Field(min_length=1)
    routes: dict[Verdict, Place]
    extra_kinds: tuple[str, ...] = ()

    @field_validator("routes")
    @classmethod
    def _every_verdict_has_a_route(cls, routes: dict[Verdict, Place]) -> dict[Verdict, Place]:
        if missing := [verdict.value for verdict in Verdict if verdict not in routes]:
            raise ValueError(f"every verdict needs a place; missing: {', '.join(missing)}")
        for verdict, place in routes.items():
            if place not in _ROUTABLE:
                raise ValueError(f"{verdict.value}: {place.value} is not a place for verdicts; {_allowed(_ROUTABLE)}")
        return {verdict: routes[verdict] for verdict in Verdict}

    @model_validator(mode="after")
    def _kinds_are_known(self) -> Policy:
        known = [*KINDS, *self.extra_kinds]
        for at, rule in enumerate(self.rules):
            for kind in rule.when.kinds:
                if kind not in known:
                    close = difflib.get_close_matches(kind, known, 1)
                    hint = f"did you mean {close[0]}?" if close else f"{_allowed(known)}, or a name in extra_kinds"
                    raise ValueError(f"rules.{at}.when: {kind!r} is not a kind of evidence; {hint}")
        return self

    @model_validator(mode="after")
    def _last_rule_is_the_only_one_without_conditions(self) -> Policy:
        for at, rule in enumerate(self.rules[:-1]):
            if rule.when.is_empty:
                raise ValueError(
                    f"rules.{at}.when: is empty, so that no later rule is ever reached; allowed in the last"
                )
        if not self.rules[-1].when.is_empty:
            raise ValueError(
                f"rules.{len(self.rules) - 1}.when: has to be empty in the last rule: every document needs a verdict"
            )
        return self


def load_policy(path: str | None) -> Policy:
    """The policy in a YAML file, or the default one of the package.

    Raises:
        PolicyError: the file cannot be read, is no YAML or is no policy.
    """
    try:
        text = (
            Path(path).read_text("utf-8")
            if path
            else files("pipelines.provenance").joinpath("policy.yaml").read_text("utf-8")
        )
    except (OSError, UnicodeDecodeError) as error:
        raise PolicyError(f"policy: {path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    try:
        return parse_policy(text)
    except PolicyError as error:
        raise PolicyError(f"policy: {path or 'default'}: {error}") from error


def parse_policy(text: str) -> Policy:
    """The policy in a YAML text; raises :class:`PolicyError`."""
    try:
        data = yaml.load(text, _UniqueKeys)
    except (yaml.YAMLError, RecursionError) as error:
        raise PolicyError(f"not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(data, dict):
        raise PolicyError(f"expected the keys rules and routes, got {_short(data)}")
    try:
        return Policy.model_validate(data)
    except ValidationError as error:
        raise PolicyError(_one_line(error)) from error


def reasons(policy: Policy) -> list[str]:
    """Why each rule speaks, in the order of the rules; index it with ``Decisions.rule``."""
    return [rule.because for rule in policy.rules]


class _UniqueKeys(yaml.SafeLoader):
    """YAML in which a key that stands twice is an error: the first value would be lost silently."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            if key_node.value in seen and key_node.tag != "tag:yaml.org,2002:merge":
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key_node.value!r} stands twice", key_node.start_mark
                )
            if isinstance(key_node.value, str):
                seen.add(key_node.value)
        return super().construct_mapping(node, deep)


def _one_line(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    where = ".".join(
        str(part) for part in first["loc"] if part not in ("float", "constrained-float") and "literal" not in str(part)
    )
    where = where.removesuffix(".[key]")
    match first["type"]:
        case "value_error":
            return ": ".join(filter(None, [where, str(first["ctx"]["error"])]))
        case "extra_forbidden":
            return f"{where}: unknown key; allowed: {', '.join(_fields_at(first['loc']))}"
        case "missing":
            return f"{where}: is missing"
        case _ if where.split(".")[-1].startswith("machine_probability"):
            return f"{where}: {_short(first['input'])} is not allowed; allowed: a number from 0 to 1, or threshold"
        case _:
            return f"{where}: {_short(first['input'])} is not allowed; {first['msg'].lower()}"


def _fields_at(location: tuple[int | str, ...]) -> list[str]:
    model: type[BaseModel] = Policy
    if len(location) > 2:
        model = Conditions if "when" in location else Rule
    return list(model.model_fields)


def _allowed(values: Any) -> str:
    return f"allowed: {', '.join(str(value) for value in values)}"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
