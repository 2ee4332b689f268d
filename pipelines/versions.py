"""Which code made an output: versions for people, and a digest of the source for resuming."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import platform
from collections.abc import Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable

_PACKAGES = ("pipelines", "detectors", "watermark")
_NAMED = ("human-reserve", "apache-beam", "pyarrow", "numpy", "numba", "resiliparse", "datasketch")


@functools.cache
def code_digest() -> str:
    """SHA-256 (hex) over the source and data files of the three packages.

    Work that was staged by other code is not taken up again.
    """
    digest = hashlib.sha256()
    for package in _PACKAGES:
        for name, item in sorted(_walk(files(package), package)):
            digest.update(name.encode() + b"\0" + hashlib.sha256(item.read_bytes()).digest())
    return digest.hexdigest()


def versions() -> dict[str, str]:
    """Versions of Python, of this distribution and of the libraries that shape the output."""
    found = {"python": platform.python_version()}
    for name in _NAMED:
        found[name] = importlib.metadata.version(name)
    return found | {"code": code_digest()[:16]}


def _walk(folder: Traversable, name: str) -> Iterator[tuple[str, Traversable]]:
    for item in folder.iterdir():
        path = f"{name}/{item.name}"
        if item.is_dir():
            if item.name != "__pycache__":
                yield from _walk(item, path)
        elif not item.name.endswith((".pyc", ".nbi", ".nbc")):
            yield path, item
