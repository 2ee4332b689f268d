"""How the pipelines are run: one place that names Beam's runner, so that nothing tries to download another.

`local` is Beam's FnApiRunner: in this process for one worker, and with worker processes for more. Every other name is
handed to Beam as it is (FlinkRunner, SparkRunner, DataflowRunner), with the job's `runner_options`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shlex
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from types import FrameType

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.transforms.environments import SubprocessSDKEnvironment

from pipelines.errors import DEBUG, TOKEN, JobError, UsageError
from pipelines.job import Job


def worker_count(job: Job, tasks: int, worth: float) -> int:
    """Worker processes for a number of independent tasks that together are worth so many processes.

    A process takes seconds to start, which small work does not earn back; a number that the job names is kept to.
    """
    wanted = job.workers or min(os.cpu_count() or 1, int(worth))
    return max(1, min(wanted, tasks))


def execute(job: Job, tasks: int, worth: float, transform: beam.PTransform) -> dict[str, int]:
    """Runs a pipeline of one composite transform to its end; gives its counters.

    Args:
        job: names the runner and the number of workers.
        tasks: how many independent pieces of work there are.
        worth: how many processes the work would keep busy for longer than they take to start.
        transform: takes the pipeline's beginning.

    Raises JobError with the worker's own error in one line.
    """
    if not os.environ.get(DEBUG):
        logging.getLogger("apache_beam").setLevel(logging.CRITICAL)
    runner, options = _runner(job, worker_count(job, tasks, worth))
    pipeline = beam.Pipeline(runner=runner, options=options)
    pipeline | transform
    try:
        local = job.runner == "local" and threading.current_thread() is threading.main_thread()
        with _mortal_workers() if local else contextlib.nullcontext():
            result = pipeline.run()
            result.wait_until_finish()
    except Exception as error:
        if os.environ.get(DEBUG):
            raise
        raise JobError(_root_cause(error)) from error
    return {counter.key.metric.name: counter.result for counter in result.metrics().query()["counters"]}


@contextlib.contextmanager
def _mortal_workers() -> Iterator[None]:
    """Ends the job where Beam would wait for ever: when a local worker process has died, or at an interrupt.

    Beam's thread that waits for a process raises when it dies, and nobody listens. The other workers have to leave as
    well, since Beam waits for them before it gives up; they do when their token is gone.
    """
    died: list[str] = []
    usual = threading.excepthook

    def listen(failure: threading.ExceptHookArgs) -> None:
        if "Worker subprocess exited with return code" in str(failure.exc_value):
            if os.path.exists(token.name):
                died.append(str(failure.exc_value).rsplit(" ", 1)[-1])
                # A real signal: the main thread sleeps on a lock, and wakes for nothing less.
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        elif not failure.exc_type.__module__.startswith("grpc"):  # the worker's broken connections say the same
            usual(failure)

    def leave(number: int, frame: FrameType | None) -> None:
        token.close()
        raise KeyboardInterrupt

    with tempfile.NamedTemporaryFile(prefix="reserve-workers-") as token:
        os.environ[TOKEN] = token.name
        threading.excepthook = listen
        before = signal.signal(signal.SIGINT, leave)
        try:
            yield
        except BaseException:
            if died:
                raise JobError(
                    f"a worker process died with return code {died[0]} (-9: killed, most often for want of memory); "
                    "the same command goes on where this one stopped; give it fewer --workers"
                ) from None
            if not os.path.exists(token.name):
                raise KeyboardInterrupt from None  # which Beam may have wrapped in an error of its own
            raise
        finally:
            signal.signal(signal.SIGINT, before)
            threading.excepthook = usual
            del os.environ[TOKEN]


def _runner(job: Job, workers: int) -> tuple[FnApiRunner | str, PipelineOptions]:
    if job.runner != "local":
        try:
            return job.runner, PipelineOptions.from_dictionary(dict(job.runner_options))
        except (TypeError, ValueError) as error:
            raise UsageError(f"runner_options: {error}") from None
    if job.runner_options:
        raise UsageError("runner_options: only for a Beam runner; the runner is 'local', which takes `workers`")
    if workers == 1:
        return FnApiRunner(), PipelineOptions(direct_num_workers=1)
    # -P: a folder of the user's that is called like one of our packages must not be taken for it.
    command = f"exec {shlex.quote(sys.executable)} -P -m pipelines.worker"
    environment = SubprocessSDKEnvironment.from_command_string(command)
    return FnApiRunner(default_environment=environment), PipelineOptions(direct_num_workers=workers)


def _root_cause(error: BaseException) -> str:
    """The last line of the innermost traceback: Beam nests a worker's traceback in the text of its own error."""
    while error.__cause__ is not None and not isinstance(error, JobError):
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # A worker's error arrives as a traceback in text; its last unindented "Type: message" line is the cause.
    causes = [line for line in lines if ": " in line and line.split(": ")[0].replace(".", "").isidentifier()]
    text = (causes or lines or [type(error).__name__])[-1]
    return text.split(" [while running", 1)[0].removeprefix(f"{JobError.__module__}.{JobError.__name__}: ")
