"""Teaches a linear model that exists from a few labelled texts, where the text that it was trained on is not at hand.

    update(Path("old") or None, texts, machine, groups, languages, Path("new"))

The old model's log-odds are kept, and weights are added to those of its n-grams: penalised logistic regression around
the old model, which is its maximum a posteriori estimate where the old weights are the mean of a Gaussian prior (as in
Chelba and Acero, Computer Speech and Language 20 (2006) 382). How far the weights may move is chosen by
cross-validation over groups of texts, and "not at all" is among the choices. With n labels the added weights lie in the
span of n texts, so that the fit has n unknowns, whatever the number of n-grams (the representer theorem: Kimeldorf and
Wahba, 1971).

Each language has an offset that is dropped afterwards, as each source has when a model is trained: that the labelled
documents hold more machine text than another collection is not laid to their words. Calibration, thresholds and error
rates stay those of the old model, and the model's card says so.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import linalg, sparse

from detectors.card import model_card
from detectors.corpus import SCORED_CHARACTERS, Bool, Int, text_key
from detectors.embedded import CARD_FILE, MODEL_FILE, SEEN_FILE, SETTINGS_FILE, Embedded, SeenTexts
from detectors.fitting import LinearModel, logits
from detectors.levelling import level
from detectors.ngrams import UNUSED, features, tokenise
from detectors.training import write_settings

Float = npt.NDArray[np.float64]
_LEVELS = 127
_TRACE = 1e-6  # of a penalty on the offsets, which keeps them finite where a language has one label only


@dataclass(frozen=True)
class UpdateOptions:
    """How to update.

    Attributes:
        penalties: of the squared added weights, of which one is chosen.
        folds: of the cross-validation.
        least: texts of each label without which nothing can be learned.
        gain: in nats a text left out; with less nothing is learned. Minus infinity: learn in any case.
        seed: of the folds.
    """

    penalties: tuple[float, ...] = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
    folds: int = 5
    least: int = 10
    gain: float = 0.0
    seed: int = 20_221_130


class Texts(NamedTuple):
    """Labelled texts of n rows.

    Attributes:
        texts: as crawled.
        machine: which a machine wrote, (n,).
        groups: texts of one are never on both sides of the cross-validation, such as the host.
        languages: ISO 639-1.
    """

    texts: Sequence[str]
    machine: Bool
    groups: Sequence[str]
    languages: Sequence[str | None]


class Prepared(NamedTuple):
    """What the fit needs, of m texts of which the old model speaks."""

    model: LinearModel
    vectors: Any  # CSR (m, buckets): 1 / features^power at each distinct n-gram that the model knows
    slope: Float  # (m,): calibrated log-odds a unit of score
    odds: Float  # (m,): slope × the old model's score
    machine: Bool
    offset: Float  # (m, k): which language, as zeros and ones
    groups: npt.NDArray[np.int64]
    levelled: list[bytes]


class Fitted(NamedTuple):
    """The added weights, as a combination of the texts' vectors, (m,), and how they were chosen.

    ``losses``: by penalty, of texts left out, in nats a text; that of the old model beside it.
    """

    alpha: Float
    penalty: float
    losses: dict[float, float]
    old_loss: float


def update(old: Path | None, labelled: Texts, output: Path, options: UpdateOptions | None = None) -> dict[str, Any]:
    """Writes a folder with the updated model; returns the content of its ``detector.json``.

    ``old`` is a folder that training wrote, None the model in the package. Raises ValueError where labels do not
    suffice or teach nothing.
    """
    options = options or UpdateOptions()
    detector = Embedded(old)
    data = prepare(detector, labelled, options)
    fitted = fit_update(data, options)
    if fitted.penalty == np.inf:
        raise ValueError(
            f"these {len(data.machine)} labels teach the model nothing that holds for texts left out (log loss "
            f"{fitted.old_loss:.4f} without them, {min(fitted.losses.values()):.4f} with them); label more"
        )
    root: Traversable = files("detectors") / "models" if old is None else old
    settings = json.loads((root / SETTINGS_FILE).read_text("utf-8"))
    model = added(data, fitted)
    settings["model"] |= {"scale": model.scale, "bias": model.bias}
    settings["updates"] = [
        *settings.get("updates", []),
        {
            "from": detector.digest,
            "human": int((~data.machine).sum()),
            "machine": int(data.machine.sum()),
            "penalty": fitted.penalty,
            "log_loss_before": fitted.old_loss,
            "log_loss_after": fitted.losses[fitted.penalty],
            "options": asdict(options),
        },
    ]
    keys = [text_key(text) for text in data.levelled] + [text_key(group) for group in set(labelled.groups) if group]
    _write(output, model, settings, detector.seen(), keys)
    return dict(settings)


def prepare(detector: Embedded, labelled: Texts, options: UpdateOptions) -> Prepared:
    """Scores the texts and finds their n-grams. Raises ValueError where the old model speaks of too few."""
    detector.load()
    settings = detector.settings
    model = LinearModel.from_bytes(detector._file(MODEL_FILE).read_bytes(), **settings.model)
    speaks = [row for row, why in enumerate(detector.score(labelled.texts, labelled.languages).abstained) if not why]
    machine = np.asarray(labelled.machine, bool)[speaks]
    if min(int(machine.sum()), int((~machine).sum())) < options.least:
        raise ValueError(
            f"{int((~machine).sum())} human and {int(machine.sum())} machine texts with a label of which the old model "
            f"speaks (languages: {', '.join(detector.languages)}; {settings.minimum_tokens} tokens or more); "
            f"{options.least} of each are needed"
        )
    levelled = [level(labelled.texts[row][:SCORED_CHARACTERS]) for row in speaks]
    tokens = tokenise(levelled)
    codes = [_language(labelled.languages[row], text) for row, text in zip(speaks, levelled, strict=True)]
    slopes = {code: settings.calibrations[code].slope for code in set(codes)}
    slope = np.array([slopes[code] for code in codes])
    names = [labelled.groups[row] or f"/{row}" for row in speaks]
    return Prepared(
        model,
        vectors(model, levelled),
        slope,
        slope * logits(model, tokens),
        machine,
        np.array([[code == one for one in sorted(slopes)] for code in codes], np.float64),
        np.unique(names, return_inverse=True)[1].astype(np.int64),
        levelled,
    )


def vectors(model: LinearModel, levelled: Sequence[bytes]) -> Any:
    """A CSR matrix (n, buckets): the model's score is bias + vectors @ (scale × weights)."""
    found, starts = features(tokenise(levelled), model.table, model.weights != UNUSED)
    lengths = np.diff(starts)
    values = np.repeat(1 / np.maximum(lengths, 1) ** model.power, lengths)
    return sparse.csr_matrix((values, found, starts), shape=(len(levelled), len(model.weights)))


