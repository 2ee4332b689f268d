"""Files on web servers, by ranged requests over fsspec's session (aiohttp). Sources: RFC 9110 (ranges, Retry-After).

Settings that fsspec keeps for HTTP (headers, authentication) hold here, as do the proxies of the environment.
"""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Coroutine
from email.utils import parsedate_to_datetime
from functools import cache
from typing import Any, NamedTuple, TypeVar

import aiohttp
import fsspec
from fsspec.asyn import sync
from yarl import URL

from pipelines import remote
from pipelines.errors import one_line
from pipelines.remote import ChangedError, Stat, TransientError, check_same

T = TypeVar("T")

_PIECE = 1 << 18  # bytes read from a connection at once
_ENCODED = re.compile(r"[!-~]+")
_RANGE = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)")
_TRANSIENT = {408, 425, 429, 500, 502, 503, 504, 509, 520, 521, 522, 523, 524}


class _Open(NamedTuple):
    """An answer that is not yet read to its end."""

    answer: aiohttp.ClientResponse
    cursor: int  # the place in the file of the next byte
    whole: bool  # the server does not know ranges and sends everything


class HttpTransfer:
    """One URL."""

    def __init__(self, url: str) -> None:
        self.path = url
        # A signed URL must go out as it was written; yarl would write some of its escapes anew.
        try:
            self._url = URL(url, encoded=bool(_ENCODED.fullmatch(url)))
        except ValueError as error:
            raise OSError(f"{url}: not a URL: {error}") from None
        self._open: _Open | None = None

    def stat(self) -> Stat:
        """Size, time of change and ETag, by HEAD, or by a range of one byte where HEAD says too little."""
        return self._run(self._stat())

    def fetch(self, begin: int, end: int, stat: Stat, into: bytearray) -> bool:
        """See :class:`pipelines.remote.Transfer`."""
        return self._run(self._fetch(begin, end, stat, into))

    def close(self) -> None:
        """Closes the connection, if one is open."""
        if self._open is not None:
            self._run(self._drop())

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            result: T = sync(_system().loop, _only, work)
        except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError) as error:
            raise OSError(f"{self.path}: not a URL that can be asked for: {error}") from None
        except (aiohttp.ClientSSLError, aiohttp.TooManyRedirects) as error:
            raise OSError(f"{self.path}: {_told(error)}") from None
        except aiohttp.ClientConnectorError as error:
            if isinstance(error.os_error, socket.gaierror) and error.os_error.errno == socket.EAI_NONAME:
                raise OSError(f"{self.path}: there is no host {self._url.host}; check the address") from None
            raise TransientError(f"no connection to {error.host}:{error.port} ({error.strerror})") from None
        except aiohttp.ClientPayloadError:
            raise TransientError("the transfer was cut") from None
        except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
            raise TransientError(_told(error)) from None
        return result

    async def _ask(self, method: str, headers: dict[str, str]) -> aiohttp.ClientResponse:
        system = _system()
        session = await system.set_session()
        configured = {**system.kwargs}
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=remote.RETRY.connect_seconds, sock_read=remote.RETRY.silence_seconds
        )
        # The stored bytes are wanted, not bytes that the server packs for the way.
        headers = {**configured.pop("headers", {}), "Accept-Encoding": "identity", **headers}
        answer: aiohttp.ClientResponse = await session.request(
            method, self._url, headers=headers, timeout=timeout, allow_redirects=True, **configured
        )
        return answer

    async def _stat(self) -> Stat:
        async with await self._ask("HEAD", {}) as answer:
            length = answer.headers.get("Content-Length", "")
            if answer.status == 200 and length.isdigit():
                return _stat_of(answer, int(length))
            # Servers that take no HEAD, and URLs that are signed for GET alone, say so in many ways.
            if answer.status in {404, 410} or answer.status in _TRANSIENT:
                self._refuse(answer)
        async with await self._ask("GET", {"Range": "bytes=0-0"}) as answer:
            total = _RANGE.fullmatch(answer.headers.get("Content-Range", ""))
            if answer.status in {206, 416} and total and total[3] != "*":
                return _stat_of(answer, int(total[3]))
            if answer.status in {200, 206}:
                return self._size_unsaid(answer)
            self._refuse(answer)
            raise OSError(f"{self.path}: the server answers {_status(answer)}")

    def _size_unsaid(self, answer: aiohttp.ClientResponse) -> Stat:
        length = answer.headers.get("Content-Length", "")
        if answer.status == 200 and length.isdigit():
            return _stat_of(answer, int(length))
        if "chunked" in answer.headers.get("Transfer-Encoding", "").lower():
            return _stat_of(answer, None)
        raise OSError(
            f"{self.path}: the server says neither how long the file is nor where it ends, so a transfer that is cut "
            "could not be told from a whole one; copy the file to a disk and read it there"
        )

    async def _fetch(self, begin: int, end: int, stat: Stat, into: bytearray) -> bool:
        current, self._open = self._open, None
        if current is None or current.cursor > begin:
            if current is not None:
                current.answer.close()
            current = await self._request(begin, end, stat)
            if current is None:
                return True
        answer, cursor, whole = current
        try:
            while cursor < end and (piece := await answer.content.read(min(_PIECE, end - cursor))):
                into += piece[max(begin - cursor, 0) :]
                cursor += len(piece)
        except BaseException:
            answer.close()
            raise
        ended = cursor < end and whole
        if whole and not ended:
            self._open = _Open(answer, cursor, whole)
        else:
            answer.release()
        if ended and stat.size is not None:
            raise TransientError(f"the transfer ended at byte {cursor:,}")
        return ended

    async def _request(self, begin: int, end: int, stat: Stat) -> _Open | None:
        """The answer to a range; None: the file ends before it, which is news where its size is not known."""
        answer = await self._ask("GET", {"Range": f"bytes={begin}-{end - 1}"})
        try:
            return self._checked(answer, begin, stat)
        except BaseException:
            answer.close()
            raise

    def _checked(self, answer: aiohttp.ClientResponse, begin: int, stat: Stat) -> _Open | None:
        if answer.status == 416 and stat.size is None:
            answer.close()
            return None
        if answer.status not in {200, 206, 416}:
            self._refuse(answer)
        length = answer.headers.get("Content-Length", "")
        if answer.status == 206:
            said = _RANGE.fullmatch(answer.headers.get("Content-Range", ""))
            if said is None or said[1] is None or int(said[1]) != begin:
                raise OSError(
                    f"{self.path}: asked for bytes from {begin:,}, the server sends "
                    f"{answer.headers.get('Content-Range') or 'it does not say which'}; copy the file to a disk"
                )
            size = said[3]
        elif answer.status == 416:
            size = answer.headers.get("Content-Range", "").rpartition("/")[2]
        else:
            size = length
        check_same(self.path, stat, _stat_of(answer, int(size) if size.isdigit() else None))
        if answer.status == 416:
            raise ChangedError(self.path, f"there is no byte {begin:,} any more")
        return _Open(answer, begin if answer.status == 206 else 0, answer.status == 200)

    def _refuse(self, answer: aiohttp.ClientResponse) -> None:
        status = _status(answer)
        if answer.status in _TRANSIENT:
            raise TransientError(f"the server answers {status}", _asked(answer.headers.get("Retry-After", "")))
        if answer.status in {404, 410}:
            raise FileNotFoundError(f"{self.path}: the server has no such file ({status}); check the URL")
        if answer.status in {401, 403, 407}:
            raise PermissionError(f"{self.path}: the server does not give it out ({status}); check URL and access")
        raise OSError(f"{self.path}: the server answers {status}")

    async def _drop(self) -> None:
        if self._open is not None:
            self._open.answer.close()
            self._open = None


@cache
def _system() -> Any:
    options = {"auto_decompress": False, "trust_env": True, "requote_redirect_url": False}
    configured = fsspec.config.conf.get("http", {}).get("client_kwargs", {})
    return fsspec.filesystem("http", client_kwargs={**configured, **options}, skip_instance_cache=True)


async def _only(work: Coroutine[Any, Any, T]) -> T:
    return await work


def _stat_of(answer: aiohttp.ClientResponse, size: int | None) -> Stat:
    return Stat(size, _seconds(answer.headers.get("Last-Modified", "")) or 0.0, answer.headers.get("ETag", ""))


def _seconds(stamp: str) -> float | None:
    try:
        return parsedate_to_datetime(stamp).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None


def _asked(value: str) -> float | None:
    """Seconds that Retry-After asks for; it may name a number of them or a date."""
    if value.strip().isdigit():
        return float(value)
    at = _seconds(value)
    return None if at is None else max(at - time.time(), 0.0)


def _status(answer: aiohttp.ClientResponse) -> str:
    return f"HTTP {answer.status} {answer.reason or ''}".rstrip()


def _told(error: BaseException) -> str:
    error = error.__cause__ if isinstance(error, TimeoutError) and error.__cause__ else error
    return one_line(error)
