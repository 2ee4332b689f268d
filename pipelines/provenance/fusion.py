"""All evidence on a document as one probability of machine origin: the log-odds of a prior, plus one term a family.

    log-odds = prior of the capture month + detectors + watermark + declaration + leak + hidden characters

>>> from datetime import UTC, datetime
>>> from pipelines.records import EVIDENCE, TIMESTAMP
>>> scored = {"source": "embedded", "kind": "machine_text", "probability": 0.9}
>>> found = [scored, {"source": "leak", "kind": "chatbot_link"}]
>>> fused = fuse(
...     pa.array([found], EVIDENCE), pa.array([datetime(2025, 8, 1, tzinfo=UTC)], TIMESTAMP),
...     pa.nulls(1, TIMESTAMP), load_model(), cutoff=datetime(2022, 11, 30, tzinfo=UTC),
... )
>>> fused.items.field("detail")[0].as_py()
'prior -1.52 (2025-08) + embedded 2.20 + chatbot_link 1.00 = 1.68'

Terms of different families are taken to be independent given who wrote the text, and within a family only the strongest
finding counts. Each term is rounded to 1/100 before the sum, so that what is written adds up as it stands, and in any
order of the findings. All weights and their sources stand in ``fusion.yaml``; docs/fusion.md says what they rest on.
"""  # fmt: skip

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import yaml
from scipy.special import expit, logit

from detectors.base import clopper_pearson
from pipelines.records import EVIDENCE, EVIDENCE_ITEM, TIMESTAMP, EvidenceBuilder
from watermark.many_tests import log_e_value

SOURCE, KIND = "fusion", "posterior"
CAP: Final = 4.0  # of a detector's term, in nats
BEFORE, UNKNOWN = "before_cutoff", "unknown"  # words for months in a table of priors

_SCORED, _MARKED = "machine_text", "watermark"  # kinds whose term is computed from the finding's own numbers
_DETECTORS = "detectors"
_UNIT = 100  # terms are whole numbers of 1/100
_SMALLEST_P = 1e-300
_NOT_IN_A_NAME = re.compile(r"[\s+=()]+")
_TERM = re.compile(r"(?P<name>\S+) (?P<value>-?\d+\.\d\d)(?: \((?P<note>[^)]*)\))?")

Floats = npt.NDArray[np.float64]
Whole = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Model:
    """What a posterior is made of; all terms in nats, natural logarithms of odds or of likelihood ratios.

    Attributes:
        months: int64[m], ascending: months since 1970-01 for which the prior is stated.
        log_odds: float64[m], the prior there; linear between, constant beyond.
        before: the prior of what was captured before the cut-off.
        unknown: the prior where the capture time is not known.
        kinds: for each kind of evidence its family and its term.
        cap: largest absolute value of a detector's term.
        marked_share: of the machine texts in a crawl, the share taken to carry the mark of a key that is looked for.
        watermark_cap: largest value of a watermark's term.
        site_term: smallest value of a watermark's term, that of a text of a found site.
    """

    months: Whole
    log_odds: Floats
    before: float
    unknown: float
    kinds: Mapping[str, tuple[str, float]]
    cap: float
    marked_share: float
    watermark_cap: float
    site_term: float

    def watermark_term(self, log_p: npt.ArrayLike, log_e: npt.ArrayLike) -> Floats:
        """The term of a find: ln(1 - s + s·e), capped, where s is ``marked_share`` and e the lesser of two e-values.

        ``log_p`` is that of the document's own p-value, of which an e-value is made; ``log_e`` the one that the
        correction over the crawl has used. NaN stands for one that is not known. An e-value is the Bayes factor of one
        fixed alternative, 1 on average where nothing is marked; the bound 1/(-e p ln p) of Sellke, Bayarri and Berger
        (American Statistician, 2001) is above every such factor, and so is not used.
        """
        log_p, share = np.asarray(log_p, np.float64), self.marked_share
        of_p = np.where(np.isnan(log_p), np.nan, log_e_value(np.nan_to_num(log_p, nan=0.0)))
        least = np.nan_to_num(np.fmin(of_p, log_e), nan=0.0)
        return np.asarray(np.minimum(np.logaddexp(np.log1p(-share), np.log(share) + least), self.watermark_cap))


