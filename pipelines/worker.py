"""The process of one local worker: Beam's SDK harness, quiet, and gone when the job that started it is gone."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time

from pipelines.errors import DEBUG, TOKEN

_POLL_SECONDS = 0.5


def main() -> None:
    """Serves bundles until the runner closes the channel."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt is the job's to handle
    threading.Thread(target=_leave_with_parent, args=(os.getppid(),), daemon=True).start()
    if not os.environ.get(DEBUG):
        # An error reaches the job all the same, which tells it in one line; Beam would print pages.
        logging.disable(logging.ERROR)
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115 (as long as the process)
    from apache_beam.runners.worker import sdk_worker_main  # after logging is quiet: it speaks when it is imported

    sdk_worker_main.main(sys.argv)


def _leave_with_parent(parent: int) -> None:
    # A job that is killed cannot stop its workers; one that lives on would write beside the next run.
    token = os.environ.get(TOKEN)
    while os.getppid() == parent and (token is None or os.path.exists(token)):
        time.sleep(_POLL_SECONDS)
    os._exit(1)


if __name__ == "__main__":
    main()
