"""The page in a real browser: by keyboard alone, through a kill of the server, by two people, and with hostile text."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

pytest.importorskip("flask", reason="the page needs the extra `review`")
pytest.importorskip("waitress", reason="the page needs the extra `review`")

from pipelines.review.records import Folder
from pipelines.review.store import Store
from tests.review.page_tools import Browser, Served, Tab, served, standing, task, write_review

KEYS = {"h": "human", "m": "machine", "e": "edited", "c": "cannot_tell"}


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    opened = Browser(tmp_path_factory.mktemp("browser") / "profile")
    yield opened
    opened.close()


def sign_in(browser: Browser, page: Served, name: str) -> Tab:
    tab = browser.tab()
    tab.open(page.url)
    tab.type(name)
    tab.follow("Enter", f"/as/{name}/task/")
    return tab


def text_of(tab: Tab) -> str:
    return str(tab.run("document.getElementById('text').textContent"))


def id_of(number: int) -> str:
    return str(task(number, "")["task_id"])


def test_twenty_labels_by_keyboard_with_undo_and_a_kill_in_between(browser: Browser, tmp_path: Path) -> None:
    review = write_review(tmp_path / "review", [task(n, f"document {n} of them") for n in range(20)])
    said: dict[tuple[str, str], str] = {}
    with served(review) as page:
        tab = sign_in(browser, page, "ada")
        for number in range(20):
            assert text_of(tab) == f"document {number} of them"
            assert "secret" not in tab.run("document.documentElement.outerHTML")
            key = "hmec"[number % 4]
            if number == 4:  # a slip, taken back
                tab.follow("h", "/answered/")
                tab.follow("u", "/task/")
                assert text_of(tab) == f"document {number} of them"
                key = "m"
            if number == 9:
                page.kill()
                tab.press(key)
                tab.wait(lambda: "does not answer" in tab.run("document.body.innerText"), "word that nothing was kept")
                assert standing(review) == said
                page.start()
            if number == 15:
                page.kill()
                page.start()
                tab.reload()
            tab.follow(key, "/answered/")
            said[id_of(number), "ada"] = KEYS[key]
            assert standing(review) == said
            assert "secret" in tab.run("document.body.innerText")
            tab.follow("n" if number % 2 else "Space", "/as/ada/")
        assert "All is answered" in tab.run("document.body.innerText")
        page.kill()
    assert standing(review) == said
    with Store(review.labels) as store:
        assert all(0 <= seconds < 60 for seconds in store.labels()["seconds"].to_pylist())
    assert not tab.events("Runtime.exceptionThrown")


@pytest.mark.slow
def test_comments_help_reload_and_other_keyboards(browser: Browser, tmp_path: Path) -> None:
    review = write_review(tmp_path / "review", [task(n, f"document {n}") for n in range(3)])
    with served(review) as page:
        tab = sign_in(browser, page, "ada")
        tab.press("?", shift=True)
        assert tab.run("document.getElementById('help').matches(':popover-open')")
        tab.press("h")  # not while the help lies over the text
        tab.press("Escape")
        assert not tab.run("document.getElementById('help').matches(':popover-open')")
        tab.run("document.querySelector('[name=comment]').focus()")
        tab.type("he")
        tab.press("m")  # a letter of the comment, and no answer
        tab.press("Enter")
        tab.reload()
        assert standing(review) == {}
        tab.follow("р", "/answered/", code="KeyH")  # on a Cyrillic keyboard
        assert standing(review) == {(id_of(0), "ada"): "human"}
        with Store(review.labels) as store:
            assert store.labels()["comment"].to_pylist() == ["hem"]
        tab.reload()
        tab.follow("Enter", "/task/")  # the focus is on "Next"
        tab.run("document.getElementById('keys').click()")
        tab.press("h")
        tab.reload()
        tab.press("h")
        assert text_of(tab) == "document 1"
        assert set(standing(review)) == {(id_of(0), "ada")}


@pytest.mark.slow
def test_two_people_at_once_are_blind_to_each_other(browser: Browser, tmp_path: Path) -> None:
    review = write_review(tmp_path / "review", [task(n, f"document {n}", annotators=2) for n in range(3)])
    with served(review) as page:
        ada, bob = sign_in(browser, page, "ada"), sign_in(browser, page, "bob")
        for number in range(3):
            for tab, key in ((ada, "e"), (bob, "h")):
                assert text_of(tab) == f"document {number}"
                tab.follow(key, "/answered/")
                shown = tab.run("document.documentElement.outerHTML")
                assert ("edited" in tab.run("document.title")) is (key == "e")
                assert ("bob" if tab is ada else "ada") not in shown
                tab.follow("n", "/as/")
    expected = {(id_of(n), who): label for n in range(3) for who, label in (("ada", "edited"), ("bob", "human"))}
    assert standing(review) == expected


@contextmanager
def listening() -> Iterator[tuple[int, list[bytes]]]:
    """A server that nobody should reach, and what each connection to it said first."""
    heard: list[bytes] = []
    server = socket.create_server(("127.0.0.1", 0))

    def listen() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with connection, suppress(OSError):
                connection.settimeout(1)
                heard.append(b"")
                heard[-1] = connection.recv(200)
                connection.sendall(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")

    threading.Thread(target=listen, daemon=True).start()
    try:
        yield server.getsockname()[1], heard
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()


def hostile(at: str) -> str:
    return (
        f"<script>window.owned=1;fetch('{at}/script')</script><script src='{at}/src.js'></script>\n"
        f"<iframe src='{at}/frame'></iframe><img src='{at}/image' onerror='window.owned=1'>\n"
        f"<link rel=stylesheet href='{at}/style'><meta http-equiv=refresh content='0;url={at}/refresh'>\n"
        f"<base href='{at}/'><form action='{at}/form'><svg onload='window.owned=1'>{at}/bare\n"
        "</div></article></main>{{ 7*7 }} &lt;b&gt; \0\0\0 \x1b[2J \u202egnp.exe\u202c \u2066\u2067 \u200bz\n"
    )


def test_hostile_text_is_harmless(browser: Browser, tmp_path: Path) -> None:
    with listening() as (port, heard):
        at = f"http://127.0.0.1:{port}"
        text = hostile(at) + "x" * 2_000_000 + "\n" + hostile(at)
        evidence = [{"source": hostile(at), "kind": "leak", "detail": hostile(at)}]
        review = write_review(tmp_path / "r", [task(0, text, url=hostile(at), verdict=hostile(at), evidence=evidence)])
        with served(review) as page:
            tab = sign_in(browser, page, "ada")
            check_harmless(tab, page, at)
            assert tab.run("document.getElementById('text').textContent.length") < 10_000
            for _ in range(3):
                length = tab.run("document.getElementById('text').textContent.length")
                tab.run("document.getElementById('more').click()")
                tab.wait(lambda n=length: tab.run("document.getElementById('text').textContent.length") > n, "more")
            # The end of the text, with the same hostile part, as the script puts it into the page.
            tab.run(f"document.getElementById('more').href = '?from={len(text) - 2_000}'")
            tab.run("document.getElementById('more').click()")
            tab.wait(lambda: not tab.run("!!document.getElementById('more')"), "the text's end")
            check_harmless(tab, page, at)
            assert text_of(tab).count("<iframe") == 2
            tab.follow("m", "/answered/")
            check_harmless(tab, page, at)
            assert tab.run("document.querySelector('.found').textContent").count("<iframe") == 4
        assert heard == []


def check_harmless(tab: Tab, page: Served, at: str) -> None:
    assert tab.run("window.owned") is None
    assert tab.run("document.querySelectorAll('iframe, img, svg, base, .text *:not(.sign), .found a').length") == 0
    assert tab.run("/[\\u202a-\\u202e\\u2066-\\u2069\\0\\u001b]/.test(document.body.textContent)") is False
    assert {url.split("/")[2] for url in tab.requests() if url != "about:blank"} == {f"127.0.0.1:{page.port}"}
    # Nothing is wider than the screen, and the answers can be reached.
    assert tab.run("document.documentElement.scrollWidth <= innerWidth")
    assert tab.run("document.querySelector('.bar').getBoundingClientRect().bottom <= innerHeight + 1")
    assert at not in str(tab.run("[...document.links].map((link) => link.href).join()"))


@pytest.mark.slow
def test_the_policy_stops_what_escaping_might_miss(browser: Browser, tmp_path: Path) -> None:
    with listening() as (port, heard):
        at = f"http://127.0.0.1:{port}"
        with served(write_review(tmp_path / "r", [task(0, "text")])) as page:
            tab = sign_in(browser, page, "ada")
            tab.run(f"void fetch('{at}/fetch').catch(() => 0)")
            tab.run(
                "for (const [name, key] of [['script', 'src'], ['img', 'src'], ['iframe', 'src'], ['link', 'href']]) {"
                "  const made = document.createElement(name); if (name === 'link') made.rel = 'stylesheet';"
                f"  try {{ made[key] = '{at}/' + name; document.body.append(made); }} catch {{}}"
                "}"
            )
            refused = "(() => { try { document.body.innerHTML = '<p>'; return false; } catch { return true; } })()"
            assert tab.run(refused)
            tab.reload()
        # Chromium may open a connection for a frame before it asks the policy; nothing is sent over it.
        assert not any(heard)


@pytest.mark.slow
def test_a_token_opens_the_page_from_a_link_on_another_site(browser: Browser, tmp_path: Path) -> None:
    review = write_review(tmp_path / "review", [task(0, "text")])
    with served(review, token="a-token-of-some-length") as page:
        tab = browser.tab()
        tab.open(page.base)
        assert "needs its token" in tab.run("document.body.innerText")
        tab.open(f"data:text/html,<a href='{page.url}'>link</a>")
        tab.run("document.links[0].click()")
        tab.wait(lambda: tab.run("document.getElementById('name') !== null"), "the form")
        assert tab.run("location.href") == f"{page.base}/"
        assert tab.run("document.cookie") == ""
        tab.run("document.getElementById('name').focus()")
        tab.type("ada")
        tab.follow("Enter", "/task/")
        tab.follow("h", "/answered/")
    assert standing(review) == {(id_of(0), "ada"): "human"}


@pytest.mark.slow
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [360, 1280])
def test_it_fits_the_screen_and_can_be_read(
    browser: Browser, small: tuple[Served, Folder], width: int, dark: bool
) -> None:
    page, _ = small
    tab = browser.tab()
    tab.look(width, 740, dark)
    name = f"p{width}{dark}"
    tab.open(page.url)
    tab.type(name)
    tab.follow("Enter", "/task/")
    for key in ("h", "n"):
        assert tab.run("document.documentElement.scrollWidth <= innerWidth")
        small_targets = (
            "[...document.querySelectorAll('.bar button, .bar .button')].filter((e) => e.offsetHeight < 44).length"
        )
        assert tab.run(small_targets) == 0
        assert tab.run(LOWEST_CONTRAST) >= 4.5
        tab.follow(key, "/as/")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Served, Folder]]:
    text = "A line of text. " * 100 + "\u202e"
    review = write_review(tmp_path_factory.mktemp("small") / "r", [task(n, text, annotators=9) for n in range(3)])
    with served(review) as page:
        yield page, review


# Of all elements with text of their own: WCAG 2.2, 1.4.3, on the nearest background that is painted.
LOWEST_CONTRAST = """(() => {
  const rgb = (c) => c.match(/[\\d.]+/g).map(Number);
  const light = (c) => rgb(c).slice(0, 3).map((v) => v / 255)
    .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const under = (e) => { for (; e; e = e.parentElement) {
    const c = getComputedStyle(e).backgroundColor; if (rgb(c)[3] !== 0) return c; } return 'rgb(255, 255, 255)'; };
  const own = [...document.body.querySelectorAll('*')].filter((e) => e.checkVisibility() && !e.closest('kbd') &&
    [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim()));
  return Math.min(...own.map((e) => {
    const [a, b] = [light(getComputedStyle(e).color), light(under(e))].sort((x, y) => y - x);
    return (a + 0.05) / (b + 0.05);
  }));
})()"""
