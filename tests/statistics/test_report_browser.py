"""The report in a real browser, which would run a script if there were one to run."""

import html
import re
import shutil
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from pipelines.statistics.report import render
from tests.statistics.report_tables import panel_table
from tests.statistics.test_report import DOCUMENTS, FULL, SUMMARY, set_columns, tables_of

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed here")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run")


def browse(page, tmp_path, *flags):
    command = [BROWSER, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", *flags, page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout


def dom(text, tmp_path):
    page = tmp_path / "page.html"
    page.write_text(text, "utf-8")
    return browse(page, tmp_path, "--dump-dom", "--virtual-time-budget=3000")


@pytest.fixture
def listener():
    """A server that notes what is asked of it."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()


def attacks(address):
    run = "document.title='owned';document.body.dataset.owned='1';new Image().src='" + address + "/js'"
    return [
        f"<script>{run}</script>",
        f"</title><script>{run}</script>",
        f"</style></svg></table></details><script>{run}</script>",
        f'"><img src="{address}/img" onerror="{run}">',
        f'\'><svg onload="{run}"><style>@import url({address}/css);</style></svg>',
        f'<iframe src="{address}/frame" srcdoc="<script>parent.document.title=1</script>"></iframe>',
        f'<a href="javascript:{run}" autofocus onfocus="{run}">x</a><input autofocus onfocus="{run}">',
        f'<meta http-equiv="refresh" content="0;url={address}/meta"><link rel="stylesheet" href="{address}/link">',
        f'<base href="{address}/"><object data="{address}/object"></object><body onload="{run}">',
        "\u202egnp.exe\u2066\x00\x0b\ud800<\x00script>" + "A" * 2_000_000,
    ]


def hostile_report(address):
    texts = attacks(address)
    rows = DOCUMENTS.num_rows
    names = [text[:2000].encode("utf-8", "replace").decode() for text in texts]
    hosts = [names[i % len(names)] for i in range(rows)]
    tables = tables_of(set_columns(DOCUMENTS, host=hosts, language=[hosts[0]] * rows))
    tables["panel"] = panel_table(tuple(hosts[:3]), months=40, classes=tuple(hosts[3:6]))
    samples = [
        {"url": text, "verdict": text if i % 2 else "clear", "text": text, "doc_id": text, "language": text}
        | {"evidence": [{"source": text, "kind": text, "detail": text, "probability": 0.5}]}
        for i, text in enumerate(texts)
    ]
    summary = SUMMARY | {"job": {text: text for text in hosts[:9]}, "detector": {"name": hosts[0]}}
    return render(summary, tables, samples, texts[1])


def test_hostile_text_does_nothing(tmp_path, listener):
    address, asked = listener
    (tmp_path / "open").mkdir()
    control = "".join(attacks(address)[:1]) + '<img src="' + address + '/control">'
    done = dom(f"<!doctype html><title>before</title><body>{control}</body>", tmp_path / "open")
    assert "<title>owned</title>" in done  # the browser does run what it is given
    assert {"/js", "/control"} <= set(asked)
    asked.clear()
    report = hostile_report(address)
    seen = dom(report, tmp_path)
    assert asked == []
    assert "data-owned" not in seen.split("<body")[1].split(">")[0]
    title = html.unescape(re.search("<title>(.*?)</title>", seen, re.S)[1])
    assert title.startswith("</title><script>")  # as text
    assert not re.search(r"<(script|iframe|object|base|img|input|link|form)\b", seen)
    assert seen.count("<meta") == report.count("<meta")
    assert not re.search(r"<[^>]+\son\w+=", re.sub('aria-label="[^"]*"', "", seen))


def measured(report, width, script, tmp_path):
    """What a script outside the report sees of it in a frame of that width."""
    room = tmp_path / f"{width}"
    room.mkdir()
    frame = f'<iframe width={width} height=800 style="border:0" srcdoc="{html.escape(report)}"></iframe>'
    look = f"onload=()=>{{const d=document.querySelector('iframe').contentDocument;document.title={script}}}"
    seen = dom(f"<!doctype html><title>before</title>{frame}<script>{look}</script>", room)
    return [int(n) for n in re.search("<title>([0-9 ]+)</title>", seen)[1].split()]


CELLS = "[...d.querySelectorAll('details td')]"
SHOWN = ".filter(e=>e.checkVisibility({contentVisibilityAuto:true})&&e.getBoundingClientRect().height>0)"
SEEN = f"{CELLS}{SHOWN}.length+' '+{CELLS}.length+' '+d.documentElement.scrollWidth+' '+d.documentElement.scrollHeight"


@pytest.mark.slow
def test_fits_a_telephone_without_sideways_scrolling_and_unfolds_in_print(tmp_path):
    shown, cells, wide, high = measured(FULL, 360, SEEN, tmp_path)
    assert wide <= 360
    assert high > 3000
    assert shown == 0
    printed = FULL.replace("@media print{", "@media all{")
    assert printed != FULL
    shown, again, wide, taller = measured(printed, 794, SEEN, tmp_path)  # of A4
    assert shown == again == cells > 100
    assert wide <= 794
    assert taller > high / 2
