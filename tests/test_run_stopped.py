"""Runs that stop on the way: killed, interrupted, by a worker's death or an error; and go on to the same bytes."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipelines.cli import main
from pipelines.run import run
from tests.crawls import digests, job, write_jsonl


@pytest.fixture(scope="module")
def crawl(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_jsonl(tmp_path_factory.mktemp("crawl"))


@pytest.fixture(scope="module")
def undisturbed(crawl: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("undisturbed") / "out"
    run(job(crawl, output))
    return output


@pytest.fixture
def long_crawl(crawl: str, tmp_path: Path) -> str:
    """A crawl that no machine gets through before the test has said what it wants to say to the running job."""
    copies = tmp_path / "long"
    copies.mkdir()
    for shard in Path(crawl).parent.glob("*.jsonl.gz"):
        for i in range(40):
            os.link(shard, copies / f"{i}-{shard.name}")
    return str(copies / "*.jsonl.gz")


# The others differ in what was written when the job was killed, and take as long.
STAGES = ["staging/*/whole.json", "clusters/*.parquet", "settled/*.json"]


@pytest.mark.parametrize("stages", [pytest.param(STAGES, marks=pytest.mark.slow), STAGES[1:2]])
def test_killed_runs_go_on_and_end_in_the_same_bytes(
    crawl: str, undisturbed: Path, tmp_path: Path, stages: list[str]
) -> None:
    rng = random.Random(7)
    out = tmp_path / "out"
    command = [sys.executable, "-m", "pipelines.cli", "run", "--input", crawl, "--output", str(out), "--workers", "2"]
    command += ["--set", f"part_bytes={1 << 20}", "--set", "statistics.panel=false"]
    for stage in stages:
        process = subprocess.Popen(
            command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True
        )
        while process.poll() is None and not list(out.glob(f".work/{stage}")):
            time.sleep(0.01)
        time.sleep(rng.random() * 0.2)
        process.kill()
        assert process.wait() in (-signal.SIGKILL, 0)
        if (out / "summary.json").exists():
            break
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert digests(out) == digests(undisturbed)
    if "already whole" not in done.stdout:
        assert "not read again" in done.stderr


@pytest.mark.slow
def test_a_worker_that_dies_ends_the_job_which_then_goes_on(crawl: str, undisturbed: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "pipelines.cli", "run", "--input", crawl, "--output", str(out), "--workers", "2"]
    command += ["--set", f"part_bytes={1 << 20}", "--set", "statistics.panel=false"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    workers: list[str] = []
    while process.poll() is None and len(workers) < 2:
        time.sleep(0.05)
        workers = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout.split()
    time.sleep(1)
    os.kill(int(workers[-1]), signal.SIGKILL)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "a worker process died with return code -9" in said.splitlines()[-1]
    assert not (out / "summary.json").exists()
    subprocess.run(command, capture_output=True, check=True)
    assert digests(out) == digests(undisturbed)


@pytest.mark.parametrize("workers", ["1", pytest.param("2", marks=pytest.mark.slow)])
def test_an_error_on_the_way_names_the_shard_in_one_line(crawl: str, tmp_path: Path, workers: str) -> None:
    out = tmp_path / "out"
    run(job(crawl, out, keep_work=True, part_bytes=1 << 20))
    for path in (out / "summary.json", *(out / ".work" / "settled").glob("*.json")):
        path.unlink()
    for staged in (out / ".work" / "staging").glob("*/documents.parquet"):
        staged.write_bytes(staged.read_bytes()[:2000])
    command = [sys.executable, "-m", "pipelines.cli", "run", "--input", crawl, "--output", str(out)]
    command += ["--workers", workers, "--set", f"part_bytes={1 << 20}", "--set", "keep_work=true"]
    failed = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert failed.returncode == 1
    assert "Traceback" not in failed.stderr
    last = failed.stderr.splitlines()[-1]
    assert last.startswith("reserve: crawl-")
    assert "Parquet" in last
    assert not (out / "summary.json").exists()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_an_interrupt_ends_the_job_at_once(long_crawl: str, tmp_path: Path, workers: str) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "pipelines.cli", "run", "--input", long_crawl, "--output", str(out)]
    process = subprocess.Popen(
        [*command, "--workers", workers], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    while process.poll() is None and not (out / ".work" / "lock").exists():
        time.sleep(0.01)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "interrupted; the same command goes on" in said.splitlines()[-1]


def test_two_runs_do_not_share_an_output(long_crawl: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "pipelines.cli", "run", "--input", long_crawl, "--output", str(out)]
    first = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    while first.poll() is None and not (out / ".work" / "lock").exists():
        time.sleep(0.01)
    time.sleep(0.2)
    assert main(["run", "--input", long_crawl, "--output", str(out)]) == 1
    assert "another run is writing here" in capsys.readouterr().err
    assert first.poll() is None
    first.send_signal(signal.SIGINT)
    assert first.wait(timeout=30) == 130
