"""Progress on standard error: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType

from tqdm import tqdm

_POLL_SECONDS = 0.5
_LINE_SECONDS = 15.0


def say(text: str) -> None:
    """One line on standard error."""
    tqdm.write(text, file=sys.stderr)
    sys.stderr.flush()


def warn_unverified(counters: Mapping[str, int]) -> None:
    """Says what the search for near-duplicates left undone, by its counters."""
    if counters.get("pairs_unchecked"):
        say(
            f"warning: up to {counters['pairs_unchecked']:,} candidate pairs were beyond the bound and not compared; "
            "copies among them may remain"
        )
    if counters.get("pairs_estimated"):
        say(
            f"warning: {counters['pairs_estimated']:,} pairs near the threshold were decided by their signatures "
            "alone: too many were in doubt, or a text is gone"
        )


class Watch:
    """Shows how far a pipeline is while a block runs, by counting the markers that its workers write.

    The count is asked for in a thread of its own; workers may be other processes or other machines.
    """

    def __init__(self, stage: str, unit: str, total: int, done: int, count: Callable[[], int]) -> None:
        self._stage, self._unit, self._total, self._done, self._count = stage, unit, total, done, count
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._began = time.monotonic()
        self._bar = (
            tqdm(total=total, initial=done, desc=f"{stage:<8}", unit=f" {unit}", file=sys.stderr, leave=False)
            if sys.stderr.isatty()
            else None
        )

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        if self._bar is not None:
            self._bar.close()
        if kind is None:
            seconds = time.monotonic() - self._began
            say(f"{self._stage:<8} {self._total}/{self._total} {self._unit}, {seconds:.1f} s")

    def _run(self) -> None:
        last = time.monotonic()
        while not self._stop.wait(_POLL_SECONDS):
            try:
                done = min(self._count(), self._total)
            except Exception:  # a listing that fails now may work next time; progress must never end a job
                continue
            if self._bar is not None:
                self._bar.update(done - self._done)
            elif done > self._done and time.monotonic() - last >= _LINE_SECONDS:
                say(f"{self._stage:<8} {done}/{self._total} {self._unit}")
                last = time.monotonic()
            self._done = done
