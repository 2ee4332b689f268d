"""The page without a browser: who is asked what, what is shown when, and who is kept out."""

import re
import socket
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("flask", reason="the page needs the extra `review`")
pytest.importorskip("waitress", reason="the page needs the extra `review`")

from flask.testing import FlaskClient

from pipelines.errors import UsageError
from pipelines.review.page import is_loopback, serve
from pipelines.review.page.app import app
from pipelines.review.page.desk import HELD, Desk
from pipelines.review.page.guard import HEADERS, Guard
from pipelines.review.records import Answer, Folder, Label, Stream
from pipelines.review.store import Store
from tests.review.page_tools import made_control, standing, task, write_review

HERE = "http://127.0.0.1:8077"
SAME = {"Sec-Fetch-Site": "same-origin"}
SECRETS = ("secret", "suspected", "quarantine", "97.3", "2024-05", "surprisal")
TOKEN = "a-token-of-some-length"


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def review(tmp_path: Path) -> Folder:
    return write_review(
        tmp_path / "review", [task(n, f"text number {n}", annotators=2 if n == 1 else 1) for n in range(5)]
    )


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def desk(review: Folder, clock: Clock) -> Desk:
    return Desk(review, Stream.AUDIT, clock)


@pytest.fixture
def client(desk: Desk) -> Iterator[FlaskClient]:
    with app(desk, Guard()).test_client() as made:
        yield made


def task_id(number: int) -> str:
    return str(task(number, "")["task_id"])


def answer(client: FlaskClient, person: str, number: int, label: str = "human", **fields: str) -> Any:
    data = {"task": task_id(number), "label": label, **fields}
    return client.post(f"/as/{person}/answer", data=data, headers=SAME, base_url=HERE)


def next_of(client: FlaskClient, person: str) -> str | None:
    """The task that the page leads to."""
    found = client.get(f"/as/{person}/", base_url=HERE)
    return str(found.headers["Location"]).rsplit("/", 1)[1] if found.status_code == 303 else None


def page(client: FlaskClient, path: str) -> str:
    found = client.get(path, base_url=HERE)
    assert found.status_code == 200, found.headers
    return str(found.text)


# Who is asked what


def test_tasks_are_asked_in_the_order_of_their_positions(client: FlaskClient) -> None:
    for number in range(5):
        assert next_of(client, "ada") == task_id(number)
        answer(client, "ada", number)
    assert next_of(client, "ada") is None


def test_two_people_share_the_tasks_and_both_get_the_double_one(client: FlaskClient, review: Folder) -> None:
    asked: list[tuple[str, str]] = []
    for _ in range(10):
        for person in ("ada", "bob"):
            found = next_of(client, person)
            if found is not None:
                asked.append((found, person))
                assert next_of(client, person) == found  # until it is answered
        for found, person in asked[-2:]:
            client.post(f"/as/{person}/answer", data={"task": found, "label": "human"}, headers=SAME, base_url=HERE)
    by_task = {number: {who for found, who in asked if found == task_id(number)} for number in range(5)}
    assert by_task[1] == {"ada", "bob"}
    assert all(len(by_task[number]) == 1 for number in (0, 2, 3, 4))
    assert len(standing(review)) == 6
    assert "All is answered" in page(client, "/as/ada/")


def test_a_task_that_someone_left_is_asked_of_another_after_a_while(client: FlaskClient, clock: Clock) -> None:
    assert next_of(client, "ada") == task_id(0)
    assert next_of(client, "bob") == task_id(1)
    clock.now += HELD + 1
    assert next_of(client, "cyd") == task_id(0)
    answer(client, "ada", 0)  # late, and kept all the same
    answer(client, "cyd", 0)
    assert next_of(client, "cyd") == task_id(1)


def test_open_tasks_that_others_hold_are_said_to_be_with_them(client: FlaskClient) -> None:
    for number in range(4):
        answer(client, "ada", number)
    assert next_of(client, "bob") == task_id(1)
    answer(client, "bob", 1)
    assert next_of(client, "bob") == task_id(4)
    assert "Nothing open for you now" in page(client, "/as/ada/")


