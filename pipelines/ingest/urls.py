"""The host of a URL, without the cost and the exceptions of ``urllib.parse`` on URLs as crawls hold them."""

from __future__ import annotations

import re

# A backslash ends the authority too, as in browsers (WHATWG URL).
_AUTHORITY = re.compile(r"\s*[A-Za-z][A-Za-z0-9+.-]*://(?:[^/?#\\]*@)?(\[[^\]/?#\\]+\]|[^/?#\\:@\[]*)")


def host_of(url: str | None) -> str | None:
    """The host name of an absolute URL: lower case, without user, port and trailing dot; ``None`` where there is none.

    IDNA labels stay as they are written. An IPv6 address keeps its brackets (RFC 3986, section 3.2.2).
    """
    found = _AUTHORITY.match(url) if url else None
    if not found:
        return None
    host = found[1]
    return host.rstrip(". \t").lower() or None