class Fused(NamedTuple):
    """One result a row.

    Attributes:
        log_odds: float64[n]; NaN where there is neither a capture time nor a term.
        posterior: float32 column of the same; null there.
        rows: int64[k], ascending: the rows with at least one term besides the prior.
        items: for these, the evidence item that says how they came about, of type ``records.EVIDENCE_ITEM``.
    """

    log_odds: Floats
    posterior: pa.FloatArray
    rows: Whole
    items: pa.StructArray


class Term(NamedTuple):
    """One summand, as written in the evidence."""

    name: str
    value: float
    note: str


def load_model(prior: Mapping[str, float] | None = None, cap: float = CAP) -> Model:
    """The model of ``fusion.yaml``.

    Args:
        prior: month (``YYYY-MM``) → share of machine text, in place of the package's months; the words
            ``before_cutoff`` and ``unknown`` may stand for months, too, and else keep the package's shares.
        cap: largest absolute value of a detector's term.
    """
    data, own = _data(), dict(prior or {})
    before, unknown = (own.pop(word, data["prior"][word]) for word in (BEFORE, UNKNOWN))
    shares = own or data["prior"]["months"]
    months = sorted(shares)
    return Model(
        months=np.array(months, "datetime64[M]").astype(np.int64),
        log_odds=logit(np.array([shares[month] for month in months], np.float64)),
        before=float(logit(before)),
        unknown=float(logit(unknown)),
        kinds={kind: (entry["family"], _weight(entry)) for kind, entry in data["kinds"].items()},
        cap=cap,
        marked_share=data["watermark"]["marked_share"],
        watermark_cap=data["watermark"]["cap"],
        site_term=data["kinds"]["watermark_site"]["term"],
    )


def fuse(
    evidence: pa.ListArray, captured_at: pa.Array, older_captured_at: pa.Array, model: Model, cutoff: datetime
) -> Fused:
    """The posterior of each row.

    Args:
        evidence: type ``records.EVIDENCE``; findings without a term in the model change nothing.
        captured_at: timestamps with time zone; null where unknown.
        older_captured_at: when the oldest verified near-duplicate was captured; null where there is none. One from
            before the cut-off dates the text.
        model: priors and terms.
        cutoff: with time zone; captured at the cut-off itself counts as after.
    """
    prior, notes = _priors(captured_at, older_captured_at, model, cutoff)
    terms = _terms(evidence, model)
    total = prior.copy()
    np.add.at(total, terms.row, terms.value)
    rows = np.unique(terms.row)
    unknown = captured_at.is_null().to_numpy(zero_copy_only=False) & _no_older(older_captured_at, cutoff)
    unknown[rows] = False
    log_odds = np.where(unknown, np.nan, total / _UNIT)
    posterior = pa.array(expit(log_odds).astype(np.float32), pa.float32(), from_pandas=True)
    details = [f"prior {_shown(prior[row])} ({notes[row]})" for row in rows.tolist()]
    at = np.searchsorted(rows, terms.row)
    for place, name, value in zip(at.tolist(), terms.name, terms.value.tolist(), strict=True):
        details[place] += f" + {name} {_shown(value)}"
    details = [f"{detail} = {_shown(total[row])}" for detail, row in zip(details, rows.tolist(), strict=True)]
    return Fused(log_odds, posterior, rows, _items(log_odds[rows], posterior.take(pa.array(rows)), details))


