"""What keeps others away from the page: host names, the token, forged requests, and what a browser may load.

- Host: only names that mean this machine are answered, against DNS rebinding.
- Token: shown once in the URL, then kept in a cookie that no script reads and no other site's request carries.
- Forged requests: ``Sec-Fetch-Site`` and ``Origin`` decide where a browser sends them (it does not, or sends
  ``Origin: null``, for forms on plain HTTP away from loopback under ``Referrer-Policy: no-referrer``); else the form
  must repeat what its cookie says (OWASP, Cross-Site Request Forgery Prevention: double submit).
- Content-Security-Policy: nothing but the page's own script and style; nothing from elsewhere; no inline script.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
import socket
from collections.abc import Sequence
from urllib.parse import urlsplit

from flask import Request, Response

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; form-action 'self'; "
        "base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


class Guard:
    """Says of each request whether it may pass."""

    def __init__(self, host: str = "127.0.0.1", token: str | None = None, hosts: Sequence[str] = ()) -> None:
        own = {"localhost", "127.0.0.1", "::1", host.lower()}
        if token is not None:
            own |= {socket.gethostname().lower(), socket.getfqdn().lower()}
        self._names = own | {name.lower() for name in hosts}
        # An address is no name that another site could point here, and listening on all means many of them.
        self._any_address = token is not None
        self._token = token
        self._key = _digest("cookie", token) if token is not None else None

    def knows_host(self, request: Request) -> bool:
        """Whether the request's Host is one of this machine's."""
        try:
            name = (urlsplit(f"//{request.headers.get('Host', '')}").hostname or "").lower()
        except ValueError:
            return False
        return name in self._names or (self._any_address and _is_address(name))

    def shows_token(self, request: Request) -> bool:
        """Whether the request is for the page's beginning, with the token in its URL."""
        shown = request.args.get("token") if request.path == "/" else None
        return shown is not None and self._token is not None and _same(shown, self._token)

    def lets_in(self, request: Request) -> bool:
        """Whether the request's cookie says that the token was shown; true where there is none."""
        return self._key is None or _same(request.cookies.get(_cookie(request), ""), self._key)

    def may_pass(self, request: Request) -> bool:
        """Whether the request comes by one of the page's names and with its token."""
        return self.knows_host(request) and (self.shows_token(request) or self.lets_in(request))

    def is_forged(self, request: Request) -> bool:
        """Whether another site may have sent this form."""
        site = request.headers.get("Sec-Fetch-Site")
        if site is not None:
            return site != "same-origin"
        origin = request.headers.get("Origin", "null")
        if origin != "null":
            return urlsplit(origin).netloc.lower() != request.headers.get("Host", "").lower()
        cookie = request.cookies.get(_cookie(request))
        return not cookie or not _same(request.form.get("form", ""), _digest("form", cookie))

    def give_cookie(self, request: Request, response: Response) -> None:
        """Sets the cookie: the token's, or one by which the page's forms are known again."""
        if self._key is not None or _cookie(request) not in request.cookies:
            value = self._key or form_cookie(request)
            response.set_cookie(_cookie(request), value, httponly=True, samesite="Strict", max_age=90 * 86400)


def form_cookie(request: Request) -> str:
    """What the cookie of this browser says, or, where it has none yet, will say."""
    known = request.cookies.get(_cookie(request))
    if known:
        return known
    value: str = request.environ.setdefault("reserve.cookie", secrets.token_urlsafe())
    return value


def form_token(request: Request) -> str:
    """What a form repeats: it comes of the cookie, and does not tell it."""
    return _digest("form", form_cookie(request))


def _cookie(request: Request) -> str:
    """Cookies are a host's, whatever the port; two pages on one machine need two."""
    return f"reserve_review_{urlsplit(f'//{request.host}').port or 80}"


def _digest(use: str, secret: str) -> str:
    return hmac.new(secret.encode(), f"reserve review {use}".encode(), hashlib.sha256).hexdigest()


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
