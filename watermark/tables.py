"""Tables of frequent pairs for the keys of a registry, in a folder that the processes of one machine share.

The tables tell the green lists, so they are as secret as the keys: the folder is made private, and is deleted by who
made it. A process that does not see the folder, on another machine, makes the tables for itself::

    with shared_tables() as tables:
        Scanner(registry, tables)  # writes the tables
        ...  # and so a Scanner with the same `tables` in another process maps them
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from watermark import kgw
from watermark.frequent_pairs import PairTable, build_table, can_screen, load_table, save_table

TABLE_BYTES = 64 << 20  # a group of keys; with 50 keys that is 2,896 x 2,896 pairs


@dataclass(frozen=True)
class Tables:
    """Where the tables are; None: nowhere but in this process."""

    folder: str | None = None

    def of(self, keys: Sequence[Any]) -> PairTable | None:
        """The table for keys that are scored together, made where there is none yet; None for keys without one."""
        if not isinstance(keys[0], kgw.Key) or kgw.self_salted(keys[0]) or not can_screen(keys[0]):
            return None
        if self.folder is None or not os.path.isdir(self.folder):
            return build_table(keys, limit=TABLE_BYTES)
        # Named by the keys, which the private folder's other files tell as well.
        name = hashlib.sha256(repr([(key, key.key) for key in keys]).encode()).hexdigest()[:24]
        path = os.path.join(self.folder, name)
        try:
            return load_table(path, keys)
        except OSError:
            table = build_table(keys, limit=TABLE_BYTES)
        save_table(table, path)
        return load_table(path, keys)


@contextmanager
def shared_tables() -> Iterator[Tables]:
    """A private folder for tables, gone at the end."""
    with tempfile.TemporaryDirectory(prefix="reserve-tables-") as folder:
        yield Tables(folder)
