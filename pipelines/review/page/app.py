"""The page's addresses. Names stand in the URL, so that two people can work in two tabs of one browser.

=============================  ==========================================================
``/``                          who is there (a form); with ``?token=``, lets a browser in
``/as/NAME/``                  leads to the next task, or says that there is none
``/as/NAME/task/TASK``         asks: the document's text, and no more
``/as/NAME/text/TASK?from=N``  a further piece of a long text, as JSON
``/as/NAME/answer``            takes an answer (a form)
``/as/NAME/undo``              takes the latest back (a form)
``/as/NAME/answered/TASK``     what the person said, and beside it what the pipeline says
=============================  ==========================================================
"""

from __future__ import annotations

import math
import re
import sqlite3
from pathlib import Path
from typing import Any

from flask import Flask, Response, abort, jsonify, redirect, render_template, request, send_from_directory, url_for
from jinja2 import StrictUndefined
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response as AnyResponse

import pipelines.review.page.guard as guards
import pipelines.review.page.runs as runs
from pipelines.errors import UsageError
from pipelines.review.page.desk import LONGEST_COMMENT, LONGEST_NAME, Desk
from pipelines.review.page.guard import HEADERS, Guard
from pipelines.review.records import Label

LABELS = (  # key, label, the button's words, what it means
    ("h", Label.HUMAN, "Human", "People wrote it, well or badly."),
    ("m", Label.MACHINE, "Machine", "A machine wrote it."),
    ("e", Label.EDITED, "Edited", "A machine wrote or rewrote part of it."),
    ("c", Label.CANNOT_TELL, "Cannot tell", "The text does not show it."),
)
MOST_EVIDENCE = 60
FOLDER = Path(__file__).parent
_LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*")


def app(desk: Desk, guard: Guard) -> Flask:
    """The page as a WSGI application."""
    web = Flask(__name__, template_folder="templates", static_folder=None)
    web.jinja_env.undefined = StrictUndefined
    web.jinja_env.globals.update(
        labels=LABELS, runs=runs, stream=desk.stream.value, form_token=lambda: guards.form_token(request)
    )
    web.config["MAX_CONTENT_LENGTH"] = 1 << 18
    _guarded(web, guard)
    _sign_in(web, desk, guard)
    _asking(web, desk)
    _answering(web, desk)
    return web


def _guarded(web: Flask, guard: Guard) -> None:
    @web.before_request
    def check() -> AnyResponse | str | tuple[str, int] | None:
        if not guard.knows_host(request):
            return _refused(
                421, "This address is not one of the page's own", "Open it by the address that was printed."
            )
        if guard.shows_token(request):
            return render_template("let_in.html")
        if request.path != url_for("style") and not guard.lets_in(request):
            return _refused(
                403, "This page needs its token", "Open it once by the address that was printed, token and all."
            )
        if request.method == "POST" and guard.is_forged(request):
            return _refused(403, "This form did not come from the page", "Load the page again, and then answer.")
        return None

    @web.after_request
    def headers(response: Response) -> Response:
        response.headers.update(HEADERS)
        if response.mimetype == "text/html" and guard.may_pass(request):
            guard.give_cookie(request, response)
        return response

    @web.errorhandler(HTTPException)
    def failed(error: HTTPException) -> tuple[str, int]:
        return _refused(error.code or 500, error.name, error.description or "")

    @web.errorhandler(UsageError)
    @web.errorhandler(sqlite3.Error)
    def not_kept(error: Exception) -> tuple[str, int]:
        web.logger.error("%s", error)
        return _refused(
            503, "Answers cannot be read or kept just now", f"Nothing was kept of this; send it again. {error}"
        )


def _sign_in(web: Flask, desk: Desk, guard: Guard) -> None:
    @web.get("/")
    def who() -> str:
        return render_template("sign_in.html", tasks=desk.tasks, longest=LONGEST_NAME, wrong=None)

    @web.post("/sign-in")
    def sign_in() -> AnyResponse | tuple[str, int]:
        name = request.form.get("name", "")
        person = desk.person(name)
        if person is None:
            wrong = f"A name has a letter or a digit, no slash, and at most {LONGEST_NAME} characters."
            return render_template("sign_in.html", tasks=desk.tasks, longest=LONGEST_NAME, wrong=wrong), 422
        return redirect(url_for("go_on", name=person), 303)

    @web.get("/page.js")
    def script() -> Response:
        return send_from_directory(FOLDER, "page.js")

    @web.get("/page.css")
    def style() -> Response:
        return send_from_directory(FOLDER, "page.css")