def test_answers_of_another_tool_count(desk: Desk, review: Folder) -> None:
    with Store(review.labels) as store:
        store.add([Answer(task_id(0), "bob", Label.HUMAN, datetime.now(UTC), tool="label-studio")])
    assert desk.next("ada") == task_id(1)
    assert desk.latest("bob") is None  # not given here, so not taken back here
    assert not desk.undo("bob", task_id(0))


def test_what_another_process_adds_is_seen_at_once(desk: Desk, review: Folder) -> None:
    for number in range(5):
        time.sleep(0.12)  # until what was read before is old enough to be kept
        assert desk.progress("bob").own == number
        assert desk.progress("bob").own == number
        with Store(review.labels) as store:
            store.add([Answer(task_id(number), "bob", Label.HUMAN, datetime.now(UTC), tool="jsonl")])
            assert desk.progress("bob").own == number + 1  # while its log is still open, too


def test_names_in_other_letters_are_one_person(client: FlaskClient, review: Folder) -> None:
    answer(client, "Ada", 0)
    signed = client.post("/sign-in", data={"name": "  ADA "}, headers=SAME, base_url=HERE)
    assert signed.headers["Location"] == "/as/Ada/"
    answer(client, "aDA", 2)
    assert {who for _, who in standing(review)} == {"Ada"}


@pytest.mark.parametrize("name", ["", "   ", "a/b", "x" * 61, "..", "ada\u202e", "a\0b"])
def test_what_is_no_name_is_asked_again(client: FlaskClient, name: str) -> None:
    signed = client.post("/sign-in", data={"name": name}, headers=SAME, base_url=HERE)
    assert signed.status_code == 422
    assert "A name has a letter" in signed.text


# What is shown when


def test_nothing_is_known_before_the_answer_and_all_after_it(client: FlaskClient) -> None:
    before = page(client, f"/as/ada/task/{next_of(client, 'ada')}")
    assert "text number 0" in before
    assert not [word for word in SECRETS if word in before]
    early = client.get(f"/as/ada/answered/{task_id(0)}", base_url=HERE)
    assert early.status_code == 303
    answer(client, "ada", 0, "machine", comment="reads <b>like</b> one")
    after = page(client, f"/as/ada/answered/{task_id(0)}")
    assert "You said: machine" in after
    assert "reads &lt;b&gt;like&lt;/b&gt; one" in after
    assert not [word for word in SECRETS if word not in after]
    assert "https://secret0.example" not in re.findall(r'\s(?:href|src)="([^"]*)"', after)


def test_people_are_blind_to_each_other(client: FlaskClient) -> None:
    answer(client, "ada", 1, "edited", comment="ada's own words")
    for path in (f"/as/bob/task/{next_of(client, 'bob')}", f"/as/bob/task/{task_id(1)}"):
        shown = client.get(path, base_url=HERE, follow_redirects=True).text
        assert "own words" not in shown
        assert "Kept" not in shown
    answer(client, "bob", 1)
    shown = page(client, f"/as/bob/answered/{task_id(1)}")
    assert "You said: human" in shown
    assert "own words" not in shown
    assert "ada" not in shown


def test_controls_are_asked_like_others(tmp_path: Path) -> None:
    # The same text, so that what differs comes of its being a control.
    review = write_review(tmp_path / "r", [task(0, "the same"), {**made_control(1, "the same"), "language": "en"}])
    shown = []
    with app(Desk(review, Stream.AUDIT), Guard()).test_client() as client:
        for number, person in enumerate(("ada", "bob")):
            found = next_of(client, person)
            assert found == task_id(number)
            shown.append(page(client, f"/as/{person}/task/{found}").replace(found, "T").replace(person, "P"))
        assert shown[0].splitlines() == shown[1].splitlines()
        answer(client, "bob", 1)
        assert "Nothing is recorded" in page(client, f"/as/bob/answered/{task_id(1)}")


