"""An anchor sample: documents of a reserve to mix into training data, drawn so that anyone can draw them again.

A sample is a folder:

==================  ================================================================================================
``sample.parquet``  rows of the reserve, sorted by `doc_id`, and beside their columns
                    :data:`pipelines.reserve.sample_files.ADDED`
``proofs.jsonl``    a line a row, in the same order: ``doc_id``, ``index`` of its entry in the log, and ``hashes`` of
                    its inclusion proof (RFC 9162, section 2.1.3) from the leaf up, base64 each
``checkpoint``      the signed checkpoint that all proofs lead to
``plan.json``       what was asked for and drawn, from which log, the strata, and the plan for mixing; written last
==================  ================================================================================================

Which documents are drawn: :mod:`pipelines.reserve.frame`; how many of each stratum:
:mod:`pipelines.reserve.allocation`.
The inclusion probability of a document is that of being drawn, over all seeds; its weight is the inverse. The sum of
weight × value over the sample estimates that of the value over all documents that could be drawn, without bias
(Horvitz and Thompson, JASA 47 (1952) 663).

Tokens that are asked for are a mean over all seeds: the smallest number of documents that holds so many on average,
which is known before any is drawn. A sample that went on until it had enough would end with a long document more often
than with a short one, and no longer have weights that are exact.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from pipelines import files
from pipelines.errors import JobError, UsageError
from pipelines.layout import Layout
from pipelines.records import Place
from pipelines.reserve.allocation import Allocation, allocate, expectation
from pipelines.reserve.frame import (
    Choice,
    Counter,
    Frame,
    check_stratifiers,
    id_order,
    read_frame,
    reserve_parts,
    word_counter,
)
from pipelines.reserve.in_log import Prover
from pipelines.reserve.manifest import digest_file
from pipelines.reserve.mixing import check_mixing, mixing_plan
from pipelines.reserve.note import Verifier
from pipelines.reserve.sample_files import PLAN, PROOFS, ROWS, Draw, write_rows
from pipelines.reserve.seal import CHECKPOINT, read_seal
from pipelines.reserve.verify import Verified, verify

FORMAT: Final = "human-reserve sample 1"


@dataclass(frozen=True)
class Request:
    """What is asked for.

    Attributes:
        documents: how many; or
        tokens: how many on average, in the counter's unit.
        stratify: names of strata's columns.
        allocation: how strata share the sample.
        seed: any text.
        choice: which documents may be drawn.
        counter: counts tokens.
        sealed: whether each row must be proved.
        mixing: share of the sample among all tokens of an epoch, epochs, and tokens of the rest (None: unknown).
    """

    documents: int | None = None
    tokens: int | None = None
    stratify: tuple[str, ...] = ()
    allocation: Allocation = Allocation.PROPORTIONAL
    seed: str = "0"
    choice: Choice = field(default_factory=Choice)
    counter: Counter | None = None
    sealed: bool = True
    mixing: tuple[float, int, int | None] | None = None

    def __post_init__(self) -> None:
        if (self.documents is None) == (self.tokens is None):
            raise UsageError("say how much to draw: either --n DOCUMENTS or --tokens TOKENS")
        for name, value in (("--n", self.documents), ("--tokens", self.tokens)):
            if value is not None and value < 1:
                raise UsageError(f"{name} {value}: at least 1")
        check_stratifiers(self.stratify)
        if self.mixing:
            check_mixing(*self.mixing)


def draw(frame: Frame, request: Request) -> Draw:
    """Draws. Raises UsageError where there is not as much as is asked for."""
    sizes = frame.sizes
    total = int(sizes.sum())
    if request.documents is not None:
        if request.documents > total:
            raise UsageError(f"--n {request.documents}: there are {total:,} documents to draw from")
        count = request.documents
    else:
        count = _documents_for(frame, request)
    allocated = allocate(sizes, frame.columns, count, request.allocation, request.seed)
    strata = np.repeat(np.arange(len(sizes)), allocated.sampled)
    # In each stratum the first ones.
    firsts = np.repeat(frame.starts[:-1] - np.cumsum(allocated.sampled) + allocated.sampled, allocated.sampled)
    ids = frame.ids[firsts + np.arange(len(strata))]
    order = id_order(ids)
    return Draw(ids[order], strata[order], allocated, allocated.expected / np.maximum(sizes, 1))


def _documents_for(frame: Frame, request: Request) -> int:
    """The smallest number of documents that holds the tokens asked for on average."""
    assert frame.tokens is not None
    assert request.tokens is not None
    sizes, held = frame.sizes, int(frame.tokens.sum())
    if request.tokens > held:
        raise UsageError(f"--tokens {request.tokens}: the documents to draw from hold {held:,} of these")
    means = np.add.reduceat(frame.tokens, frame.starts[:-1]) / sizes

    def enough(count: int) -> bool:
        mean = math.fsum((expectation(sizes, count, request.allocation) * means).tolist())
        return mean >= request.tokens * (1 - 1e-12)  # type: ignore[operator]

    low, high = 1, int(sizes.sum())
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle + 1, high)
    return low


def token_spread(frame: Frame, drawn: Draw) -> tuple[float | None, float | None]:
    """How many tokens samples of this kind hold, over all seeds: the mean, and about their standard deviation.

    The latter is Hájek's approximation for samples of a fixed size (Annals of Mathematical Statistics 35 (1964) 1491).
    None where tokens were not counted.
    """
    if frame.tokens is None:
        return None, None
    chance = np.repeat(drawn.probabilities, frame.sizes)
    lots = chance * (1 - chance)
    centre = (lots @ frame.tokens) / lots.sum() if lots.any() else 0.0
    return float(chance @ frame.tokens), float(np.sqrt(lots @ (frame.tokens - centre) ** 2))


def sample(output: str, request: Request, folder: str, keys: Sequence[Verifier] = ()) -> dict[str, Any]:
    """Draws a sample of a reserve and writes it; gives what `plan.json` holds, but for the strata.

    Args:
        output: of a finished run.
        request: what to draw.
        folder: to write; it must not hold anything, nor lie in the output.
        keys: public keys that must have signed the seal.

    Raises UsageError for what cannot be drawn and where there is no seal; JobError, which names the document, where one
    is not as it was sealed.
    """
    parts = reserve_parts(output)
    refuse_folder(output, folder)
    verified, prover = _prover(output, keys) if request.sealed else (None, None)
    counter = request.counter or word_counter()
    counting = counter if request.tokens is not None or request.choice.longest is not None else None
    frame = read_frame(parts, request.stratify, request.choice, request.seed, counting)
    if prover is not None and (wanted := prover.rows_left(Place.RESERVE)) != frame.rows:
        raise JobError(
            f"{output}: {Place.RESERVE.value}/ has {frame.rows:,} rows, and {wanted:,} were sealed; "
            f"see 'reserve verify {output}'"
        )
    drawn = draw(frame, request)
    tokens = write_rows(parts, frame, drawn, request.choice, counter, prover, folder)
    if verified is not None:
        assert verified.sealed is not None
        files.write_bytes(files.join(folder, CHECKPOINT), verified.sealed.note.encode())
    plan = _plan(output, request, counter, frame, drawn, tokens, verified)
    plan["files"] = _digests(folder, prover is not None)
    files.write_bytes(files.join(folder, PLAN), b"".join(_plan_lines(plan, request.stratify, frame, drawn)))
    return plan


def _plan(
    output: str,
    request: Request,
    counter: Counter,
    frame: Frame,
    drawn: Draw,
    tokens: int,
    verified: Verified | None,
) -> dict[str, Any]:
    summary = files.read_json(Layout(output).summary) or {}
    mean, spread = token_spread(frame, drawn)
    return {
        "format": FORMAT,
        "seal": _seal(verified) if verified else None,
        "job": summary.get("job", {}).get("digest"),
        "asked": {"documents": request.documents, "tokens": request.tokens},
        "seed": request.seed,
        "stratify": list(request.stratify),
        "allocation": request.allocation.value,
        "verdicts": list(request.choice.verdicts) or None,
        "until": request.choice.until,
        "longest": request.choice.longest,
        "token": {"unit": counter.unit, "meaning": counter.meaning},
        "population": {
            "documents": len(frame.ids),
            "tokens": int(frame.tokens.sum()) if frame.tokens is not None else None,
            "strata": len(frame.labels),
        },
        "sample": {
            "documents": len(drawn.ids),
            "tokens": tokens,
            "tokens_on_average": mean,
            "tokens_spread": spread,
            "strata": int(np.count_nonzero(drawn.allocated.sampled)),
        },
        "mixing": mixing_plan(tokens, len(drawn.ids), *request.mixing, counter.unit) if request.mixing else None,
    }


def _seal(verified: Verified) -> dict[str, Any]:
    assert verified.sealed is not None
    assert verified.chain is not None
    checkpoint, release = verified.sealed.checkpoint, verified.chain.latest.release
    return {
        "origin": checkpoint.origin,
        "size": checkpoint.size,
        "root": checkpoint.root.hex(),
        "release": release.number,
        "captured_before": release.captured_before,
        "signed_by": [str(verifier) for verifier in verified.signed_by],
        "key_given": verified.trusted,
        "context": dict(release.context),
    }


def _digests(folder: str, proved: bool) -> dict[str, str]:
    names = (ROWS, PROOFS, CHECKPOINT) if proved else (ROWS,)
    return {name: digest_file(files.join(folder, name), name).sha256 for name in names}


def _plan_lines(plan: dict[str, Any], stratify: Sequence[str], frame: Frame, drawn: Draw) -> Iterator[bytes]:
    """`plan.json`: a line for each stratum, of which there may be many."""
    yield files.json_bytes(plan).removesuffix(b"\n}\n") + b',\n  "strata": ['
    rows = zip(
        frame.labels, frame.sizes.tolist(), drawn.allocated.sampled.tolist(), drawn.probabilities.tolist(), strict=True
    )
    for at, (labels, size, sampled, probability) in enumerate(rows):
        numbers = {"documents": size, "sampled": sampled, "inclusion_probability": probability}
        line = json.dumps({**dict(zip(stratify, labels, strict=True)), **numbers}, ensure_ascii=False)
        yield f"{',' if at else ''}\n    {line}".encode()
    yield b"\n  ]\n}\n"


def refuse_folder(output: str, folder: str) -> None:
    """Nothing is written over, and nothing into what is sealed."""
    if files.is_local(output) and files.is_local(folder):
        inner, outer = Path(folder).resolve(), Path(output).resolve()
        if inner.is_relative_to(outer):
            raise UsageError(f"--output {folder}: lies in {output}, into which nothing else is written; name another")
    if files.listing(files.join(folder, "*")):
        raise UsageError(f"--output {folder}: is not empty; name another folder, or delete it")


def _prover(output: str, keys: Sequence[Verifier]) -> tuple[Verified, Prover]:
    """What proves the rows, once the seal and the names and sizes of all files have been looked at."""
    if read_seal(Layout(output).seal) is None:
        raise UsageError(f"{output}: holds no seal; --unsealed draws a sample that proves nothing")
    result = verify(output, keys, quick=True)
    if not result.whole:
        # Once more, and thoroughly: which document is it?
        problems = verify(output, keys).problems or result.problems
        first = next((problem for problem in problems if problem.doc_id), problems[0])
        raise JobError(f"{output}: not as it was sealed: {first}; see 'reserve verify {output}'")
    assert result.sealed is not None
    assert result.chain is not None
    return result, Prover(output, result.sealed, result.chain)
