"""The main job: the three pipelines in order, resumable at any point.

Work is kept under `OUT/.work` with a marker for each finished shard and part; a marker counts only where its digest
covers the same input, settings and code. `summary.json` is written last, so an output that has one is whole::

    result = run(load_job("job.yaml", {"input": ["crawl/*.warc.gz"]}))
    result.summary["records"]
"""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

from detectors import load_detector
from detectors.base import Detector
from pipelines import files
from pipelines.against import Archive, archived_parts, find_archives
from pipelines.beam import execute
from pipelines.cascades import summed, timing
from pipelines.count_dated import dated_documents, how_dated
from pipelines.counting import Basis, basis, counting
from pipelines.errors import JobError, UsageError, one_line
from pipelines.finish import finish
from pipelines.ingest.account import Account, Part, Read, misplaced, parts_of
from pipelines.ingest.shards import Shard, find_shards
from pipelines.inspect import InspectShards, Task
from pipelines.job import Job, digest
from pipelines.layout import PLACES, Layout
from pipelines.marks.apply import Findings
from pipelines.marks.correct import CorrectMarks, findings_of
from pipelines.neardup.candidates import ShardSignatures
from pipelines.neardup.search import find_clusters
from pipelines.neardup.texts import TextColumn
from pipelines.progress import Watch, say, warn_unverified
from pipelines.provenance.fusion import load_model
from pipelines.provenance.policy import Policy, PolicyError, load_policy
from pipelines.records import Place
from pipelines.repeats.count import CountRepeats, ShardParagraphs
from pipelines.reserve.seal import Sealing
from pipelines.reserve.writer import Rules
from pipelines.results import Ending
from pipelines.sealing import make_read_only, plan_seal
from pipelines.settle import How, Pack, Packing, SettlePacks, StagedName, pack
from pipelines.standing import claimed, standing
from pipelines.statistics.recalibrate import Dated
from pipelines.versions import code_digest
from watermark.registry import Registry, RegistryError, load_registry
from watermark.scan import Scanner
from watermark.tables import shared_tables

# What keeps one worker process busy for some ten seconds, a few times as long as it takes to start.
_INSPECT_BYTES = 8 << 20  # of shards, compressed as they mostly are
_CLUSTER_DOCUMENTS = 300_000
_SETTLE_BYTES = 128 << 20  # of text

_WARNINGS = 20  # lines


class Result(NamedTuple):
    """What a run ended with."""

    output: str
    summary: dict[str, Any]
    already_whole: bool  # the output was there, and nothing was done


class _Plan(NamedTuple):
    """What a run knows before it reads the first shard."""

    job: Job
    layout: Layout
    shards: list[Shard]
    archives: tuple[Archive, ...]
    policy: Policy
    detector: Detector | None
    registry: Registry | None
    scanner: Scanner | None
    basis: Basis  # of the statistics
    tasks: list[Task]
    sealing: Sealing | None
    digest: str  # of all that decides the output's bytes outside the seal


def run(job: Job, overwrite: bool = False) -> Result:
    """Runs the job, or goes on with it where an earlier run of the same job stopped.

    Raises UsageError before anything is read if the job cannot be run, and JobError if it fails.
    """
    plan = _plan(job)
    summary = standing(plan.layout, plan.digest, plan.shards, overwrite)
    if summary is not None:
        return Result(job.output, summary, True)
    with claimed(plan.layout), _in_one_line():
        files.delete([plan.layout.summary])
        _sweep(plan)
        inspected = _inspect(plan)
        records = sum(marker["documents"] + marker["rejects"] for marker in inspected)
        _cluster(plan, records)
        _repeats(plan, records)
        findings = _marks(plan, inspected)
        dated = _dated(plan, findings, records)
        packs = _settle(plan, inspected, findings, dated)
        markers = [_whole(files.read_json(plan.layout.settled(p.number)), p.digest) for p in packs]
        cascade = summed(marker.get("cascade") for marker in inspected)
        read = (plan.shards, plan.archives, plan.policy, plan.detector, plan.basis, cascade, findings, dated)
        ending = Ending(job, plan.layout, *read, plan.sealing, plan.digest)
        summary = finish(ending, markers, records)
        if cascade:
            say(timing(cascade))
        if not job.keep_work:
            files.delete([plan.layout.work])
        if plan.sealing:
            make_read_only(plan.layout)
    return Result(job.output, summary, False)


@contextlib.contextmanager
def _in_one_line() -> Iterator[None]:
    """Makes a failure to read or write outside of a worker an error for people."""
    try:
        yield
    except files.FAILURES as error:
        details = list(getattr(error, "exception_details", None) or [])
        named = f"{details[0]}: " if details else ""
        raise JobError(f"{named}{one_line(error)}; the same command goes on where this one stopped") from error


