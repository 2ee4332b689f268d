"""What the tests of the page need: a review's folder, the page as a process, and a browser driven over a pipe.

The browser speaks the DevTools protocol (https://chromedevtools.github.io/devtools-protocol/) over two pipes, as JSON
that ends with NUL, so that it opens no port and needs no driver.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipelines import files
from pipelines.review.records import CONTROLS, TASKS, Folder, Label, Stream
from pipelines.review.store import Store

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage"),
    "--remote-debugging-pipe",
)
# The browser reads from descriptor 3 and writes to 4. Not every shell can put descriptors above 9 there.
PLACE = """
import fcntl, os, sys
high = [fcntl.fcntl(int(number), fcntl.F_DUPFD, 10) for number in sys.argv[1:3]]
os.dup2(high[0], 3), os.dup2(high[1], 4)
os.execv(sys.argv[3], sys.argv[3:])
"""
PATIENCE = 30.0


def task(number: int, text: str, **known: Any) -> dict[str, Any]:
    """A task as the audit draws it; ``known`` replaces any of its columns."""
    return {
        "task_id": hashlib.sha256(f"task {number}".encode()).hexdigest()[:32],
        "text": text,
        "text_sha256": hashlib.sha256(text.encode()).hexdigest(),
        "url": f"https://secret{number}.example/page",
        "host": f"secret{number}.example",
        "captured_at": datetime(2024, 5, 17, 8, 30, tzinfo=UTC),
        "language": "en",
        "place": "quarantine",
        "verdict": "suspected",
        "machine_probability": 0.973,
        "evidence": [
            {
                "source": "surprisal",
                "kind": "detector",
                "score": 2.5,
                "p_value": 0.004,
                "probability": 0.973,
                "detail": "a secret detail",
            }
        ],
        "cluster_size": 3,
        "stratum": 0,
        "inclusion_probability": 0.25,
        "annotators": 1,
        "position": number,
        **known,
    }


def made_control(number: int, text: str) -> dict[str, Any]:
    """A control as it is made: nothing is known of it."""
    unknown = dict.fromkeys(
        name for name in TASKS.names if name not in {"task_id", "text", "text_sha256", "annotators", "position"}
    )
    return {**task(number, text), **unknown}


def write_review(folder: Path, tasks: Sequence[Mapping[str, Any]], stream: Stream = Stream.AUDIT) -> Folder:
    """A review's folder with these tasks, which lie in the file in another order than that of asking."""
    review = Folder(str(folder))
    folder.mkdir(exist_ok=True)
    rows = sorted(tasks, key=lambda row: row["task_id"])
    files.write_parquet(review.tasks(stream), pa.Table.from_pylist([dict(row) for row in rows], TASKS))
    files.write_parquet(review.controls, CONTROLS.empty_table())
    files.write_json(review.plan, {"output": "out"})
    return review


def standing(review: Folder) -> dict[tuple[str, str], str]:
    """The answers that stand, by task and annotator."""
    with Store(review.labels) as store:
        return {(row["task_id"], row["annotator"]): Label(row["label"]) for row in store.labels().to_pylist()}


