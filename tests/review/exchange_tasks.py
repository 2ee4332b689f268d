"""Tasks and answers for the tests of the forms."""

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
from hypothesis import strategies as st

from pipelines.review.records import TASKS, Answer, Label

THEN = datetime(2026, 5, 1, 12, tzinfo=UTC)

HOSTILE = [
    "plain",
    "nul \0 bell \7 escape \x1b delete \x7f next line \x85 end",
    "separators \u2028 and \u2029, form feed \f, vertical tab \v, byte order mark \ufeff",
    "right to left \u202eevil\u202c and שלום, مرحبا",
    "emoji 👩‍👩‍👧‍👦 🏴‍☠️, beyond the plane \U0010ffff, combining e\u0301",
    '<script>alert(1)</script><iframe src="https://example.org"></iframe> "quoted" \\ back & amp; {{x}} $text',
    "lines\r\n\ttabs\r",
    "a line of two megabytes " + "x" * 2_000_000,
    "[" * 50 + '{"task_id": "no"}',
    "ä" * 3,
]


def task_id(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()[:32]


def tasks(texts: Sequence[str], made: Sequence[int] = (), twice: Sequence[int] = (), **columns: list[Any]) -> pa.Table:
    """One task a text, in an order of asking that is not that of the table; ``made`` are made controls."""
    count = len(texts)
    crawled = [number not in made for number in range(count)]

    def unless_made(values: list[Any]) -> list[Any]:
        return [value if kept else None for value, kept in zip(values, crawled, strict=True)]

    found: dict[str, list[Any]] = {
        "task_id": [task_id(number) for number in range(count)],
        "text": list(texts),
        "text_sha256": [hashlib.sha256(text.encode()).hexdigest() for text in texts],
        "url": unless_made([f"https://site{n}.example/a?b=1&c=%22" for n in range(count)]),
        "host": unless_made([f"site{n}.example" for n in range(count)]),
        "captured_at": unless_made([THEN + timedelta(days=n) for n in range(count)]),
        "language": ["en"] * count,
        "place": unless_made(["reserve"] * count),
        "verdict": unless_made(["clear"] * count),
        "machine_probability": unless_made([(n % 10) / 10 for n in range(count)]),
        "evidence": unless_made([[]] * count),
        "cluster_size": unless_made([1] * count),
        "stratum": unless_made([0] * count),
        "inclusion_probability": unless_made([0.5] * count),
        "annotators": [2 if n in twice else 1 for n in range(count)],
        "position": [count - 1 - n for n in range(count)],
    }
    return pa.table({**found, **columns}, TASKS)


texts = st.lists(st.text(), min_size=1, max_size=5)
names = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=8)


def answers(count: int, tools: Sequence[str] = ("jsonl",)) -> st.SearchStrategy[list[Answer]]:
    """Any answers on the tasks 0 to ``count`` − 1; several of one person and of several persons on a task."""
    one = st.builds(
        Answer,
        st.integers(0, count - 1).map(task_id),
        names,
        st.sampled_from(Label),
        st.datetimes(datetime(1970, 1, 2), datetime(2100, 1, 1), timezones=st.just(UTC)),
        st.none() | st.floats(0, 3e7),
        st.none() | st.text(min_size=1),
        st.sampled_from(tools),
    )
    return st.lists(one, min_size=1, max_size=8)