def _plan(job: Job) -> _Plan:
    shards = find_shards(job.input, job.input_base)
    try:
        policy = load_policy(job.policy)
    except (PolicyError, OSError) as error:
        raise UsageError(str(error)) from None
    try:
        detector = None if job.inspect.detector == "none" else load_detector(job.inspect.detector)
        model = detector.digest if detector else None  # reads the model's files, which may lie elsewhere
    except (OSError, ValueError, ImportError) as error:
        raise UsageError(f"inspect.detector: {error}") from None
    registry, scanner = _keys(job)
    statistics = basis(job, detector)
    layout = Layout(job.output)
    archives = find_archives(job.against, job.output, job.neardup)
    settings = {key: job.settings()[key] for key in ("ingest", "inspect", "neardup")}
    # The rest of these options decides nothing before paragraphs are counted.
    settings["repeats"] = None if job.repeats.mode == "off" else job.repeats.letters
    base = {
        "settings": settings,
        "detector": model,
        "watermarks": [scanner.digest, job.watermarks.sites] if scanner else None,
        "others": statistics.digest["detectors"],
        "code": code_digest(),
    }
    tasks = [
        Task(s, p, layout.staged(s.name, p.begin), digest([s.name, s.size, s.modified, p.begin, p.end, base]))
        for s in shards
        for p in parts_of(s.size, job.ingest.split_bytes)
    ]
    # Without the times of change: copying a crawl changes those, and no byte of what comes of it.
    inputs = [[shard.name, shard.size] for shard in shards]
    earlier = [archive.digest for archive in archives]
    whole = digest([job.settings(), policy.model_dump(mode="json"), base, inputs, earlier, statistics.digest])
    decided = {
        "policy": digest(policy.model_dump(mode="json")),
        "models": model,
        "registry": scanner.digest if scanner else None,
        "settings": digest(job.settings()),
        "code": code_digest(),
    }
    checks = (policy, detector, registry, scanner, statistics)
    return _Plan(job, layout, shards, archives, *checks, tasks, plan_seal(job, decided), whole)


def _keys(job: Job) -> tuple[Registry | None, Scanner | None]:
    """The keys to look for, and their tokenizers; None where the job names no registry."""
    if job.watermarks.registry is None:
        return None, None
    try:
        registry = load_registry(job.watermarks.registry)
        return registry, Scanner(registry)
    except RegistryError as error:
        raise UsageError(f"watermarks.registry: {error}") from None


def _sweep(plan: _Plan) -> None:
    """Deletes half-written files of a run that was killed, and staged shards that are not of this job."""
    expected = {task.staged.marker for task in plan.tasks}
    stale = [m.path for m in files.listing(files.join(plan.layout.output, "**")) if files.is_temporary(m.path)]
    for marker in files.listing(files.join(plan.layout.work, "staging", "*", "whole.json")):
        if marker.path not in expected:
            stale.append(marker.path)
    files.delete(stale)


def _inspect(plan: _Plan) -> list[dict[str, Any]]:
    """Reads what is not staged yet; gives the markers of all parts, in the order of the tasks."""
    waiting = [task for task in plan.tasks if not _is_whole(task.staged.marker, task.digest)]
    done, total = len(plan.tasks) - len(waiting), len(plan.tasks)
    unit = "shards" if total == len(plan.shards) else "parts of shards"
    if done:
        say(f"inspect  {done} of {total} {unit} were read by an earlier run and are not read again")
    # Also where an earlier run read all parts: it may have stopped before it saw which of them were misplaced.
    while waiting or (again := _misplaced(plan, _inspected(plan))):
        if not waiting:
            waiting = again
            say(f"inspect  {len(waiting)} {unit} begin inside a record of the part before, and are read again")
        # A marker of another digest would be counted as progress, and its part is about to be written again.
        layout = plan.layout
        markers_of_all = [layout.clustered, layout.repeats_counted, layout.marks_corrected, layout.dated_counted]
        files.delete([task.staged.marker for task in waiting] + markers_of_all)
        # Largest first: the last parts to finish are then small ones.
        sizes = {task: (task.part.end or task.shard.size) - task.part.begin for task in waiting}
        waiting.sort(key=lambda task: (-sizes[task], task.shard.name, task.part.begin))
        count = _counter(files.join(plan.layout.work, "staging", "*", "whole.json"))
        with shared_tables() as tables, Watch("inspect", unit, total, total - len(waiting), count):
            if plan.registry is not None:
                Scanner(plan.registry, tables)  # makes the tables once, before the workers ask for them
            transform = InspectShards(waiting, plan.job, plan.registry, tables)
            execute(plan.job, len(waiting), sum(sizes.values()) / _INSPECT_BYTES, transform)
        waiting = []
    markers = _inspected(plan)
    _warn(plan, markers)
    return markers