def fit_update(data: Prepared, options: UpdateOptions) -> Fitted:
    """Chooses the penalty by cross-validation over groups, and fits on all texts."""
    scaled = sparse.diags(data.slope) @ data.vectors
    kernel = np.asarray((scaled @ scaled.T).todense(), np.float64)
    folds = _folds(data.groups, options)
    held: dict[float, Float] = {penalty: np.zeros(len(data.machine)) for penalty in (*options.penalties, np.inf)}
    for fold in np.unique(folds):
        out, within = np.flatnonzero(folds == fold), np.flatnonzero(folds != fold)
        start = np.zeros(len(within) + data.offset.shape[1])
        for penalty in sorted(held, reverse=True):
            start = _newton(kernel[np.ix_(within, within)], data, within, penalty, start)
            alpha, offset = start[: len(within)], start[len(within) :]
            held[penalty][out] = data.odds[out] + data.offset[out] @ offset + kernel[np.ix_(out, within)] @ alpha
    losses = {penalty: float(_losses(odds, data.machine).mean()) for penalty, odds in held.items()}
    old = losses.pop(np.inf)
    best = min(losses, key=lambda penalty: (losses[penalty], -penalty))
    if losses[best] >= old - options.gain:
        return Fitted(np.zeros(len(data.machine)), np.inf, losses, old)
    every = np.arange(len(data.machine))
    found = _newton(kernel, data, every, best, np.zeros(len(every) + data.offset.shape[1]))
    return Fitted(found[: len(every)], best, losses, old)


