"""The job: one YAML file is one :class:`Job`, and every default is here.

An empty file is a valid job once it is given an input::

    job = load_job("job.yaml", overrides={"input": ["crawl/*.warc.gz"], "workers": 2})

Keys nest as in the YAML; ``--set neardup.threshold=0.9`` names one with a dotted path.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from pipelines.errors import UsageError
from pipelines.ingest.options import Ingest, as_tuple
from pipelines.marks.options import Watermarks
from pipelines.neardup.options import NearDup
from pipelines.provenance.fusion import CAP
from pipelines.provenance.prior import PriorError, read_prior
from pipelines.repeats.options import Repeats
from pipelines.reserve.options import Seal
from pipelines.statistics.recalibrate import Recalibrate
from watermark import c2pa_verify


class Options(BaseModel):
    """What all option groups share: unknown keys are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Inspect(Options):
    """Which checks look at a document."""

    declarations: bool = Field(True, description="what a page says about itself: disclosure, generator, source type")
    leaks: bool = Field(True, description="leaked chatbot phrases and interface strings")
    hidden_characters: bool = Field(True, description="runs of variation selectors, zero-width and tag characters")
    verify_c2pa: bool = Field(
        False, description="check the signatures of C2PA manifests in texts; needs the c2pa extra"
    )
    detector: str = Field(
        "embedded", description="'embedded', 'none', or a folder that `reserve train` or `reserve calibrate` wrote"
    )

    @field_validator("verify_c2pa")
    @classmethod
    def _installed(cls, verify_c2pa: bool) -> bool:
        if verify_c2pa:
            try:
                c2pa_verify.load()
            except ImportError as error:
                raise PydanticCustomError(
                    "not_installed",
                    "it needs c2pa-python, which cannot be imported ({error}); pip install 'human-reserve[c2pa]'",
                    {"error": (str(error).splitlines() or [type(error).__name__])[0]},
                ) from None
        return verify_c2pa


class Statistics(Options):
    """How shares and intervals are reported."""

    level: float = Field(0.95, gt=0.5, lt=1, description="level of all intervals")
    panel: bool = Field(True, description="measure how varied the texts are, and whether that falls (panel.parquet)")
    reference: str | None = Field(
        None,
        description="an earlier output whose pages from before the cut-off the panel compares with; default: the "
        "crawl's own",
    )
    host_classes: str | None = Field(
        None, description="YAML file that sorts hosts into classes, before the package's own rules"
    )
    detectors: Annotated[tuple[str, ...], BeforeValidator(as_tuple)] = Field(
        (), description="further detectors (folders, or 'embedded'): their shares stand beside; they decide no verdict"
    )
    openlineage: bool = Field(False, description="write openlineage.json, a run event for lineage catalogues")
    prometheus: bool = Field(False, description="write metrics.prom, the figures as Prometheus text")


def _prior(value: object) -> dict[str, float] | None:
    try:
        return read_prior(value)
    except PriorError as error:
        raise PydanticCustomError("prior", "{reason}", {"reason": str(error)}) from None


class Fusion(Options):
    """How all evidence on a document becomes one probability."""

    enabled: bool = Field(True, description="give each document a posterior, and say in its evidence what moved it")
    prior: Annotated[dict[str, float] | None, BeforeValidator(_prior)] = Field(
        None,
        description="shares of machine text by month ({2024-05: 0.1}), a YAML file of them, or an earlier output whose "
        "estimates serve; default: the package's",
    )
    cap: float = Field(CAP, gt=0, le=20, description="largest log-likelihood ratio (natural) that detectors can add")


