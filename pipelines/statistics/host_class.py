"""The class of a host, by its name alone: government, news, blog, shop and so on, or "other".

    host_classes(pa.array(["www.gov.uk", "blog.example.com", None]))  # ["government", "blog", "other"]

The rules are in ``host_classes.yaml`` beside this file, and a file of one's own goes before them::

    rules = load_host_classes("classes.yaml")  # news: [mynewspaper.com, "*bulletin"]
    host_classes(hosts, rules)

A YAML file maps each class to its patterns; a TSV file has a pattern and its class on each line. Patterns are

- ``nytimes.com``: this domain and everything below it. ``amazon.*``: the same with any public ending, one label or two.
- ``.gov``: everything below this ending, and itself. ``.ac.xx``: an ending before the two letters of any country.
- ``news``: a word of the name, where words are what dots and hyphens divide, without the public ending and without
  digits at the end. ``*news`` and ``news*``: how a word ends or starts.

Domains and endings decide before words; of those the longest, and of words the leftmost. A name says what a host calls
itself, not what is on it: the classes serve to see shares side by side, and are no finding about a host. Public endings
are recognised by their form (``co.uk``, ``com.br``), not by the Public Suffix List.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any

import pyarrow as pa
import yaml

from pipelines.errors import UsageError

OTHER = "other"
CLASSES = ("government", "education", "news", "blog", "forum", "reference", "shop", "code", "social", OTHER)
MOST_CLASSES = 16  # with those of one's own file: each class is a slice of every statistic
_SECOND_LEVEL = frozenset(
    {"ac", "co", "com", "edu", "go", "gob", "gouv", "gov", "govt", "gub", "gv", "id", "info", "ltd", "me", "mil", "ne"}
    | {"net", "nom", "or", "org", "plc", "sch", "web"}
)
_NAME = re.compile(r"[a-z][a-z0-9 _-]{0,31}")
_DOMAIN = re.compile(r"\.?[^\s.*]+(\.[^\s.*]+)*(\.\*)?")
_WORD = re.compile(r"\*[^\s.*]{2,}|[^\s.*]{2,}\*?")


@dataclass(frozen=True)
class HostClasses:
    """Rules: ``domains`` and ``words`` are patterns with their classes; ``after`` is asked where none of them fits."""

    domains: Mapping[str, str]
    words: Mapping[str, str]
    after: HostClasses | None = None

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes that hosts can come to be of: :data:`CLASSES`, then those of the user's own file."""
        own = {
            name for rules in (self, self.after) if rules for name in (*rules.domains.values(), *rules.words.values())
        }
        return (*CLASSES, *sorted(own - set(CLASSES)))

    def of(self, host: str) -> str:
        """The class of one host; :data:`OTHER` where no rule fits."""
        labels = host.lower().split(":")[0].rstrip(".").split(".")
        if len(labels) == 4 and _is_address(".".join(labels)):
            return OTHER
        end = len(labels) - _ending(labels)
        rules: HostClasses | None = self
        while rules is not None:
            found = rules._by_domain(labels, end) or rules._by_word(labels[:end])
            if found is not None:
                return found
            rules = rules.after
        return OTHER

    def _by_domain(self, labels: list[str], end: int) -> str | None:
        country = len(labels[-1]) == 2
        for at in range(len(labels)):
            keys = [".".join(labels[at:])]
            if at < end:
                keys.append(".".join(labels[at:end]) + ".*")
            if country and at < len(labels) - 1:
                keys.append(".".join(labels[at:-1]) + ".xx")
            for key in keys:
                if (found := self.domains.get(key)) is not None:
                    return found
        return None

    def _by_word(self, labels: list[str]) -> str | None:
        starts, ends = self._affixes
        for word in (word.rstrip("0123456789") for label in labels if label != "www" for word in label.split("-")):
            if (found := self.words.get(word)) is not None:
                return found
            if word.startswith(starts) or word.endswith(ends):
                for cut in range(len(word), 1, -1):
                    found = self.words.get(f"{word[:cut]}*") or self.words.get(f"*{word[-cut:]}")
                    if found is not None:
                        return found
        return None

    @cached_property
    def _affixes(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """How words may start, and how they may end: most do neither, and need no closer look."""
        starts = tuple(word[:-1] for word in self.words if word.endswith("*"))
        return starts, tuple(word[1:] for word in self.words if word.startswith("*"))


def host_classes(hosts: pa.Array | pa.ChunkedArray, rules: HostClasses | None = None) -> pa.Array:
    """The class of each host, a string and never null; time goes with the number of different hosts.

    Args:
        hosts: strings; null, and names that no rule knows, give :data:`OTHER`.
        rules: of :func:`load_host_classes`; by default those of the package.
    """
    rules = rules or load_host_classes()
    encoded = hosts.combine_chunks() if isinstance(hosts, pa.ChunkedArray) else hosts
    if isinstance(encoded, pa.ChunkedArray):  # of a table without rows
        encoded = pa.array([], hosts.type)
    encoded = encoded.cast(pa.string()).dictionary_encode()
    names: list[str] = encoded.dictionary.to_pylist()
    by_name = pa.array([*map(rules.of, names), OTHER], pa.string())
    return by_name.take(encoded.indices.fill_null(len(names)))


def load_host_classes(path: str | None = None) -> HostClasses:
    """The rules of the package, behind those of a YAML or TSV file where one is given.

    Raises UsageError, in one line that names the file, the place and what is allowed.
    """
    if path is None:
        return _package_rules()
    try:
        text = Path(path).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise UsageError(f"{path}: the host classes cannot be read: {reason}") from None
    pairs = _tsv(text, path) if path.endswith((".tsv", ".txt")) else _yaml(text, path)
    rules = _rules(pairs, path, _package_rules())
    if len(rules.classes) > MOST_CLASSES:
        raise UsageError(f"{path}: {len(rules.classes)} classes with the package's own; allowed: {MOST_CLASSES}")
    return rules


@cache
def _package_rules() -> HostClasses:
    name = "host_classes.yaml"
    return _rules(_yaml(files("pipelines.statistics").joinpath(name).read_text("utf-8"), name), name, None)


def _yaml(text: str, path: str) -> Iterable[tuple[str, Any, Any]]:
    """(place, pattern, class) of each rule."""
    try:
        data = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        hint = "; patterns that start with * need quotes" if "alias" in str(error) else ""
        raise UsageError(f"{path}: not valid YAML: {' '.join(str(error).split())}{hint}") from None
    if not isinstance(data, dict):
        raise UsageError(f"{path}: expected classes with lists of patterns, such as 'news: [nytimes.com, \"*news\"]'")
    for name, patterns in data.items():
        if not isinstance(patterns, list):
            raise UsageError(f"{path}: {name}: expected a list of patterns, got {patterns!r}")
        for at, pattern in enumerate(patterns):
            yield f"{name}[{at}]", pattern, name


def _tsv(text: str, path: str) -> Iterable[tuple[str, Any, Any]]:
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and not line.startswith("#"):
            pattern, tab, name = line.partition("\t")
            if not tab:
                raise UsageError(f"{path}: line {number}: expected a pattern, a tab and a class, got {line[:60]!r}")
            yield f"line {number}", pattern.strip(), name.strip()


def _rules(pairs: Iterable[tuple[str, Any, Any]], path: str, after: HostClasses | None) -> HostClasses:
    domains: dict[str, str] = {}
    words: dict[str, str] = {}
    for place, pattern, name in pairs:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise UsageError(f"{path}: {place}: {name!r} is no name of a class; allowed: a-z, 0-9, space, - and _")
        pattern = pattern.lower() if isinstance(pattern, str) else pattern
        if isinstance(pattern, str) and "." in pattern and _DOMAIN.fullmatch(pattern):
            kind, key = domains, pattern.removeprefix(".")
        elif isinstance(pattern, str) and _WORD.fullmatch(pattern):
            kind, key = words, pattern
        else:
            raise UsageError(
                f"{path}: {place}: {pattern!r} is no pattern; allowed: a domain (nytimes.com, amazon.*), an ending "
                "(.gov, .ac.xx), or a word (news, *news, news*)"
            )
        if kind.setdefault(key, name) != name:
            raise UsageError(f"{path}: {place}: {pattern!r} is of class {kind[key]!r} already")
    return HostClasses(domains, words, after)


def _ending(labels: list[str]) -> int:
    """How many labels the public ending has, by its form; 0 for a name without a dot."""
    if len(labels) < 2:
        return 0
    of_country = len(labels) > 2 and len(labels[-1]) == 2
    of_state = labels[-1] == "us" and len(labels[-2]) == 2
    return 2 if of_country and (of_state or labels[-2] in _SECOND_LEVEL) else 1


def _is_address(host: str) -> bool:
    try:
        ipaddress.IPv4Address(host)
    except ValueError:
        return False
    return True
