"""What detectors over models of `transformers` have in common: raw scores, abstention, calibration, the digest.

A detector of this kind begins with a raw score and no more; :mod:`detectors.model_fitting` calibrates it on labelled
text. Until then it gives scores, and abstains from a probability with the reason :data:`UNCALIBRATED`.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from detectors.base import LANGUAGE, TOO_SHORT, ErrorRates, Scores
from detectors.calibration import Calibration
from detectors.embedded import SEEN_FILE, SeenTexts
from detectors.models import ModelOptions, batches, model_digest, token_rows

UNCALIBRATED = "uncalibrated"  # a score, but no labelled text that would make a probability of it
UNDEFINED = "undefined"  # the model's numbers overflow, or leave nothing to divide by

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Fitted:
    """What calibration adds to a detector.

    The raw score is standardised as (score - centre) / scale, with a negative scale where low scores mean a machine;
    then the map of the text's language makes it a probability.
    """

    centre: float
    scale: float
    calibrations: Mapping[str, Calibration]
    error_rates: ErrorRates | None
    model_digest: str

    def probability(self, raw: Float, tokens: Int, languages: Sequence[str]) -> Float:
        """Probability of machine origin at prior 0.5 of raw scores, float64[n]; each language must be calibrated."""
        standard = (raw - self.centre) / self.scale
        found = np.full(len(raw), np.nan)
        codes = np.array(languages, dtype=np.str_)
        for code in np.unique(codes):
            here = codes == code
            found[here] = self.calibrations[str(code)].probability(standard[here], tokens[here])
        return found

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "centre": self.centre,
            "scale": self.scale,
            "prior": 0.5,
            "calibration": {code: one.to_dict() for code, one in sorted(self.calibrations.items())},
            "error_rates": self.error_rates.to_dict() if self.error_rates else None,
            "model_digest": self.model_digest,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Fitted:
        """The inverse of :meth:`to_dict`. Raises KeyError or TypeError where the data has another shape."""
        rates = data["error_rates"]
        return cls(
            float(data["centre"]),
            float(data["scale"]),
            {code: Calibration.from_dict(one) for code, one in data["calibration"].items()},
            ErrorRates.from_dict(rates) if rates else None,
            str(data["model_digest"]),
        )


class Raw(NamedTuple):
    """Raw scores of n texts."""

    value: Float  # shape (n,), the published statistic; NaN where the text is too short or the value undefined
    tokens: Int  # shape (n,), tokens that were read, special ones among them


class ModelDetector:
    """A detector over one or two models. Picklable; the models are loaded on first use and stay out of the pickle.

    Subclasses say which models, how to load them, and what to compute of a batch of token rows.
    """

    kind: ClassVar[str]
    sign: ClassVar[int] = 1  # -1 where low raw scores mean a machine

    def __init__(self, options: ModelOptions | None = None, fitted: Fitted | None = None) -> None:
        self.options = options or ModelOptions()
        self.fitted = fitted
        self.name: str = self.kind  # evidence is filed under it
        self.folder: Path | None = None  # where the calibration was read from
        self._loaded: Any = None
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_loaded": None, "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()

    @property
    def models(self) -> dict[str, str]:
        """The models by the constructor's names for them."""
        raise NotImplementedError

    @property
    def settings(self) -> dict[str, Any]:
        """What else the constructor takes."""
        return {}

    def _load(self) -> Any:
        """Loads tokenizer and models; has attributes ``tokenizer``, ``limit`` and ``budget``."""
        raise NotImplementedError

    def _values(self, loaded: Any, rows: Sequence[Sequence[int]]) -> Sequence[float]:
        """The raw scores of one batch of token rows."""
        raise NotImplementedError

    @property
    def model_digest(self) -> str:
        """SHA-256 (hex) of the models' files, the settings and the options, without the calibration."""
        parts = {
            "kind": self.kind,
            "models": [model_digest(name) for name in self.models.values()],
            "settings": self.settings,
            "options": self.options.resolved().to_dict(),
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of the models' files, the settings and the calibration."""
        fitted = json.dumps(self.fitted.to_dict(), sort_keys=True) if self.fitted else ""
        return hashlib.sha256((self.model_digest + fitted).encode()).hexdigest()

    @property
    def languages(self) -> tuple[str, ...]:
        """The languages on which it speaks; none before calibration."""
        return tuple(sorted(self.fitted.calibrations)) if self.fitted else ()

    def error_rates(self) -> ErrorRates:
        """The error rates measured at calibration. Raises ValueError before it."""
        if self.fitted is None or self.fitted.error_rates is None:
            raise ValueError(f"this {self.kind} detector is not calibrated, so its error rates are not known")
        return self.fitted.error_rates

    def seen(self) -> SeenTexts:
        """The texts and groups that calibration used; what the models were trained on is not known."""
        if self.folder is None or not (self.folder / SEEN_FILE).is_file():
            return SeenTexts.from_keys([])
        return SeenTexts.from_bytes((self.folder / SEEN_FILE).read_bytes())

    def load(self) -> None:
        """Loads the models now rather than at the first text.

        Raises FileNotFoundError where a model is missing, and ValueError where it is not the one that was calibrated.
        """
        with self._lock:
            if self._loaded is not None:
                return
            if self.fitted is not None and self.fitted.model_digest != self.model_digest:
                raise ValueError(
                    f"the models of this {self.kind} detector ({', '.join(self.models.values())}) or its settings are"
                    " not those that were calibrated: calibrate it again"
                )
            self._loaded = self._load()

    def raw(self, texts: Sequence[str]) -> Raw:
        """The published statistic of n texts, whatever their language."""
        self.load()
        rows = token_rows(self._loaded.tokenizer, texts, self._loaded.limit)
        value = np.full(len(texts), np.nan)
        tokens = np.array([len(row) for row in rows], np.int64)
        long_enough = np.flatnonzero(tokens >= self.options.minimum_tokens)
        for batch in batches(tokens[long_enough].tolist(), self._loaded.budget):
            places = long_enough[batch]
            value[places] = self._values(self._loaded, [rows[place] for place in places])
        return Raw(np.where(np.isfinite(value), value, np.nan), tokens)

    def score(self, texts: Sequence[str], languages: Sequence[str | None]) -> Scores:
        """Scores n texts; see :class:`detectors.base.Detector`.

        ``score`` is the published statistic, also where only the probability is missing (:data:`UNCALIBRATED`). A
        calibrated detector does not guess languages: where one is None it abstains. Raises ValueError where the
        lengths differ.
        """
        if len(texts) != len(languages):
            raise ValueError(f"{len(texts)} texts but {len(languages)} languages")
        codes = [_primary(language) for language in languages]
        abstained: list[str | None] = [None] * len(texts)
        if self.fitted is not None:
            abstained = [None if code in self.fitted.calibrations else LANGUAGE for code in codes]
        asked = [row for row, reason in enumerate(abstained) if reason is None]
        raw = self.raw([texts[row] for row in asked])
        score = np.full(len(texts), np.nan, np.float32)
        probability = np.full(len(texts), np.nan, np.float32)
        score[asked] = raw.value
        known = np.isfinite(raw.value)
        for row, tokens, is_known in zip(asked, raw.tokens.tolist(), known.tolist(), strict=True):
            if tokens < self.options.minimum_tokens:
                abstained[row] = TOO_SHORT
            elif not is_known:
                abstained[row] = UNDEFINED
            elif self.fitted is None:
                abstained[row] = UNCALIBRATED
        if self.fitted is not None:
            spoken = [row for row in asked if abstained[row] is None]
            of_language = [codes[row] or "" for row in spoken]
            probability[spoken] = self.fitted.probability(raw.value[known], raw.tokens[known], of_language)
        return Scores(score, probability, abstained)


def _primary(language: str | None) -> str | None:
    return language.replace("_", "-").split("-")[0].lower() if language else None