def test_progress_is_of_the_person_and_of_all(client: FlaskClient) -> None:
    answer(client, "ada", 0)
    answer(client, "ada", 1)
    answer(client, "bob", 2)
    assert "2 by you · 3 of 6 in all" in page(client, f"/as/ada/answered/{task_id(0)}")


# Answers


def test_an_answer_is_kept_with_its_time_and_comment(client: FlaskClient, review: Folder, clock: Clock) -> None:
    next_of(client, "ada")
    clock.now += 42
    found = answer(client, "ada", 0, "cannot_tell", seconds="12.34", comment=" short \r\n")
    assert found.status_code == 303
    assert found.headers["Location"] == f"/as/ada/answered/{task_id(0)}"
    with Store(review.labels) as store:
        row = store.labels().to_pylist()[0]
    assert (row["label"], row["seconds"], row["comment"], row["tool"]) == ("cannot_tell", 12.3, "short", "serve")


@pytest.mark.parametrize(("said", "kept"), [("999", 42.0), ("", 42.0), ("nan", 42.0), ("-5", 42.0), ("7", 7.0)])
def test_no_answer_took_longer_than_since_it_was_asked(
    client: FlaskClient, review: Folder, clock: Clock, said: str, kept: float
) -> None:
    next_of(client, "ada")
    clock.now += 42
    answer(client, "ada", 0, seconds=said)
    with Store(review.labels) as store:
        assert store.labels()["seconds"].to_pylist() == [kept]


def test_the_same_answer_again_is_no_second_one_and_another_does_not_replace_it(
    client: FlaskClient, review: Folder
) -> None:
    for label in ("human", "human", "machine"):
        assert answer(client, "ada", 0, label).status_code == 303
    assert standing(review) == {(task_id(0), "ada"): "human"}
    with Store(review.labels) as store:
        assert store._database.execute("select count(*) from answers").fetchone() == (1,)