class Served:
    """The page in a process of its own, which can be killed and started again on the same port."""

    def __init__(self, review: Folder, **options: Any) -> None:
        self._call = f"serve({review.path!r}, Stream.AUDIT, **options)"
        self._options = options
        self.port = 0
        self._process: subprocess.Popen[str] | None = None
        self.start()

    def start(self) -> None:
        options = {**self._options, "port": self.port}
        script = (
            "from pipelines.review.page import serve\nfrom pipelines.review.records import Stream\n"
            f"options = {options!r}\n{self._call}"
        )
        self._process = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE, text=True)
        assert self._process.stderr is not None
        said = ""
        for line in self._process.stderr:
            said += line
            if " tasks at http://" in line:
                self.url = line.split(" tasks at ")[1].split()[0]
                self.port = int(self.url.split("/")[2].rsplit(":", 1)[1])
                return
        raise AssertionError(f"the page did not start:\n{said}")

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def kill(self) -> None:
        """As the power would be cut."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        assert self._process.stderr is not None
        self._process.stderr.close()


@contextmanager
def served(review: Folder, **options: Any) -> Iterator[Served]:
    page = Served(review, **options)
    try:
        yield page
    finally:
        page.kill()


class Browser:
    """A headless Chromium with an empty profile."""

    def __init__(self, profile: Path) -> None:
        if CHROMIUM is None:
            pytest.skip("no Chromium here")
        self._profile = profile
        to_read, self._out = os.pipe()
        from_write, to_write = os.pipe()
        self._in = os.fdopen(from_write, "rb")
        own = [*FLAGS, f"--user-data-dir={profile}"]
        self._process = subprocess.Popen(
            [sys.executable, "-ISc", PLACE, str(to_read), str(to_write), CHROMIUM, *own],
            pass_fds=(to_read, to_write),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(to_read)
        os.close(to_write)
        self._numbers = itertools.count(1)
        self._answers: dict[int, queue.SimpleQueue[dict[str, Any]]] = {}
        self.events: list[dict[str, Any]] = []
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        left = b""
        with suppress(OSError, ValueError):
            while more := os.read(self._in.fileno(), 1 << 16):
                *whole, left = (left + more).split(b"\0")
                for message in map(json.loads, whole):
                    if "id" in message:
                        self._answers[message["id"]].put(message)
                    else:
                        self.events.append(message)

    def call(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        number = next(self._numbers)
        self._answers[number] = queue.SimpleQueue()
        message = {"id": number, "method": method, "params": parameters, **({"sessionId": session} if session else {})}
        os.write(self._out, json.dumps(message).encode() + b"\0")
        answer = self._answers[number].get(timeout=PATIENCE)
        assert "error" not in answer, answer
        result: dict[str, Any] = answer["result"]
        return result

    def tab(self) -> Tab:
        """A new tab that shares no cookie with others."""
        context = self.call("Target.createBrowserContext")["browserContextId"]
        target = self.call("Target.createTarget", url="about:blank", browserContextId=context)["targetId"]
        return Tab(self, self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"])

    def close(self) -> None:
        with suppress(AssertionError, OSError, queue.Empty):
            self.call("Browser.close")
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=5)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        os.close(self._out)


class Tab:
    """One tab: pages, keys, and all requests that it made."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser = browser
        self._session = session
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self._browser.call(method, self._session, **parameters)

    def events(self, method: str) -> list[dict[str, Any]]:
        """What the browser reported of this tab."""
        own = [event for event in self._browser.events if event.get("sessionId") == self._session]
        return [event["params"] for event in own if event["method"] == method]

    def open(self, url: str) -> None:
        self._leave(lambda: self.call("Page.navigate", url=url), url)

    def reload(self) -> None:
        self._leave(lambda: self.call("Page.reload"), "reload")

    def _leave(self, do: Callable[[], object], what: str, to: str = "") -> None:
        """Does what leads to another page, and waits until that is there."""
        before = self.run("performance.timeOrigin")
        do()
        there = f"performance.timeOrigin !== {before} && document.readyState === 'complete'"
        there += f" && location.href.includes({to!r})"
        self.wait(lambda: self._settled(there), what)

    def run(self, script: str) -> Any:
        """The value of an expression in the page."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def wait(self, until: Callable[[], object], what: str) -> None:
        end = time.monotonic() + PATIENCE
        while not until():
            assert time.monotonic() < end, f"waited in vain for {what}: {self.state()}"
            time.sleep(0.01)

    def state(self) -> Any:
        with suppress(AssertionError):
            return self.run("[location.href, document.body.innerText.slice(0, 400)]")

    def press(self, key: str, code: str | None = None, shift: bool = False) -> None:
        """A key, down and up, to whatever has the focus."""
        text = {"Enter": "\r", "Space": " "}.get(key, key if len(key) == 1 else "")
        name = " " if key == "Space" else key
        number = {"Enter": 13, "Space": 32, "Tab": 9, "Escape": 27}.get(
            key, ord(key[0].upper()) if len(key) == 1 else 0
        )
        own = {
            "key": name,
            "code": code or (f"Key{key.upper()}" if key.isalpha() and len(key) == 1 else key),
            "windowsVirtualKeyCode": number,
            "modifiers": 8 if shift else 0,
        }
        self.call("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", text=text, **own)
        self.call("Input.dispatchKeyEvent", type="keyUp", **own)

    def follow(self, key: str, to: str, code: str | None = None) -> None:
        """Presses a key that leads to another page, whose address has ``to`` in it."""
        self._leave(lambda: self.press(key, code), f"{to} after {key!r}", to)

    def _settled(self, there: str) -> bool:
        # Between two pages there is for a moment nothing to ask.
        with suppress(AssertionError):
            return bool(self.run(there))
        return False

    def type(self, text: str) -> None:
        self.call("Input.insertText", text=text)

    def requests(self) -> list[str]:
        """The URLs of all requests."""
        return [event["request"]["url"] for event in self.events("Network.requestWillBeSent")]

    def look(self, width: int = 1280, height: int = 800, dark: bool = False) -> None:
        """Sets the size of the screen and the colours that the person prefers."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def screenshot(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))
