"""Reads the phrases, tokens, names and values that the checks of this room look for.

``leaked_phrases.yaml`` and ``leaked_interface.yaml`` hold what leaks from chatbots, ``signals.yaml`` what pages say.
To add one, add an entry there; the files explain their keys, and the tests run every pattern against human text.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, field_validator

from pipelines.provenance.anchors import WINDOW
from pipelines.provenance.kinds import KINDS


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Leak(_Model):
    """One leaked phrase, token or link: what to look for, where, and what it is evidence of.

    ``id`` names it in the evidence. ``language``: ISO 639-1, None for what is no word of one language.
    """

    id: str = Field(pattern=r"^[a-z0-9]+(?:-[a-z0-9]+)*$", max_length=40)
    language: str | None = Field(default=None, pattern=r"^[a-z]{2}$")
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
    """All signals of the package."""

    leaks: tuple[Leak, ...]
    disclosure: Disclosure
    generators: tuple[str, ...]
    text_types: TextTypes

    @field_validator("leaks")
    @classmethod
    def _have_ids_of_their_own(cls, leaks: tuple[Leak, ...]) -> tuple[Leak, ...]:
        ids = [leak.id for leak in leaks]
        if twice := sorted({name for name in ids if ids.count(name) > 1}):
            raise ValueError(f"ids that stand twice: {', '.join(twice)}")
        return leaks


@cache
def load_signals() -> Signals:
    """The signals of the package."""
    data = _read("signals.yaml")
    leaks = [leak for name in ("leaked_phrases.yaml", "leaked_interface.yaml") for leak in _read(name)["leaks"]]
    return Signals.model_validate(data | {"leaks": leaks})


def _read(name: str) -> dict[str, Any]:
    data: dict[str, Any] = yaml.safe_load(files("pipelines.provenance").joinpath(name).read_text("utf-8"))
    return data
