"""Errors that a user can mend. The command prints them in one line and ends with their exit code."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

DEBUG = "RESERVE_DEBUG"  # environment variable: set, errors keep their tracebacks and workers their logs

TOKEN = "RESERVE_WORKERS"  # environment variable: a file that is there while worker processes are wanted


class UsageError(Exception):
    """The call or the configuration is wrong: names the key, its value and what is allowed. Exit code 2."""

    exit_code = 2


class JobError(Exception):
    """The job or the check failed: names the file, the place and the mend. Exit code 1."""

    exit_code = 1


def one_line(error: BaseException) -> str:
    """What an error says, on one line; its kind where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__


@contextlib.contextmanager
def naming(what: str) -> Iterator[None]:
    """Makes an error of the block a JobError that says which shards were at work; most libraries do not know."""
    try:
        yield
    except JobError:
        raise
    except Exception as error:
        raise JobError(f"{what}: {type(error).__name__}: {' '.join(str(error).split())}") from error