def _inspected(plan: _Plan) -> list[dict[str, Any]]:
    return [_whole(files.read_json(task.staged.marker), task.digest) for task in plan.tasks]


def _misplaced(plan: _Plan, markers: list[dict[str, Any]]) -> list[Task]:
    """The parts that were not read from where the part before them stopped, with where they begin instead."""
    again: list[Task] = []
    read = zip(plan.tasks, markers, strict=True)
    for _, group in itertools.groupby(read, key=lambda pair: pair[0].shard):
        tasks, marks = zip(*group, strict=True)
        parts = [
            Read(task.part, Part(*mark["part"]), Account(**mark["account"]))
            for task, mark in zip(tasks, marks, strict=True)
        ]
        again += [tasks[index]._replace(part=right) for index, right in misplaced(parts)]
    return again


def _warn(plan: _Plan, markers: list[dict[str, Any]]) -> None:
    """Says which shards are damaged, and how; the rejects say it of all."""
    damaged = []
    for task, marker in zip(plan.tasks, markers, strict=True):
        damaged += [f"{task.shard.path}: {reason} {'; '.join(at)}" for reason, at in marker["damage"].items()]
    for line in damaged[:_WARNINGS]:
        say(f"warning: {line}")
    if len(damaged) > _WARNINGS:
        say(f"warning: and {len(damaged) - _WARNINGS} more")
    if damaged:
        say(f"warning: what could not be read is recorded in {plan.job.output}/{Place.REJECTS.value}")


def _cluster(plan: _Plan, records: int) -> None:
    wanted = _cluster_digest(plan)
    if _is_whole(plan.layout.clustered, wanted):
        say("cluster  done by an earlier run")
        return
    shards = [part.unit for part in archived_parts(plan.archives, plan.layout)]
    shards += [
        ShardSignatures(
            _unit_name(t),
            t.staged.signatures,
            t.staged.clusters,
            TextColumn(t.staged.documents),
        )
        for t in plan.tasks
    ]
    count = _counter(files.join(plan.layout.work, "clusters", "*.parquet"))
    # The marker first: without it, what is about to be written anew cannot be taken for whole.
    files.delete([plan.layout.clustered])
    files.delete([shard.clusters for shard in shards])
    with Watch("cluster", "parts", len(shards), 0, count):
        documents = records + sum(archive.documents for archive in plan.archives)
        worth = documents / _CLUSTER_DOCUMENTS
        between = files.join(plan.layout.work, "blocks")
        start = functools.partial(execute, plan.job, len(shards), worth)
        counters = find_clusters(shards, plan.job.neardup, documents, between, start)
    warn_unverified(counters)
    files.write_json(plan.layout.clustered, {"digest": wanted})


def _repeats(plan: _Plan, records: int) -> None:
    """Counts the paragraphs that recur across hosts, for each shard those that it holds."""
    options, layout = plan.job.repeats, plan.layout
    if options.mode == "off":
        return
    wanted = digest([_cluster_digest(plan), options.letters, options.hosts])
    if _is_whole(layout.repeats_counted, wanted):
        say("repeats  counted by an earlier run")
        return
    shards = [
        ShardParagraphs(_unit_name(task), task.staged.paragraphs, task.staged.clusters, task.staged.recurring)
        for task in plan.tasks
    ]
    # The marker first: what is written next may be of other options than it says.
    files.delete([layout.repeats_counted])
    files.delete([m.path for m in files.listing(files.join(layout.work, "repeats", "*.parquet"))])
    count = _counter(files.join(layout.work, "repeats", "*.parquet"))
    with Watch("repeats", "parts", len(shards), 0, count):
        transform = CountRepeats(shards, options, layout.repeats_largest)
        execute(plan.job, len(shards), records / _CLUSTER_DOCUMENTS, transform)
    files.write_json(layout.repeats_counted, {"digest": wanted})


