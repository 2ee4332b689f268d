"""Feeds the reader of shards, or the checks of pages, with damaged input for a while.

    python -m tests.fuzz --seconds 600 --target reader --output /tmp/findings

With atheris (``pip install atheris``) coverage guides the changes; without, they are drawn at random. Each input that
raises, takes over 10 s or over 1 GiB is written to the output folder, once for each place in the code, beside what was
raised. Ends with status 1 if there was any.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

SLOW = 10.0  # s
HANGS = 60  # s
_MEMORY = 1 << 20  # KiB by which one input may raise the peak


class HangError(Exception):
    """An input that does not end."""


class Trial:
    """Runs a target on inputs, counts them, and keeps those that fail."""

    def __init__(self, target: Callable[[bytes], None], folder: Path) -> None:
        self._target = target
        self._folder = folder
        self._seen: set[str] = set()
        self.began = time.monotonic()
        self.runs = 0
        self.slowest = 0.0
        signal.signal(signal.SIGALRM, self._hang)

    def _hang(self, signum: int, frame: FrameType | None) -> None:
        raise HangError

    def __call__(self, data: bytes) -> None:
        """One input."""
        self.runs += 1
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        began = time.monotonic()
        signal.alarm(HANGS)
        try:
            self._target(data)
        except Exception as error:  # whatever it is, it is what is looked for
            self._keep(data, _place(error), traceback.format_exc())
        finally:
            signal.alarm(0)
        took = time.monotonic() - began
        if took > self.slowest:
            self.slowest = took
            self._write("slowest", data, f"{took:.2f} s\n")
        if took > SLOW:
            self._keep(data, f"slow {len(data) >> 14}", f"{took:.1f} s\n")
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory
        if grown > _MEMORY:
            self._keep(data, "memory", f"{grown >> 10} MiB more\n")

    def _keep(self, data: bytes, place: str, said: str) -> None:
        if place not in self._seen:
            self._seen.add(place)
            self._write(hashlib.sha256(place.encode()).hexdigest()[:12], data, said)
            print(f"finding: {place}", flush=True)

    def _write(self, name: str, data: bytes, said: str) -> None:
        (self._folder / name).write_bytes(data)
        (self._folder / f"{name}.txt").write_text(said)

    def report(self) -> int:
        """Says what was done; gives the exit status."""
        seconds = time.monotonic() - self.began
        print(f"{self.runs} runs in {seconds:.0f} s, {self.runs / seconds:.0f} a second; slowest {self.slowest:.2f} s")
        print(f"{len(self._seen)} findings" + (f" in {self._folder}" if self._seen else ""), flush=True)
        return 1 if self._seen else 0


def _place(error: BaseException) -> str:
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "/pipelines/" in frame.filename]
    where = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames[-2:]]
    what = str(error)[:60] if isinstance(error, AssertionError) else ""
    return " ".join([type(error).__name__, *where, "".join(c for c in what if not c.isdigit()).split("\n")[0]])


def _guided(atheris: Any, trial: Trial, seeds: list[bytes], arguments: argparse.Namespace) -> None:
    from tests.fuzz.mutation import MOST, mutate

    def mutator(data: bytes, most: int, seed: int) -> bytes:
        rng = random.Random(seed)
        if rng.random() < 0.3:
            return bytes(atheris.Mutate(data, most))
        return mutate(data, rng, lambda: rng.choice(seeds))[:most]

    with tempfile.TemporaryDirectory() as folder:
        for number, seed in enumerate(seeds):
            (Path(folder) / f"{number:05d}").write_bytes(seed)
        options = [f"-max_len={MOST}", f"-seed={arguments.seed}", "-timeout=0", "-rss_limit_mb=0", "-verbosity=0"]
        options.append(f"-artifact_prefix={folder}/")  # else slow inputs end in the working folder
        atheris.Setup(["fuzz", *options, folder], lambda data: _until(trial, data, arguments), custom_mutator=mutator)
        atheris.Fuzz()  # ends with the process


def _until(trial: Trial, data: bytes, arguments: argparse.Namespace) -> None:
    if time.monotonic() - trial.began > arguments.seconds:
        status = trial.report()
        sys.stdout.flush()
        os._exit(status)  # atheris takes an exit for a crash
    trial(data)


def _drawn(trial: Trial, seeds: list[bytes], arguments: argparse.Namespace) -> int:
    from tests.fuzz.mutation import mutate

    rng = random.Random(arguments.seed)
    for seed in seeds:
        trial(seed)
    while time.monotonic() - trial.began < arguments.seconds:
        trial(mutate(rng.choice(seeds), rng, lambda: rng.choice(seeds)))
    return trial.report()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--target", choices=["reader", "pages"], default="reader")
    parser.add_argument("--output", type=Path, default=Path("build/findings"))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--drawn", action="store_true", help="without atheris even where it is installed")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    try:
        import atheris
    except ImportError:
        atheris = None
    if atheris is None or arguments.drawn:
        from tests.fuzz.corpus import seeds
        from tests.fuzz.targets import TARGETS

        return _drawn(Trial(TARGETS[arguments.target], arguments.output), seeds(arguments.target), arguments)
    # What numba compiles has to stay as it is.
    with atheris.instrument_imports(
        include=["pipelines"], exclude=["pipelines.provenance.anchors", "pipelines.neardup"]
    ):
        from tests.fuzz.targets import TARGETS
    from tests.fuzz.corpus import seeds

    _guided(atheris, Trial(TARGETS[arguments.target], arguments.output), seeds(arguments.target), arguments)
    return 0


if __name__ == "__main__":
    sys.exit(main())