def test_the_same_answer_many_times_at_once_is_one(desk: Desk, review: Folder) -> None:
    new: list[bool] = []
    threads = [
        threading.Thread(target=lambda: new.append(desk.answer("ada", task_id(0), Label.HUMAN, 1, "")))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(new) == [False] * 7 + [True]
    with Store(review.labels) as store:
        assert store._database.execute("select count(*) from answers").fetchone() == (1,)


def test_undo_takes_the_latest_back_once_and_asks_it_again(client: FlaskClient, review: Folder) -> None:
    for number in range(3):
        answer(client, "ada", number)
    for _ in range(2):  # the second is the same form, sent again
        found = client.post("/as/ada/undo", data={"task": task_id(2)}, headers=SAME, base_url=HERE)
        assert found.headers["Location"] == f"/as/ada/task/{task_id(2)}"
        assert set(standing(review)) == {(task_id(0), "ada"), (task_id(1), "ada")}
    assert "text number 2" in page(client, f"/as/ada/task/{task_id(2)}")
    assert next_of(client, "ada") == task_id(2)
    assert f'value="{task_id(1)}"' in page(client, f"/as/ada/task/{task_id(2)}")  # what `u` takes back next
    answer(client, "ada", 2, "machine")
    assert standing(review)[task_id(2), "ada"] == "machine"


def test_undo_leaves_the_other_stream_alone(desk: Desk, review: Folder) -> None:
    write_review(Path(review.path), [task(100, "active")], Stream.ACTIVE)
    other = Desk(review, Stream.ACTIVE)
    desk.answer("ada", task_id(0), Label.HUMAN, None, "")
    other.answer("ada", task_id(100), Label.HUMAN, None, "")
    assert desk.latest("ada") is None
    assert not desk.undo("ada", task_id(0))
    assert other.undo("ada", task_id(100))
    assert desk.undo("ada", task_id(0))


@pytest.mark.parametrize(
    ("data", "status"),
    [
        ({"task": "nowhere", "label": "human"}, 404),
        ({"label": "human"}, 404),
        ({"task": task_id(0), "label": "alien"}, 422),
    ],
)
def test_wrong_answers_are_refused(client: FlaskClient, review: Folder, data: dict[str, str], status: int) -> None:
    found = client.post("/as/ada/answer", data=data, headers=SAME, base_url=HERE)
    assert found.status_code == status
    assert standing(review) == {}


def test_the_script_is_told_where_to_go_on(client: FlaskClient) -> None:
    headers = {**SAME, "Accept": "application/json"}
    data = {"task": task_id(0), "label": "human"}
    found = client.post("/as/ada/answer", data=data, headers=headers, base_url=HERE)
    assert found.get_json() == {"to": f"/as/ada/answered/{task_id(0)}"}


def test_answers_that_cannot_be_kept_are_said_not_to_be(client: FlaskClient, review: Folder) -> None:
    next_of(client, "ada")
    with Store(review.labels) as store:
        store._database.execute("drop table answers")
        store._database.execute("create view answers as select 1 as task_id")
        found = answer(client, "ada", 0)
    assert found.status_code == 503
    assert "Nothing was kept" in found.text


# Hostile text


def test_crawled_text_is_escaped_and_comes_in_pieces(tmp_path: Path) -> None:
    hostile = "<script>alert(1)</script>\u202eabc\0" + "x" * 200_000
    evil = {"source": "<i>s", "kind": "k", "detail": "\u2066<img src=x>"}
    url = 'https://e.example/"><script>' + "u" * 5_000
    review = write_review(
        tmp_path / "r", [task(0, hostile, url=url, language='en"><script>', evidence=[evil] * 100, host=None)]
    )
    with app(Desk(review, Stream.AUDIT), Guard()).test_client() as client:
        shown = page(client, f"/as/ada/task/{next_of(client, 'ada')}")
        assert len(shown) < 20_000
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in shown
        assert not re.search("<script>|\u202e|\0", shown)
        assert '<span class="sign" title="right-to-left override">U+202E</span>abc' in shown
        answer(client, "ada", 0)
        after = page(client, f"/as/ada/answered/{task_id(0)}")
        assert len(after) < 40_000
        assert not re.search("<script>|<i>s|<img|\u2066", after)
        text, start = "", 0
        while start is not None:
            piece = client.get(f"/as/ada/text/{task_id(0)}?from={start}", base_url=HERE).get_json()
            text += "".join(run for run, name in piece["runs"] if name is None)
            start = piece["next"]
    assert text == hostile.replace("\u202e", "").replace("\0", "")


# Who is kept out


def test_every_answer_has_the_headers(client: FlaskClient) -> None:
    for path in ("/", "/as/ada/", "/page.js", "/page.css", "/nowhere", f"/as/ada/text/{task_id(0)}"):
        found = client.get(path, base_url=HERE)
        assert {name: found.headers.get(name) for name in HEADERS} == HEADERS
    policy = HEADERS["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


def test_no_page_has_inline_script_or_style_or_loads_from_elsewhere(client: FlaskClient) -> None:
    answer(client, "ada", 0)
    for path in ("/", "/as/ada/answered/" + task_id(0), f"/as/ada/task/{next_of(client, 'ada')}"):
        shown = page(client, path)
        assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?! src=\"/page\.js\" defer></script>)", shown)
        assert all(found.startswith(("/", "?")) for found in re.findall(r'\s(?:href|src|action)="([^"]*)"', shown))


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8077", 200),
        ("localhost:9000", 200),  # through a tunnel
        ("[::1]:8077", 200),
        ("evil.example", 421),
        ("127.0.0.1.evil.example:8077", 421),
        ("192.168.1.5:8077", 421),
        ("[::1", 421),
        ("", 421),
    ],
)
def test_only_names_of_this_machine_are_answered(client: FlaskClient, host: str, status: int) -> None:
    assert client.get("/", headers={"Host": host}).status_code == status


