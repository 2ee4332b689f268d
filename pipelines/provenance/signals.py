"""Reads ``signals.yaml``: the phrases, tokens, names and values that the checks of this room look for.

To add one, add an entry there; the file explains its keys, and the tests run every pattern against human text.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, field_validator

from pipelines.provenance.anchors import WINDOW
from pipelines.provenance.kinds import KINDS


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Leak(_Model):
    """One leaked phrase, token or link: what to look for, where, and what it is evidence of."""

    kind: str
    where: Literal["text", "html", "both"]
    anchors: tuple[str, ...]
    pattern: str

    @field_validator("kind")
    @classmethod
    def _is_a_kind(cls, kind: str) -> str:
        if kind not in KINDS:
            raise ValueError(f"not a kind of evidence; allowed: {', '.join(KINDS)}")
        return kind

    @field_validator("anchors")
    @classmethod
    def _are_searchable(cls, anchors: tuple[str, ...]) -> tuple[str, ...]:
        if not anchors or any(len(anchor.encode()) < WINDOW for anchor in anchors):
            raise ValueError(f"anchors have to be given, of at least {WINDOW} bytes each")
        return anchors

    def compile(self) -> re.Pattern[str]:
        """The pattern, in which a space stands for any white space and an apostrophe also for the curly one."""
        return re.compile("".join(_LOOSE.get(part, part) for part in _PART.findall(self.pattern)), re.IGNORECASE)


# An escape, a character class as a whole, or one character.
_PART = re.compile(r"\\.|\[(?:\\.|[^\]\\])*\]|.", re.DOTALL)
_LOOSE = {" ": r"(?:\s{1,4})", "'": "['’]"}


class Disclosure(_Model):
    """The names and values of an AI disclosure."""

    names: tuple[str, ...]
    generated: frozenset[str]
    assisted: frozenset[str]
    none: frozenset[str]


class TextTypes(_Model):
    """The schema.org types whose ``digitalSourceType`` speaks of a page's text."""

    names: frozenset[str]
    endings: tuple[str, ...]


class Signals(_Model):
    """All of ``signals.yaml``."""

    leaks: tuple[Leak, ...]
    disclosure: Disclosure
    generators: tuple[str, ...]
    text_types: TextTypes


@cache
def load_signals() -> Signals:
    """The signals of the package."""
    text = files("pipelines.provenance").joinpath("signals.yaml").read_text("utf-8")
    return Signals.model_validate(yaml.safe_load(text))