def _asking(web: Flask, desk: Desk) -> None:
    @web.get("/as/<name>/")
    def go_on(name: str) -> AnyResponse | str:
        person = _person(desk, name)
        task = desk.next(person)
        if task is not None:
            return redirect(url_for("ask", name=person, task=task), 303)
        progress = desk.progress(person)
        return render_template("finished.html", person=person, progress=progress, latest=desk.latest(person))

    @web.get("/as/<name>/task/<task>")
    def ask(name: str, task: str) -> AnyResponse | str:
        person, task = _person(desk, name), _task(desk, task)
        if desk.answer_of(person, task):
            return redirect(url_for("answered", name=person, task=task), 303)
        if not desk.show(person, task) and (desk.next(person) != task):
            return redirect(url_for("go_on", name=person), 303)
        return render_template(
            "ask.html", latest=desk.latest(person), longest=LONGEST_COMMENT, **_shown(desk, person, task)
        )

    @web.get("/as/<name>/text/<task>")
    def text(name: str, task: str) -> Response:
        _person(desk, name)
        start = request.args.get("from", 0, type=int)
        piece = runs.piece(desk.text(_task(desk, task)), start, runs.FURTHER)
        return jsonify(runs=[list(run) for run in piece.runs], next=piece.next)


def _answering(web: Flask, desk: Desk) -> None:
    @web.post("/as/<name>/answer")
    def answer(name: str) -> AnyResponse:
        person, task = _person(desk, name), _task(desk, request.form.get("task", ""))
        try:
            label = Label(request.form.get("label", ""))
        except ValueError:
            abort(422, "No such answer.")
        desk.answer(person, task, label, _seconds(request.form.get("seconds")), request.form.get("comment", ""))
        return _on(url_for("answered", name=person, task=task))

    @web.post("/as/<name>/undo")
    def undo(name: str) -> AnyResponse:
        person, task = _person(desk, name), _task(desk, request.form.get("task", ""))
        desk.undo(person, task)
        return _on(url_for("ask", name=person, task=task))

    @web.get("/as/<name>/answered/<task>")
    def answered(name: str, task: str) -> AnyResponse | str:
        person, task = _person(desk, name), _task(desk, task)
        given = desk.answer_of(person, task)
        if given is None:
            return redirect(url_for("ask", name=person, task=task), 303)
        return render_template(
            "answered.html",
            given=given,
            known=desk.known(task),
            most=MOST_EVIDENCE,
            latest=desk.latest(person),
            **_shown(desk, person, task),
        )


def _shown(desk: Desk, person: str, task: str) -> dict[str, Any]:
    """What both the question and the answered page show of a task."""
    start = request.args.get("from", 0, type=int)
    language = desk.language(task)
    return {
        "person": person,
        "task": task,
        "piece": runs.piece(desk.text(task), start, runs.FURTHER if start else runs.FIRST),
        "language": language if language and _LANGUAGE.fullmatch(language) else "",
        "progress": desk.progress(person),
    }


def _person(desk: Desk, name: str) -> str:
    person = desk.person(name)
    if person is None:
        abort(404, "No such name; sign in again.")
    return person


def _task(desk: Desk, task: str) -> str:
    if not desk.has(task):
        abort(404, "No such task; the review may have been drawn anew. Go on with the next one.")
    return task


def _on(where: str) -> AnyResponse:
    """Leads on: the page's script asks for JSON, so that it learns of a failure and keeps what was chosen."""
    return jsonify(to=where) if request.accept_mimetypes.best == "application/json" else redirect(where, 303)


def _seconds(said: str | None) -> float | None:
    try:
        seconds = float(said or "")
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) and seconds >= 0 else None


def _refused(code: int, what: str, mend: str) -> tuple[str, int]:
    return render_template("refused.html", what=what, mend=mend), code