def _marks(plan: _Plan, inspected: list[dict[str, Any]]) -> Findings | None:
    """Corrects the watermark tests of all documents for their number; None where the job looks for no keys."""
    options, layout = plan.job.watermarks, plan.layout
    if plan.registry is None or plan.scanner is None:
        return None
    wanted = digest([[task.digest for task in plan.tasks], options.level])
    if _is_whole(layout.marks_corrected, wanted):
        say("marks    corrected by an earlier run")
    else:
        files.delete([layout.marks_corrected])
        documents = sum(marker["documents"] for marker in inspected)
        staged = [task.staged.marks for task in plan.tasks]
        with Watch("marks", "parts", len(staged), 0, _counter(layout.marks_found)):
            transform = CorrectMarks(staged, plan.registry, options, documents, layout.marks_found)
            execute(plan.job, len(staged), documents / _CLUSTER_DOCUMENTS, transform)
        files.write_json(layout.marks_corrected, {"digest": wanted})
    return findings_of(plan.scanner, options, layout.marks_found)


def _dated(plan: _Plan, findings: Findings | None, records: int) -> Dated | None:
    """What the detector says of documents that are human by date, and the threshold to decide by."""
    if plan.detector is None:
        return None
    how = how_dated(plan.detector.error_rates(), plan.job.recalibrate, _rules(plan), findings)
    shards = [StagedName(_unit_name(task), task.staged) for task in plan.tasks]
    return dated_documents(plan.job, shards, how, _cluster_digest(plan), records)


def _unit_name(task: Task) -> str:
    return f"{task.shard.name}\0{task.part.begin:020d}"


def _settle(plan: _Plan, inspected: list[dict[str, Any]], findings: Findings | None, dated: Dated | None) -> list[Pack]:
    packs = _packs(plan, inspected)
    waiting = [p for p in packs if not _is_whole(plan.layout.settled(p.number), p.digest)]
    done = {p.number for p in packs} - {p.number for p in waiting}
    keep = {plan.layout.part(place, number) for place in PLACES for number in done}
    keep |= {plan.layout.index_part(number) for number in done}
    folders = [place.value for place in PLACES] + ["index"]
    parts = [m.path for folder in folders for m in files.listing(files.join(plan.layout.output, folder, "*"))]
    files.delete([path for path in parts if path not in keep])
    markers = [m.path for m in files.listing(files.join(plan.layout.work, "settled", "part-*.json"))]
    files.delete([path for path in markers if path not in {plan.layout.settled(number) for number in done}])
    if done:
        say(f"settle   {len(done)} of {len(packs)} parts were written by an earlier run")
    if waiting:
        count = _counter(files.join(plan.layout.work, "settled", "part-*.json"))
        index = plan.job.neardup if plan.job.neardup.enabled and plan.job.neardup.index else None
        options = plan.job.fusion
        fusion = load_model(options.prior, options.cap) if options.enabled else None
        rules = _rules(plan)._replace(threshold=dated.choice.threshold) if dated else _rules(plan)
        context = plan.sealing.digest if plan.sealing else None
        counted = counting(plan.job, plan.detector, plan.basis)
        how = How(plan.layout, rules, counted, index, plan.job.repeats, findings, fusion, context)
        transform = SettlePacks(waiting, how)
        with Watch("settle", "parts", len(packs), len(done), count):
            execute(plan.job, len(waiting), len(waiting) * plan.job.part_bytes / _SETTLE_BYTES, transform)
    return packs


def _packs(plan: _Plan, inspected: list[dict[str, Any]]) -> list[Pack]:
    packings = [
        Packing(StagedName(task.shard.name, task.staged), marker["text_bytes"], task.digest)
        for task, marker in zip(plan.tasks, inspected, strict=True)
    ]
    rules = [_cluster_digest(plan), plan.job.settings(), plan.policy.model_dump(mode="json"), bool(plan.sealing)]
    rules.append(plan.basis.digest)
    return [
        Pack(number, tuple(p.shard for p in group), digest([number, [p.digest for p in group], rules]))
        for number, group in enumerate(pack(packings, plan.job.part_bytes))
    ]


def _rules(plan: _Plan) -> Rules:
    threshold = plan.detector.error_rates().decision.threshold if plan.detector else float("inf")
    archived = tuple(part.archive.digest for part in archived_parts(plan.archives, plan.layout))
    return Rules(plan.policy, plan.job.cutoff_at, threshold, archived)


def _cluster_digest(plan: _Plan) -> str:
    earlier = [archive.digest for archive in plan.archives]
    return digest([[task.digest for task in plan.tasks], plan.job.settings()["neardup"], earlier])


def _is_whole(path: str, wanted: str) -> bool:
    marker = files.read_json(path)
    return marker is not None and marker.get("digest") == wanted


def _whole(marker: dict[str, Any] | None, wanted: str) -> dict[str, Any]:
    if marker is None or marker.get("digest") != wanted:
        raise JobError("the work folder changed while the job ran; run the same command again")
    return marker


def _counter(pattern: str) -> Any:
    return lambda: len(files.listing(pattern))
