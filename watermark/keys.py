"""Makes a new key: random, checked as a registry checks it, in a file of its own that only its owner can read::

    entry = Entry(id="news", scheme="kgw", variant="transformers", tokenizer="/models/llama", vocab_size=128256)
    print(keygen(entry, "keys.yaml").yaml)

A registry refers to the key by the name of its file, so that the registry itself may be shown. How much of a key counts
is the variant's doing, not ours, and none of them is as hard to guess as a cryptographic key:

| variant | a new key | what of it decides the marks |
|---|---|---|
| kgw transformers | a prime of 40 bits | 32 bits: torch's generator on a CPU takes no more of a seed |
| kgw lm-watermarking | a prime of 40 bits | 32 bits; where key · token is hashed, the remainder by 1,000,003 |
| unigram unigram | 63 bits | 32 bits of its SHA-256 |
| synthid transformers | one number a depth, no two alike | each depth by itself: the remainder by the table's size |
| synthid deepmind | 63 bits a depth | all |
| exponential three-bricks | 63 bits | 32 bits of the seed |
| exponential textseal | 31 bits | all, but of each token's hash only 13 bits |
"""

from __future__ import annotations

import fcntl
import os
import secrets
import tempfile
import textwrap
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from watermark.registry import Entry, RegistryError, key_hash
from watermark.schemes import VARIANTS

DEPTH = 30  # of SynthID, as in the published examples
_PRIME_BITS = 40  # times the sum of a context's tokens this stays below 2⁶³ in every published program
_TABLE = 1 << 16
_WITNESSES = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37)  # Miller-Rabin with these is exact below 3·10²⁴

Secret = int | tuple[int, ...]


class NewKey(NamedTuple):
    """What `keygen` wrote."""

    yaml: str  # the entry, as an item of a registry's list
    key_file: Path
    key_hash: str  # what outputs will call the key


def keygen(entry: Entry, registry: str | Path | None = None, folder: str | Path = ".", depth: int = DEPTH) -> NewKey:
    """Makes a key for an entry, writes it to its file and appends the entry to a registry.

    Args:
        entry: all but the key; ``key_file`` names the new file, ``ID.key`` where it is None.
        registry: the YAML file to append to, made if there is none; without one, only the key is written.
        folder: where the key's file is put if there is no registry; with one, it lies beside it.
        depth: how many keys a SynthID key has.

    Raises:
        RegistryError: the entry is not one that a registry takes, or its id or its file is there already. Nothing has
            been written or changed then.
    """
    if entry.key is not None or entry.key_env is not None:
        raise RegistryError(f"{entry.id}: a new key is kept in a file; leave out key and key_env")
    entry = entry.model_copy(update={"key_file": entry.key_file or f"{entry.id}.key"})
    secret = fresh_key(entry.scheme, entry.variant, entry.parameters, depth)
    try:
        VARIANTS[entry.scheme, entry.variant].build(secret, entry.vocab_size, entry.rng, entry.parameters)
    except (ValueError, TypeError) as error:
        raise RegistryError(f"{entry.id}: {error}") from None
    text = _item(entry)
    path = Path(registry).parent / str(entry.key_file) if registry else Path(folder, str(entry.key_file))
    if registry is None:
        _write_key(path, secret)
    else:
        with _locked(Path(registry).parent):
            whole = _appended(Path(registry), entry, text)
            _write_key(path, secret)
            try:
                _replace(Path(registry), whole)
            except OSError as error:
                path.unlink()
                raise RegistryError(f"{registry}: the registry cannot be written: {error.strerror}") from None
    return NewKey(text, path, key_hash(entry.scheme, entry.variant, secret))


def fresh_key(scheme: str, variant: str, parameters: Mapping[str, Any] | None = None, depth: int = DEPTH) -> Secret:
    """A random key for a variant, from the operating system's generator.

    Raises RegistryError for a variant that there is none of, and for more depths than a table has room for.

    >>> 2**39 < fresh_key("kgw", "transformers") < 2**40
    True
    >>> len(set(fresh_key("synthid", "deepmind", depth=9)))
    9
    """
    make = _FRESH.get((scheme, variant))
    if make is None:
        known = ", ".join(" ".join(name) for name in _FRESH)
        raise RegistryError(f"scheme {scheme!r} variant {variant!r} is not known; known are {known}")
    if depth < 1:
        raise RegistryError(f"depth is {depth}; it must be 1 or more")
    return make(parameters or {}, depth)


def is_prime(number: int) -> bool:
    """Whether a number below 3·10²⁴ is prime (Miller and Rabin; the witnesses of Sorenson and Webster 2015).

    >>> [n for n in range(30) if is_prime(n)], is_prime(15485863), is_prime(3215031751)
    ([2, 3, 5, 7, 11, 13, 17, 19, 23, 29], True, False)
    """
    if number < 2 or any(number % prime == 0 for prime in _WITNESSES):
        return number in _WITNESSES
    twos = ((number - 1) & -(number - 1)).bit_length() - 1
    return all(_passes(pow(base, (number - 1) >> twos, number), number, twos) for base in _WITNESSES)


def _passes(power: int, number: int, twos: int) -> bool:
    if power in (1, number - 1):
        return True
    return any((power := power * power % number) == number - 1 for _ in range(twos - 1))


