"""The C2PA manifest inside plain text: its frame, and what its claim says of the source.

A C2PA manifest store travels in a text as U+FEFF and one variation selector for each byte of *magic* ``C2PATXT\\0``,
*version* 1, *length* (32 bits, big-endian) and *payload*
(C2PA Technical Specification 2.4, "Embedding manifests into unstructured text", Appendix A.8)::

    >>> wrapper = read_wrapper(selector_bytes(wrap(b"jumbf").removeprefix(MARKER)))
    >>> wrapper.payload, wrapper.problem
    (b'jumbf', None)

Signatures are not verified here: a manifest is read as a statement, whoever made it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

MAGIC = b"C2PATXT\0"
VERSION = 1
MARKER = "\ufeff"
HEADER_SIZE = len(MAGIC) + 1 + 4

# IPTC Digital Source Type NewsCodes (cv.iptc.org/newscodes/digitalsourcetype) and the two terms that C2PA adds.
MACHINE_SOURCE_TYPES = frozenset(
    {
        "trainedAlgorithmicMedia",
        "compositeWithTrainedAlgorithmicMedia",
        "algorithmicMedia",
        "compositeSynthetic",
        "dataDrivenMedia",
        "trainedAlgorithmicData",
    }
)
ASSISTED_SOURCE_TYPES = frozenset({"algorithmicallyEnhanced"})
HUMAN_SOURCE_TYPES = frozenset(
    {
        "digitalCapture",
        "computationalCapture",
        "multiFrameComputationalCapture",
        "negativeFilm",
        "positiveFilm",
        "print",
        "humanEdits",
        "minorHumanEdits",
        "digitalCreation",
        "digitalArt",
        "softwareImage",
        "screenCapture",
        "virtualRecording",
        "composite",
        "compositeCapture",
        "empty",
    }
)
_SELECTOR_BYTES = {0xFE00 + b: b for b in range(16)} | {0xE0100 + b: b + 16 for b in range(240)}
_SELECTORS = {byte: selector for selector, byte in _SELECTOR_BYTES.items()}
_TERMS = {term.lower(): term for term in MACHINE_SOURCE_TYPES | ASSISTED_SOURCE_TYPES | HUMAN_SOURCE_TYPES}
_BY_LENGTH = sorted(_TERMS, key=lambda term: (-len(term), term))
_SOURCE_URI = re.compile(rb"https?://[a-z0-9./]{1,40}/digitalsourcetype/([a-z]{1,60})", re.IGNORECASE)
_URI_TERM = re.compile(r"[/#:]")


@dataclass(frozen=True)
class Wrapper:
    """What the bytes behind the marker hold.

    ``payload`` is None where the header is not whole. ``problem`` says what keeps the wrapper from being valid.
    """

    payload: bytes | None
    problem: str | None


def is_wrapper(data: bytes) -> bool:
    """Whether the bytes start like a wrapper; four bytes of the magic number are enough to tell a cut one."""
    return len(data) >= 4 and (data.startswith(MAGIC) or MAGIC.startswith(data))


def read_wrapper(data: bytes) -> Wrapper:
    """Reads the bytes of a wrapper, marker excluded. Never raises: ``problem`` names what is wrong."""
    if len(data) < HEADER_SIZE:
        return Wrapper(None, f"the wrapper ends inside its header: {len(data)} of {HEADER_SIZE} bytes")
    stated = int.from_bytes(data[len(MAGIC) + 1 : HEADER_SIZE], "big")
    payload, rest = data[HEADER_SIZE : HEADER_SIZE + stated], data[HEADER_SIZE + stated :]
    version = data[len(MAGIC)]
    problem = None
    if version != VERSION:
        problem = f"version {version} is not known"
    elif len(payload) < stated:
        problem = f"the header states {stated} bytes of payload, {len(payload)} are there"
    elif rest.strip(b"\0"):
        problem = f"{len(rest)} bytes follow the payload"
    return Wrapper(payload, problem)


def wrap(payload: bytes) -> str:
    """The wrapper of a manifest store, to be put at the end of a text.

    Raises:
        ValueError: the payload is longer than 32 bits can state.
    """
    if len(payload) >= 1 << 32:
        raise ValueError(f"payload: {len(payload)} bytes, allowed are fewer than 2^32")
    data = MAGIC + bytes([VERSION]) + len(payload).to_bytes(4, "big") + payload
    return MARKER + data.decode("latin-1").translate(_SELECTORS)


def selector_bytes(selectors: str) -> bytes:
    """The bytes that variation selectors stand for: VS1 to VS256 for 0 to 255. Other characters are an error."""
    return selectors.translate(_SELECTOR_BYTES).encode("latin-1")


def source_term(value: str) -> str | None:
    """The IPTC term in a URI, a compact URI, a schema.org enumeration member or a bare term; None where there is none.

    ``http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia`` and
    ``https://schema.org/TrainedAlgorithmicMediaDigitalSource`` both give ``trainedAlgorithmicMedia``.
    """
    term = _URI_TERM.split(value.strip().rstrip("/"))[-1].lower()
    return _TERMS.get(term.removesuffix("digitalsource"))


def source_type(payload: bytes) -> str | None:
    """The digital source type that a manifest store states: one of a machine if there is any, else the first.

    The store is searched for the terms' URIs, which CBOR and JSON both hold as plain bytes. None where none is stated.
    """
    stated = [term for found in _SOURCE_URI.finditer(payload) if (term := _term_at(payload, found))]
    for among in (MACHINE_SOURCE_TYPES, ASSISTED_SOURCE_TYPES):
        for term in stated:
            if term in among:
                return term
    return stated[0] if stated else None


def _term_at(payload: bytes, found: re.Match[bytes]) -> str | None:
    start, end = found.start(), found.end()
    if start >= 2 and payload[start - 2] == 0x78:  # a CBOR text string of 24 to 255 bytes states its length
        end = min(end, start + payload[start - 1])
    name = payload[found.start(1) : end].decode("ascii").lower()
    # Without a length the header byte of the next CBOR item may read as a letter: take the longest known term.
    return _TERMS.get(name) or next((_TERMS[term] for term in _BY_LENGTH if name.startswith(term)), None)
