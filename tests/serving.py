"""Web servers on this machine that fail on request: one serves bytes, one stands before another server."""

from __future__ import annotations

import http.client
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

Handler = BaseHTTPRequestHandler
MODIFIED = 1_700_000_000.0


class Cut(NamedTuple):
    """The headers say everything is coming; the connection closes after so many bytes of the body."""

    after: int
    linger: float = 0.0  # seconds before it closes, so that what was sent has arrived


class Answer(NamedTuple):
    status: int
    headers: Mapping[str, str] = {}


DROP = Cut(-1)  # not even an answer
Fault = Cut | Answer


class Request(NamedTuple):
    method: str
    path: str
    range: str


class Site:
    """Files by path; faults are used up one a request, in order, by the methods that they are for."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.files = dict(files)
        self.faults: list[Fault] = []
        self.faulty = ("GET",)
        self.requests: list[Request] = []
        self.ranges = True
        self.length = "said"  # "said", "chunked", "unsaid" (the end of the connection is the end of the file)
        self.head = True
        self.etags = True
        self.redirects: dict[str, str] = {}
        self.refused: dict[str, int] = {}
        self.required: dict[str, str] = {}  # headers that a request must carry
        self.url = ""
        self._lock = threading.Lock()

    def gets(self, path: str = "") -> list[str]:
        return [r.range for r in self.requests if r.method == "GET" and (not path or r.path == path)]

    def take_fault(self, method: str) -> Fault | None:
        with self._lock:
            return self.faults.pop(0) if self.faults and method in self.faulty else None

    def answer(self, to: Handler) -> None:
        self.requests.append(Request(to.command, to.path, to.headers.get("Range", "")))
        fault = self.take_fault(to.command)
        if fault == DROP:
            to.close_connection = True
        elif isinstance(fault, Answer):
            send(to, fault.status, fault.headers, b"failed")
        elif any(to.headers.get(name) != value for name, value in self.required.items()):
            send(to, 401, {}, b"")
        elif to.path in self.redirects:
            send(to, 302, {"Location": self.redirects[to.path]}, b"")
        elif to.path in self.refused:
            send(to, self.refused[to.path], {}, b"")
        elif to.path not in self.files:
            send(to, 404, {}, b"not here")
        elif to.command == "HEAD" and not self.head:
            send(to, 405, {}, b"")
        else:
            self._send_file(to, self.files[to.path], fault)

    def _send_file(self, to: Handler, data: bytes, cut: Cut | None) -> None:
        headers = {"Last-Modified": formatdate(MODIFIED, usegmt=True)}
        if self.etags:
            headers["ETag"] = f'"{hash(data) & 0xFFFFFFFF:08x}"'
        status = 200
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", to.headers.get("Range", ""))
        if wanted and self.ranges:
            begin, end = int(wanted[1]), min(int(wanted[2]) + 1, len(data))
            if begin >= len(data):
                send(to, 416, {"Content-Range": f"bytes */{len(data)}"}, b"")
                return
            status, headers["Content-Range"] = 206, f"bytes {begin}-{end - 1}/{len(data)}"
            data = data[begin:end]
        send(to, status, headers, data, self.length, cut)


def send(
    to: Handler, status: int, headers: Mapping[str, str], body: bytes, length: str = "said", cut: Cut | None = None
) -> None:
    to.send_response(status)
    for name, value in headers.items():
        to.send_header(name, value)
    if length == "said" or status >= 300:
        length = "said"
        to.send_header("Content-Length", str(len(body)))
    elif length == "chunked":
        to.send_header("Transfer-Encoding", "chunked")
    else:
        to.send_header("Connection", "close")
        to.close_connection = True
    to.end_headers()
    if to.command == "HEAD":
        return
    body = body if cut is None else body[: cut.after]
    try:
        if length == "chunked":
            for at in range(0, len(body), 1000):
                piece = body[at : at + 1000]
                to.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
            if cut is None:
                to.wfile.write(b"0\r\n\r\n")
        else:
            to.wfile.write(body)
    except (BrokenPipeError, ConnectionResetError):
        to.close_connection = True
    if cut is not None:
        time.sleep(cut.linger)
        to.close_connection = True


@contextmanager
def listening(answer: Callable[[Handler], None]) -> Iterator[str]:
    class Serve(Handler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:  # noqa: N802
            answer(self)

        do_HEAD = do_PUT = do_POST = do_DELETE = do_GET  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            pass  # a client that has what it wants hangs up

    server = Server(("127.0.0.1", 0), Serve)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def site(files: Mapping[str, bytes]) -> Iterator[Site]:
    served = Site(files)
    with listening(served.answer) as served.url:
        yield served


class Proxy:
    """Stands before a server and hands its answers on, with faults."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.faults: list[Fault] = []
        self.faulty: Callable[[Request], bool] = lambda request: request.method == "GET" and bool(request.range)
        self.requests: list[Request] = []
        self.url = ""
        self._lock = threading.Lock()

    def answer(self, to: Handler) -> None:
        body = to.rfile.read(int(to.headers.get("Content-Length") or 0))
        request = Request(to.command, to.path, to.headers.get("Range", ""))
        with self._lock:
            self.requests.append(request)
            fault = self.faults.pop(0) if self.faults and self.faulty(request) else None
        if fault == DROP:
            to.close_connection = True
            return
        if isinstance(fault, Answer):
            send(to, fault.status, fault.headers, b"")
            return
        behind = http.client.HTTPConnection("127.0.0.1", self.port)
        behind.request(to.command, to.path, body, dict(to.headers.items()))
        answer = behind.getresponse()
        content = answer.read()
        headers = {k: v for k, v in answer.headers.items() if k.lower() not in {"transfer-encoding", "connection"}}
        said = headers.pop("Content-Length", headers.pop("content-length", None))
        if to.command == "HEAD":
            to.send_response(answer.status)
            for name, value in {**headers, "Content-Length": said or "0"}.items():
                to.send_header(name, value)
            to.end_headers()
            return
        send(to, answer.status, headers, content, cut=fault)


@contextmanager
def proxy(port: int) -> Iterator[Proxy]:
    between = Proxy(port)
    with listening(between.answer) as between.url:
        yield between