def with_posterior(documents: pa.Table, model: Model, cutoff: datetime) -> pa.Table:
    """Judged documents with `posterior` filled in, and with the item that explains it as the last of their evidence."""
    evidence = _whole(documents["evidence"])
    fused = fuse(evidence, _whole(documents["captured_at"]), _whole(documents["older_captured_at"]), model, cutoff)
    builder = EvidenceBuilder(documents.num_rows)
    builder.add_column(evidence)
    builder.add_items(fused.rows, fused.items)
    columns = {"evidence": pa.field("evidence", EVIDENCE, False), "posterior": pa.field("posterior", pa.float32())}
    for name, column in (("evidence", builder.finish()), ("posterior", fused.posterior)):
        documents = documents.set_column(documents.schema.get_field_index(name), columns[name], column)
    return documents


def read_terms(detail: str) -> tuple[list[Term], float] | None:
    """The terms, prior first, and their sum, of the ``detail`` that :func:`fuse` wrote; None for another one."""
    left, equals, total = detail.rpartition(" = ")
    found = [_TERM.fullmatch(part) for part in left.split(" + ")]
    if not equals or not re.fullmatch(r"-?\d+\.\d\d", total) or not all(found):
        return None
    return [Term(m["name"], float(m["value"]), m["note"] or "") for m in found if m], float(total)


class _Terms(NamedTuple):
    """One term a row and family; sorted by row, then in the order in which they are written."""

    row: Whole
    name: list[str]
    value: Whole  # in 1/100


def _terms(evidence: pa.ListArray, model: Model) -> _Terms:
    items = evidence.flatten()
    row = np.asarray(evidence.value_parent_indices().to_numpy(zero_copy_only=False), np.int64)
    kind = items.field("kind").to_numpy(zero_copy_only=False)
    detector = _of_detectors(items, row, kind == _SCORED, model)
    tabled = _strongest(items, row, kind, model)
    rows = np.concatenate([detector.row, tabled.row])
    order = np.argsort(rows, kind="stable")
    names = [*detector.name, *tabled.name]
    value = np.concatenate([detector.value, tabled.value])
    return _Terms(rows[order], [names[at] for at in order.tolist()], value[order])


def _of_detectors(items: pa.StructArray, row: Whole, scored: npt.NDArray[np.bool_], model: Model) -> _Terms:
    """The mean of the detectors' log-odds: they look at the same words, so that their sum would count those twice."""
    probability = _numbers(items.field("probability"))
    scored = scored & ~np.isnan(probability)
    with np.errstate(divide="ignore"):
        log_odds = np.clip(logit(probability[scored]), -model.cap, model.cap)
    rows, back, number = np.unique(row[scored], return_inverse=True, return_counts=True)
    total = np.zeros(len(rows), np.int64)
    np.add.at(total, back.ravel(), _rounded(log_odds))  # of whole numbers, so that no order of findings changes it
    sources = items.field("source").to_numpy(zero_copy_only=False)[scored]
    first = np.zeros(len(rows), np.int64)
    first[back.ravel()] = np.arange(len(back.ravel()))
    names = [_name(source) if count == 1 else _DETECTORS for source, count in zip(sources[first], number, strict=True)]
    return _Terms(rows, names, np.rint(total / number).astype(np.int64))


def _strongest(items: pa.StructArray, row: Whole, kind: npt.NDArray[Any], model: Model) -> _Terms:
    """Of each row and family the finding with the largest term, whichever its sign; the higher of two opposites."""
    families = list(dict.fromkeys(family for family, _ in model.kinds.values()))
    names = {name: code for code, name in enumerate(model.kinds)}
    code = np.array([names.get(name, -1) for name in kind.tolist()], np.int64)
    at = np.flatnonzero(code >= 0)
    code, row = code[at], row[at]
    value = _rounded(np.array([term for _, term in model.kinds.values()], np.float64))[code]
    family = np.array([families.index(family) for family, _ in model.kinds.values()], np.int64)[code]
    marked = kind[at] == _MARKED
    found = items.take(pa.array(at[marked]))
    p_value = np.maximum(_numbers(found.field("p_value")), _SMALLEST_P)
    own = _rounded(model.watermark_term(np.log(p_value), _numbers(found.field("score")) * np.log(10)))
    # A text may be found because its whole site is, where its own p-value is weak.
    value[marked] = np.maximum(own, _rounded(np.array([model.site_term])))
    order = np.lexsort((code, -value, -np.abs(value), family, row))
    row, family, code, value = row[order], family[order], code[order], value[order]
    first = np.ones(len(row), bool)
    first[1:] = (row[1:] != row[:-1]) | (family[1:] != family[:-1])
    first &= value != 0
    listed = list(model.kinds)
    return _Terms(row[first], [listed[at] for at in code[first].tolist()], value[first])