@pytest.mark.parametrize(
    ("headers", "passes"),
    [
        ({"Sec-Fetch-Site": "same-origin"}, True),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "same-site", "Origin": HERE}, False),
        ({"Origin": HERE}, True),
        ({"Origin": "http://127.0.0.1:9999"}, False),
        ({"Origin": "https://evil.example"}, False),
        ({"Origin": "null"}, False),
        ({}, False),
    ],
)
def test_forms_of_other_sites_are_refused(
    client: FlaskClient, review: Folder, headers: dict[str, str], passes: bool
) -> None:
    data = {"task": task_id(0), "label": "human", "form": "guessed"}
    found = client.post("/as/ada/answer", data=data, headers=headers, base_url=HERE)
    assert found.status_code == (303 if passes else 403)
    assert bool(standing(review)) is passes


def test_where_the_browser_says_nothing_the_form_repeats_its_cookie(client: FlaskClient, review: Folder) -> None:
    first = client.get("/", base_url=HERE)
    assert "HttpOnly" in first.headers["Set-Cookie"]
    assert "SameSite=Strict" in first.headers["Set-Cookie"]
    form = re.findall(r'name="form" value="([0-9a-f]{64})"', first.text)[0]
    data = {"task": task_id(0), "label": "human", "form": form}
    assert client.post("/as/ada/answer", data=data, headers={"Origin": "null"}, base_url=HERE).status_code == 303
    assert standing(review)


def test_a_token_is_shown_once_and_then_in_a_cookie(desk: Desk) -> None:
    with app(desk, Guard("0.0.0.0", TOKEN)).test_client() as client:
        at = "http://192.168.1.5:8077"
        for path in ("/", "/?token=wrong", "/page.js", "/as/ada/", f"/as/ada/text/{task_id(0)}?token={TOKEN}"):
            refused = client.get(path, base_url=at)
            assert (refused.status_code, refused.headers.get("Set-Cookie", "")) == (403, ""), path
            assert "text number" not in refused.text
        assert client.post("/sign-in", data={"name": "ada"}, headers=SAME, base_url=at).status_code == 403
        let_in = client.get(f"/?token={TOKEN}", base_url=at)
        cookie = let_in.headers["Set-Cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
        assert TOKEN not in cookie
        assert TOKEN not in let_in.text
        assert client.get("/", base_url=at).status_code == 200
        assert client.get("/", base_url="http://192.168.1.6:8077").status_code == 403  # a cookie is a host's
        assert client.get("/", base_url="http://evil.example").status_code == 421


def test_further_names_are_answered(desk: Desk) -> None:
    with app(desk, Guard("0.0.0.0", TOKEN, ["labels.example"])).test_client() as client:
        assert client.get(f"/?token={TOKEN}", base_url="https://labels.example").status_code == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "labels.example", ""])
def test_an_address_that_others_reach_needs_a_token(review: Folder, host: str) -> None:
    with pytest.raises(UsageError, match="--token"):
        serve(review.path, host=host)
    assert not is_loopback(host)


def test_what_cannot_be_served_is_named(review: Folder, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="at least 16"):
        serve(review.path, token="short")
    with pytest.raises(UsageError, match=r"no plan\.json"):
        serve(str(tmp_path))
    with pytest.raises(UsageError, match=r"no active tasks"):
        serve(review.path, Stream.ACTIVE)
    with pytest.raises(UsageError, match="folder on this machine"):
        serve("s3://bucket/review")
    with pytest.raises(UsageError, match=r"--port 99999"):
        serve(review.path, port=99_999)
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(UsageError, match=r"cannot listen there.*--port"),
    ):
        serve(review.path, port=taken.getsockname()[1])


def test_without_the_extra_it_says_how_to_install_it(review: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "waitress.server", None)
    with pytest.raises(UsageError, match=r"pip install 'human-reserve\[review\]'"):
        serve(review.path)