def _newton(kernel: Float, data: Prepared, rows: Int, penalty: float, start: Float) -> Float:
    """Minimises Σ loss + penalty / 2 · αᵀKα over α and the offsets: (r + k,); α = 0 where penalty is infinite.

    At the optimum α = (label - fitted) / penalty, so each step solves for α as in Rasmussen and Williams, Gaussian
    Processes for Machine Learning (2006), algorithm 3.1, with the offsets as further unknowns; steps
    are halved until they descend.
    """
    n, k = len(rows), data.offset.shape[1]
    offset, odds, machine = data.offset[rows], data.odds[rows], data.machine[rows]
    free = np.isfinite(penalty)

    def objective(alpha: Float, beta: Float) -> tuple[float, Float]:
        added = kernel @ alpha if free else np.zeros(n)
        margin = odds + offset @ beta + added
        spread = penalty / 2 * float(alpha @ added) if free else 0.0
        return float(_losses(margin, machine).sum()) + spread + _TRACE / 2 * float(beta @ beta), margin

    alpha, beta = start[:n] if free else np.zeros(n), start[n:]
    value, margin = objective(alpha, beta)
    for _ in range(100):
        fitted = 1 / (1 + np.exp(-np.clip(margin, -30, 30)))
        curvature = np.maximum(fitted * (1 - fitted), 1e-5)
        target = margin - odds + (machine - fitted) / curvature
        if free:
            # (K + penalty / W) α + Z β = target and penalty Zᵀα = trace β
            both = np.column_stack([offset, target])
            solved = linalg.solve(kernel + np.diag(penalty / curvature), both, assume_a="pos")
            inside = solved[:, :k]
            next_beta = np.linalg.solve(offset.T @ inside + _TRACE / penalty * np.eye(k), offset.T @ solved[:, k])
            next_alpha = solved[:, k] - inside @ next_beta
        else:
            weighted = offset * curvature[:, None]
            next_beta = np.linalg.solve(offset.T @ weighted + _TRACE * np.eye(k), weighted.T @ target)
            next_alpha = alpha
        share, before = 1.0, value
        while share > 1e-6:
            tried = alpha + share * (next_alpha - alpha), beta + share * (next_beta - beta)
            value, margin = objective(*tried)
            if value <= before:
                break
            share /= 2
        else:
            break
        alpha, beta = tried
        if before - value < 1e-8 * (1 + abs(value)):
            break
    return np.concatenate([alpha, beta])


def added(data: Prepared, fitted: Fitted) -> LinearModel:
    """The old model with the weights added, again a byte each."""
    model = data.model
    used = model.weights != UNUSED
    change = data.vectors.T @ (data.slope * fitted.alpha)
    weights = np.where(used, model.weights.astype(np.float64) * model.scale + change, 0.0)
    # As in fitting: few weights are large, and beyond the limit they are cut.
    limit = max(float(np.quantile(np.abs(weights[used]), 0.9999)), _LEVELS * model.scale)
    scale = limit / _LEVELS
    stored = np.where(used, np.clip(np.rint(weights / scale), -_LEVELS, _LEVELS), UNUSED).astype(np.int8)
    return LinearModel(stored, scale, model.bias, model.word_ngrams, model.power)


def _folds(groups: Int, options: UpdateOptions) -> Int:
    random = np.random.default_rng(options.seed)
    order = random.permutation(int(groups.max()) + 1)
    return np.asarray(order[groups] % options.folds, np.int64)


def _losses(odds: Float, machine: Bool) -> Float:
    return np.asarray(np.logaddexp(0, np.where(machine, -odds, odds)), np.float64)


def _language(code: str | None, levelled: bytes) -> str:
    from detectors.embedded import guess_language

    return (code.split("-")[0].split("_")[0].lower() if code else guess_language(levelled)) or ""


def _write(output: Path, model: LinearModel, settings: dict[str, Any], seen: SeenTexts, keys: Sequence[int]) -> None:
    output.mkdir(parents=True, exist_ok=True)
    (output / MODEL_FILE).write_bytes(model.to_bytes())
    write_settings(output, settings)
    both = np.union1d(seen.keys, SeenTexts.from_keys(keys).keys).astype(np.uint32)
    (output / SEEN_FILE).write_bytes(SeenTexts(both).to_bytes())
    (output / CARD_FILE).write_text(model_card(settings) + _card_of_updates(settings["updates"]), "utf-8")


def _card_of_updates(updates: Sequence[dict[str, Any]]) -> str:
    rows = [
        f"| {one['human']} | {one['machine']} | {one['penalty']:g} | {one['log_loss_before']:.4f} "
        f"| {one['log_loss_after']:.4f} |"
        for one in updates
    ]
    return "\n".join(
        [
            "\n## Updates with labels\n",
            "People's labels moved the weights after the model was trained. **Calibration, thresholds and every error "
            "rate above are those of the model before**; what the update is worth is measured by the audit that let it "
            "pass. The loss is that of labelled texts left out, in nats.\n",
            "| human | machine | penalty | loss before | loss after |",
            "|---|---|---|---|---|",
            *rows,
            "",
        ]
    )