class Job(Options):
    """Everything that decides what a run reads, does and writes."""

    input: Annotated[tuple[str, ...], BeforeValidator(as_tuple)] = Field(
        (), description="shards: globs, URLs (s3, gs, hdfs, http, https), and lists of paths (*.paths.gz, @LIST)"
    )
    input_base: str | None = Field(
        None, description="where the relative entries of lists lie: a folder or a server; default: found near the list"
    )
    against: Annotated[tuple[str, ...], BeforeValidator(as_tuple)] = Field(
        (), description="earlier outputs: their documents count as seen, and copies of them are removed"
    )
    output: str = Field("out", min_length=1, description="folder to write; any filesystem that Beam knows")
    workers: int = Field(0, ge=0, le=1024, description="worker processes; 0: one for each CPU core")
    runner: Literal["local", "FlinkRunner", "SparkRunner", "DataflowRunner", "PortableRunner"] = Field(
        "local", description="'local', or the Beam runner that the pipelines are handed to"
    )
    runner_options: dict[str, Any] = Field(
        default_factory=dict, description="options of that runner, as Beam names them"
    )
    keep_work: bool = Field(False, description="keep the staged documents after the run, to run with another policy")
    cutoff: date = Field(date(2022, 11, 30), description="captures before this day are held to be free of machine text")
    part_bytes: int = Field(32 << 20, ge=1 << 20, description="text in one output part; a larger shard is one part")
    policy: str | None = Field(None, description="YAML file that decides verdicts and places; default: the package's")
    ingest: Ingest = Field(default_factory=Ingest)
    inspect: Inspect = Field(default_factory=Inspect)
    neardup: NearDup = Field(default_factory=NearDup)
    repeats: Repeats = Field(default_factory=Repeats)
    watermarks: Watermarks = Field(default_factory=Watermarks)
    recalibrate: Recalibrate = Field(default_factory=Recalibrate)
    fusion: Fusion = Field(default_factory=Fusion)
    statistics: Statistics = Field(default_factory=Statistics)
    seal: Seal = Field(default_factory=Seal)

    @field_validator("recalibrate")
    @classmethod
    def _has_a_detector(cls, recalibrate: Recalibrate, info: ValidationInfo) -> Recalibrate:
        if recalibrate.mode != "off" and "inspect" in info.data and info.data["inspect"].detector == "none":
            raise PydanticCustomError(
                "no_detector",
                "it moves the threshold of a detector; with inspect.detector 'none', mode has to be 'off'",
            )
        return recalibrate

    @property
    def cutoff_at(self) -> datetime:
        """The first instant that counts as after the cut-off."""
        return datetime(self.cutoff.year, self.cutoff.month, self.cutoff.day, tzinfo=UTC)

    def settings(self) -> dict[str, Any]:
        """What decides the output, without what is read, whose content does, and without how it is computed."""
        content = ("input", "input_base", "against", "policy")
        execution = ("output", "workers", "runner", "runner_options", "keep_work", "seal")
        whole: dict[str, Any] = dict.fromkeys((*content, *execution), True)
        read = {"watermarks": {"registry"}, "statistics": {"reference", "host_classes", "detectors"}}
        return self.model_dump(mode="json", exclude={**whole, **read})


def load_job(path: str | None, overrides: Mapping[str, Any] | None = None, sets: Sequence[str] = ()) -> Job:
    """Reads a job file and puts overrides on top: first `sets` (``key.path=YAML value``), then `overrides`.

    Raises UsageError with one line that names the file, the key, its value and what is allowed.
    """
    name = path or "the job"
    values = _read(path) if path else {}
    for item in sets:
        key, equals, value = item.partition("=")
        if not equals or not key:
            raise UsageError(f"--set {item}: write it as key=value, for instance --set neardup.threshold=0.9")
        _put(values, key.strip().split("."), _parse_value(item, value))
    values.update(overrides or {})
    try:
        return Job.model_validate(values)
    except ValidationError as error:
        raise UsageError(f"{name}: {explain_validation(error, Job)}") from None


def describe(model: type[BaseModel] = Job, prefix: str = "") -> str:
    """Every key with its default and meaning, one line each."""
    lines = []
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            lines.append(describe(kind, f"{prefix}{name}."))
            continue
        default = field.get_default(call_default_factory=True)
        shown = json.dumps(default, default=str) if not isinstance(default, tuple) else json.dumps(list(default))
        lines.append(f"  {prefix}{name}: {shown}\n      {field.description or ''}".rstrip())
    return "\n".join(lines)


def digest(value: object) -> str:
    """SHA-256 (hex) of a JSON value in canonical form."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def explain_validation(error: ValidationError, model: type[BaseModel]) -> str:
    """The first mistake in one line: key, value, what is allowed."""
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        known = _keys_at(model, [str(part) for part in first["loc"][:-1]])
        close = difflib.get_close_matches(str(first["loc"][-1]), known, n=1)
        hint = f"did you mean '{close[0]}'?" if close else f"known keys: {', '.join(known)}"
        return f"{key}: unknown key; {hint}"
    return f"{key}: {first['input']!r} is not allowed: {first['msg'][:1].lower()}{first['msg'][1:]}"


def _keys_at(model: type[BaseModel], path: Sequence[str]) -> list[str]:
    for part in path:
        field = model.model_fields.get(part)
        annotation = field.annotation if field else None
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            model = annotation
    return list(model.model_fields)


def _read(path: str) -> dict[str, Any]:
    try:
        with open(path, encoding="utf-8") as stream:
            values = yaml.safe_load(stream)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise UsageError(f"{path}: the job file cannot be read: {reason}") from None
    except yaml.YAMLError as error:
        raise UsageError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise UsageError(f"{path}: a job file holds 'key: value' lines; this one holds a {type(values).__name__}")
    return values


def _parse_value(item: str, value: str) -> object:
    try:
        return yaml.safe_load(value)
    except yaml.YAMLError:
        raise UsageError(f"--set {item}: the value is not valid YAML") from None


def _put(values: dict[str, Any], path: Sequence[str], value: object) -> None:
    for part in path[:-1]:
        inner = values.get(part)
        if not isinstance(inner, dict):
            inner = {}
            values[part] = inner
        values = inner
    values[path[-1]] = value
