"""Which language a text is in: resiliparse's rank-order n-gram identifier, over the beginning of the text."""

from __future__ import annotations

from resiliparse.parse.lang import detect_fast

CHARACTERS = 4000  # more does not change the answer, and costs time on book-length texts


def identify(text: str) -> str | None:
    """The ISO 639-1 code, or None where the identifier will not say (short texts, code, numbers)."""
    code, _rank = detect_fast(text[:CHARACTERS])
    return None if code == "unknown" else str(code)
