"""The prior as a job names it: a table of shares by month, a YAML file of one, or an earlier output's own estimates.

>>> read_prior({"2024-01": 0.1, "2025-01": 0.25})
{'2024-01': 0.1, '2025-01': 0.25}
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

import pyarrow.compute as pc
import yaml

from pipelines import files
from pipelines.layout import Layout
from pipelines.provenance.fusion import BEFORE, UNKNOWN

_MONTH = re.compile(r"[0-9]{4}-(0[1-9]|1[0-2])")
_LEAST = 0.001  # an estimate of none, or of all, is an estimate all the same
_ALLOWED = f"a table of months (2024-05) or {BEFORE} or {UNKNOWN} to shares between 0 and 1"


class PriorError(ValueError):
    """A prior that cannot be used; the message is one line."""


def read_prior(value: object) -> dict[str, float] | None:
    """Month (``YYYY-MM``) → share of machine text; None for None.

    Args:
        value: such a table, the path of a YAML file with one, or the path of a finished output.

    Raises:
        PriorError: the table or file holds something else, or the output has no estimate for any month.
    """
    if value is None:
        return None
    if isinstance(value, Mapping):
        return _checked(value)
    if not isinstance(value, str) or not value:
        raise PriorError(f"expected {_ALLOWED}, or the path of a YAML file or of an earlier output")
    if files.is_local(value) and os.path.isfile(value):
        return _checked(_yaml(value))
    return _estimates(value)


def _yaml(path: str) -> Mapping[Any, Any]:
    try:
        with open(path, encoding="utf-8") as stream:
            table = yaml.safe_load(stream)
    except (OSError, UnicodeDecodeError) as error:
        raise PriorError(f"cannot be read: {getattr(error, 'strerror', None) or error}") from None
    except yaml.YAMLError as error:
        raise PriorError(f"not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(table, dict):
        raise PriorError(f"expected {_ALLOWED}; the file holds a {type(table).__name__}")
    return table


def _checked(table: Mapping[Any, Any]) -> dict[str, float]:
    for name, share in table.items():
        if not isinstance(name, str) or not (_MONTH.fullmatch(name) or name in (BEFORE, UNKNOWN)):
            raise PriorError(f"{name} is no month; expected {_ALLOWED}")
        if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 < share < 1:
            raise PriorError(f"{name}: {share!r} is no share between 0 and 1, which no evidence could move at its ends")
    if not table:
        raise PriorError(f"the table is empty; expected {_ALLOWED}")
    return {name: float(table[name]) for name in sorted(table)}


def _estimates(output: str) -> dict[str, float]:
    """The estimates of an earlier output for its documents without copies, which are what a posterior is given to."""
    layout = Layout(output)
    try:
        if files.read_json(layout.summary) is None:
            raise PriorError("neither a YAML file nor a finished output (no summary.json)")
        table = files.read_parquet(layout.statistics("prevalence"))
    except files.FAILURES as error:
        raise PriorError(f"cannot be read: {' '.join(str(error).split())}") from None
    for name, wanted in {"margin": "month", "unit": "documents", "population": "deduplicated"}.items():
        table = table.filter(pc.equal(table[name], wanted))
    if table.num_rows and "detector" in table.schema.names:
        # Each detector has its own estimates, and the first is the one that decides.
        table = table.filter(pc.fill_null(pc.equal(table["detector"], table["detector"][0]), True))
    table = table.filter(pc.and_(pc.is_valid(table["estimate"]), pc.invert(table["too_few"])))
    found = dict(zip(table["month"].to_pylist(), table["estimate"].to_pylist(), strict=True))
    shares = {month: min(max(share, _LEAST), 1 - _LEAST) for month, share in found.items()}
    if not any(_MONTH.fullmatch(month) for month in shares):
        raise PriorError("this output has no estimate for any month; its detector judged too few documents")
    return _checked(shares)