def _priors(captured: pa.Array, older: pa.Array, model: Model, cutoff: datetime) -> tuple[Whole, list[str]]:
    """The prior of each row, in 1/100, and what it is the prior of."""
    copied = ~_no_older(older, cutoff)
    when = pc.if_else(pa.array(copied), older.cast(TIMESTAMP), captured.cast(TIMESTAMP))
    known = when.is_valid().to_numpy(zero_copy_only=False)
    before = copied | ~_no_older(captured, cutoff)
    month = when.fill_null(0).cast(pa.int64()).to_numpy().view("datetime64[us]").astype("datetime64[M]")
    prior = np.interp(month.astype(np.int64), model.months, model.log_odds)
    prior = np.where(before, model.before, np.where(known, prior, model.unknown))
    notes = np.where(known, month.astype(str), "no date").astype(object)
    notes[copied] = notes[copied] + ", older copy"
    return _rounded(prior), notes.tolist()


def _no_older(times: pa.Array, cutoff: datetime) -> npt.NDArray[np.bool_]:
    """Whether each time is unknown, or not before the cut-off."""
    before = pc.less(times.cast(TIMESTAMP), pa.scalar(cutoff.astimezone(UTC), TIMESTAMP))
    return ~np.asarray(before.fill_null(False).to_numpy(zero_copy_only=False), bool)


def _items(log_odds: Floats, posterior: pa.Array, details: list[str]) -> pa.StructArray:
    rows = len(details)
    columns = [
        pa.array([SOURCE] * rows, pa.string()),
        pa.array([KIND] * rows, pa.string()),
        pa.array(log_odds, pa.float64()),
        pa.nulls(rows, pa.float64()),
        posterior,
        pa.array(details, pa.string()),
    ]
    return pa.StructArray.from_arrays(columns, fields=list(EVIDENCE_ITEM))


def _weight(entry: Mapping[str, Any]) -> float:
    """The stated term, or ln(least true positive rate / greatest false positive rate) of counts (Clopper-Pearson)."""
    if "term" in entry:
        return float(entry["term"])
    if entry.get("computed"):
        return 0.0
    greatest = clopper_pearson(*entry["human"])[1]
    least = entry.get("assumed_rate") or clopper_pearson(*entry["machine"])[0]
    return float(np.log(least / greatest))


@cache
def _data() -> dict[str, Any]:
    data: dict[str, Any] = yaml.safe_load(files("pipelines.provenance").joinpath("fusion.yaml").read_text("utf-8"))
    return data


def _rounded(nats: Floats) -> Whole:
    return np.rint(nats * _UNIT).astype(np.int64)


def _shown(term: int) -> str:
    return f"{term / _UNIT:.2f}"


def _name(source: str) -> str:
    return _NOT_IN_A_NAME.sub("_", source) or "_"


def _numbers(column: pa.Array) -> Floats:
    return np.asarray(column.cast(pa.float64()).fill_null(np.nan).to_numpy(zero_copy_only=False), np.float64)


def _whole(column: pa.ChunkedArray) -> pa.Array:
    whole = column.combine_chunks()
    return whole.chunk(0) if isinstance(whole, pa.ChunkedArray) and whole.num_chunks else whole