def _prime(parameters: Mapping[str, Any], depth: int) -> int:
    del parameters, depth
    while True:
        number = secrets.randbits(_PRIME_BITS) | 1 << (_PRIME_BITS - 1) | 1
        if is_prime(number):
            return number


def _bits(count: int) -> Callable[[Mapping[str, Any], int], int]:
    return lambda parameters, depth: 1 + secrets.randbelow((1 << count) - 1)


def _depth_keys(parameters: Mapping[str, Any], depth: int) -> tuple[int, ...]:
    """Distinct remainders by the table's size, since two depths that share one mark the same tokens."""
    size = int(parameters.get("sampling_table_size", _TABLE))
    if depth > size:
        raise RegistryError(f"depth is {depth}; a sampling table of {size} has room for as many")
    return tuple(secrets.SystemRandom().sample(range(size), depth))


def _wide_depth_keys(parameters: Mapping[str, Any], depth: int) -> tuple[int, ...]:
    del parameters
    return tuple(secrets.randbits(63) for _ in range(depth))


_FRESH: dict[tuple[str, str], Callable[[Mapping[str, Any], int], Secret]] = {
    ("kgw", "transformers"): _prime,
    ("kgw", "lm-watermarking"): _prime,
    ("unigram", "unigram"): _bits(63),
    ("synthid", "transformers"): _depth_keys,
    ("synthid", "deepmind"): _wide_depth_keys,
    ("exponential", "three-bricks"): _bits(63),
    ("exponential", "textseal"): _bits(31),
}


def _item(entry: Entry) -> str:
    """The entry as an item of a YAML list, without what is unset."""
    shown = entry.model_dump(mode="json", exclude_none=True, exclude={"key", "key_env"})
    return str(yaml.safe_dump([shown], sort_keys=False, allow_unicode=True, width=120))


def _appended(path: Path, entry: Entry, item: str) -> str:
    """The registry's text with the item behind the last of its list; everything else stays as it is, comments too."""
    if not path.exists():
        return "keys:\n" + textwrap.indent(item, "  ")
    try:
        text = path.read_text("utf-8")
        tree: Any = yaml.compose(text, yaml.SafeLoader)
        before = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        raise RegistryError(f"{path}: the registry cannot be read, or is not YAML") from None
    items = before.get("keys") if isinstance(before, dict) else None
    if not isinstance(items, list) or not items:
        raise RegistryError(f"{path}: keys: a list of at least one entry is needed to append to")
    if any(isinstance(one, dict) and one.get("id") == entry.id for one in items):
        raise RegistryError(f"{path}: there is an entry {entry.id!r} already; a key is never replaced")
    node = next(value for name, value in tree.value if name.value == "keys")
    # Marks of block scalars end where the next thing begins, so the blank before it is taken off.
    end = text.find("\n", len(text[: _end_of(node)].rstrip()))
    end = len(text) if end < 0 else end + 1
    head = text[:end] if text[:end].endswith("\n") else text[:end] + "\n"
    whole = head + textwrap.indent(item, " " * node.start_mark.column) + text[end:]
    try:
        after = None if node.flow_style else yaml.safe_load(whole)
    except yaml.YAMLError:
        after = None
    if after != {**before, "keys": [*items, *yaml.safe_load(item)]}:
        raise RegistryError(
            f"{path}: keys: not a list of entries one below the other; run it without the registry, and "
            "append the entry that it prints by hand"
        )
    return whole


def _end_of(node: Any) -> int:
    """Where the text of the last scalar or bracket in a node ends."""
    if isinstance(node, yaml.ScalarNode) or node.flow_style or not node.value:
        return int(node.end_mark.index)
    last = node.value[-1]
    return _end_of(last[1] if isinstance(last, tuple) else last)


def _write_key(path: Path, secret: Secret) -> None:
    """A new file that only its owner can read; never over another, and never half of one."""
    numbers = [secret] if isinstance(secret, int) else secret
    try:
        with _new_file(path.parent) as (descriptor, name):
            _fill(descriptor, " ".join(map(str, numbers)) + "\n")
            os.link(name, path)
    except FileExistsError:
        raise RegistryError(f"{path}: there is a file already; a key is never replaced") from None
    except OSError as error:
        raise RegistryError(f"{path}: the key cannot be written: {error.strerror}") from None


def _replace(path: Path, text: str) -> None:
    with _new_file(path.parent) as (descriptor, name):
        _fill(descriptor, text)
        os.fchmod(descriptor, path.stat().st_mode & 0o777 if path.exists() else 0o644)
        os.rename(name, path)


def _fill(descriptor: int, text: str) -> None:
    with open(descriptor, "w", encoding="utf-8", closefd=False) as stream:
        stream.write(text)
        stream.flush()
        os.fsync(descriptor)


@contextmanager
def _new_file(folder: Path) -> Iterator[tuple[int, str]]:
    """A file of mode 0600 with a name of its own, which is gone afterwards unless it was renamed."""
    descriptor, name = tempfile.mkstemp(prefix=".new-", dir=folder)
    try:
        yield descriptor, name
    finally:
        os.close(descriptor)
        if os.path.exists(name):
            os.unlink(name)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One at a time in a folder, so that two that append at once both stay."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise RegistryError(f"{folder}: the registry's folder cannot be opened: {error.strerror}") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
