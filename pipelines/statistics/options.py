"""What an estimate of the synthetic share may be told."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PrevalenceOptions:
    """``level`` of the intervals; fewer than ``min_judged`` documents is too few; a false positive rate is taken from
    at least ``min_human`` documents from before the cut-off. The likelihood is computed for hosts with ``min_host``
    scored documents or more, and for no more than the ``most_hosts`` largest cells of each margin with a host. A share
    by host of fewer than ``min_hosts`` hosts is of too few.
    """

    level: float = 0.95
    min_judged: int = 20
    min_human: int = 200
    min_host: int = 100
    most_hosts: int = 500
    min_hosts: int = 5
