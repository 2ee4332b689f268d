"""A small page on which people answer, for teams without a tool: ``reserve review serve``.

One document at a time; what the pipeline made of it is hidden until the person has answered::

    from pipelines.review.page import serve
    from pipelines.review.records import Stream

    serve("review/", Stream.AUDIT)  # http://127.0.0.1:8077/ until it is stopped

The web framework (Flask, and waitress as its server) is the extra ``review``; the job does without it, so this module
imports it only when the page is served.
"""

from __future__ import annotations

import ipaddress
import sys
from collections.abc import Callable, Sequence
from urllib.parse import quote

from pipelines import files
from pipelines.errors import UsageError
from pipelines.review.page.desk import Desk
from pipelines.review.records import Folder, Stream

EXTRA = "pip install 'human-reserve[review]'"
SHORTEST_TOKEN = 16


def serve(
    review: str,
    stream: Stream = Stream.AUDIT,
    host: str = "127.0.0.1",
    port: int = 8077,
    token: str | None = None,
    hosts: Sequence[str] = (),
    say: Callable[[str], None] = lambda line: print(line, file=sys.stderr, flush=True),
) -> None:
    """Serves the page until the process is stopped; an answer is on the disk before the page says so.

    Args:
        review: the folder of the review, on this machine: SQLite keeps its answers.
        stream: whose tasks are asked.
        host: address to listen on; one that other machines reach needs a token.
        port: to listen on; 0: one that is free.
        token: what a browser must show once; at least 16 characters. It travels in the URL that is printed, so put a
            proxy with TLS before a page that leaves the local network.
        hosts: further names under which the page is reached, such as that of a proxy before it.
        say: gets the lines for the person who starts it: the page's address, and how to stop it.

    Raises UsageError where there is nothing to ask, the address cannot be had, an address that others reach has no
    token, or the extra ``review`` is not installed.
    """
    _check_address(host, port, token)
    if not files.is_local(review):
        raise UsageError(f"{review}: the page keeps answers in SQLite, which needs a folder on this machine")
    try:
        from waitress.server import create_server

        from pipelines.review.page.app import app
        from pipelines.review.page.guard import Guard
    except ImportError as error:
        raise UsageError(f"the page needs Flask and waitress, which are not installed ({error}): {EXTRA}") from None
    desk = Desk(Folder(review), stream)
    guard = Guard(host, token, hosts)
    try:
        # Waitress adds `Server` and the client's word on who it is only where it is told to; it is told nothing.
        server = create_server(
            app(desk, guard), host=host, port=port, threads=8, ident="", max_request_body_size=1 << 20
        )
    except (OSError, ValueError) as error:
        raise UsageError(f"{host} port {port}: cannot listen there: {error}; choose another with --port") from None
    shown = f"[{host}]" if ":" in host else host
    at = f"http://{shown}:{_port(server, port)}/" + (f"?token={quote(token, safe='')}" if token else "")
    say(f"{review}: {desk.tasks} {stream.value} tasks at {at}  (Ctrl-C stops; what was answered is kept)")
    try:
        server.run()
    finally:
        server.close()


def _check_address(host: str, port: int, token: str | None) -> None:
    if not 0 <= port < 1 << 16:
        raise UsageError(f"--port {port}: must be from 0 (one that is free) to {(1 << 16) - 1}")
    if token is not None and len(token) < SHORTEST_TOKEN:
        raise UsageError(f"--token has {len(token)} characters; at least {SHORTEST_TOKEN} are needed")
    if token is None and not is_loopback(host):
        raise UsageError(
            f"--host {host}: other machines reach this address, so it needs --token with at least {SHORTEST_TOKEN} "
            "characters, such as \"$(python -c 'import secrets; print(secrets.token_urlsafe())')\""
        )


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches the address; of names, ``localhost`` alone is trusted to be it."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _port(server: object, asked: int) -> int:
    """The port that a server has: its own, or, where it listens on several addresses, that of the first."""
    listens = getattr(server, "effective_listen", None)
    return int(listens[0][1] if listens else getattr(server, "effective_port", asked))
