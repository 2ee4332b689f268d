"""C2PA manifests that an HTML page embeds or links (C2PA Technical Specification 2.4, A.7 and manifests by reference).

>>> is_manifest_link('<https://example.org/a.c2pa>; rel="c2pa-manifest"')
True
"""

from __future__ import annotations

import base64
import binascii
import re

from watermark import c2pa_text

_MAX_BASE64 = 4 << 20
_LINK_REL = re.compile(r";\s{0,9}rel\s{0,9}=\s{0,9}(?:\"([^\"]{0,200})\"|([^\s;,\"]{1,200}))", re.IGNORECASE)
_DATA_URI = re.compile(r"data:[^,]{0,200};base64,", re.IGNORECASE)


def is_manifest_link(header: str) -> bool:
    """Whether an HTTP ``Link`` header (RFC 8288) has the relation ``c2pa-manifest``."""
    return any("c2pa-manifest" in (m[1] or m[2] or "").lower().split() for m in _LINK_REL.finditer(header))


def inline_source_type(content: str) -> str | None:
    """The digital source type that a manifest store in Base64 or a ``data:`` URI states; None where there is none."""
    content = content.strip()
    if head := _DATA_URI.match(content):
        content = content[head.end() :]
    content = "".join(content[:_MAX_BASE64].split())
    try:
        store = base64.b64decode(content[: len(content) - len(content) % 4])
    except (binascii.Error, ValueError):
        return None
    return c2pa_text.source_type(store)
