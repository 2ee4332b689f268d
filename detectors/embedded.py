"""The embedded detector: a linear model over hashed n-grams that ships with the package and needs no accelerator.

    from detectors.embedded import Embedded

    detector = Embedded()                      # or Embedded(Path("my-model")), written by `reserve train`
    scores = detector.score(texts, languages)  # languages may hold None

It reads the first 3,000 characters of a text in their levelled view (:mod:`detectors.levelling`). It abstains on texts
shorter than ``minimum_tokens`` and on languages that it was not trained for. What it was trained on, how well it does
and what it must not be used for stand in ``MODEL_CARD.md`` beside the model.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import numpy as np

from detectors.base import LANGUAGE, TOO_SHORT, ErrorRates, Scores
from detectors.calibration import Calibration
from detectors.corpus import SCORED_CHARACTERS
from detectors.fitting import LinearModel, logits
from detectors.histograms import SetHistograms
from detectors.levelling import level
from detectors.ngrams import tokenise

MODEL_FILE = "weights.zlib"
SETTINGS_FILE = "detector.json"
SEEN_FILE = "seen.u32"
SCORES_FILE = "left_out.parquet"  # what training scored of sets left out; not needed to score
CARD_FILE = "MODEL_CARD.md"

# Words that are frequent in English and rare as words of other languages in Latin script.
_ENGLISH = frozenset(
    b"the of and to is that it was for with as are this be by at from have not you they which had his her".split()
)
_HAN = re.compile("[\u3400-\u9fff]")
_NOT_CHINESE = re.compile("[\u3040-\u30ff\uac00-\ud7af]")


@dataclass(frozen=True)
class Settings:
    """What ``detector.json`` holds that scoring needs."""

    minimum_tokens: int
    model: dict[str, Any]  # of LinearModel, besides the weights
    calibrations: dict[str, Calibration]
    error_rates: ErrorRates
    histograms: tuple[SetHistograms, ...]

    @classmethod
    def from_json(cls, text: str) -> Settings:
        """Reads ``detector.json``. Raises ValueError where it is not one."""
        try:
            data = json.loads(text)
            return cls(
                int(data["minimum_tokens"]),
                {name: data["model"][name] for name in ("scale", "bias", "word_ngrams", "power")},
                {code: Calibration.from_dict(part) for code, part in data["calibration"].items()},
                ErrorRates.from_dict(data["error_rates"]),
                tuple(SetHistograms.from_dict(part) for part in data["histograms"]),
            )
        except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
            raise ValueError(f"{SETTINGS_FILE} is damaged or of another version: {error!r}") from error


class Embedded:
    """The linear detector. Picklable; the model is read on first use and stays out of the pickle."""

    name = "embedded"

    def __init__(self, folder: Path | None = None) -> None:
        """``folder`` holds a model that `reserve train` wrote; None takes the one in the package."""
        self._folder = folder
        self._model: Any = None
        self._settings: Settings | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"_folder": self._folder, "_model": None, "_settings": None}

    def _file(self, name: str) -> Traversable:
        root: Traversable = files("detectors") / "models" if self._folder is None else self._folder
        found = root / name
        if not found.is_file():
            raise FileNotFoundError(f"no {name} in {root}; `reserve train` writes one")
        return found

    @property
    def settings(self) -> Settings:
        """Minimum length, calibration and error rates."""
        if self._settings is None:
            self._settings = Settings.from_json(self._file(SETTINGS_FILE).read_text("utf-8"))
        return self._settings

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of the model and the settings."""
        both = hashlib.sha256()
        for name in (MODEL_FILE, SETTINGS_FILE):
            both.update(hashlib.sha256(self._file(name).read_bytes()).digest())
        return both.hexdigest()

    @property
    def languages(self) -> tuple[str, ...]:
        """The languages on which it speaks."""
        return tuple(sorted(self.settings.calibrations))

    def error_rates(self) -> ErrorRates:
        """The error rates measured when the model was trained."""
        return self.settings.error_rates

    def histograms(self) -> tuple[SetHistograms, ...]:
        """The scores of the sets left out of training, counted in bins."""
        return self.settings.histograms

    def seen(self) -> SeenTexts:
        """The texts and groups that training used."""
        return SeenTexts.from_bytes(self._file(SEEN_FILE).read_bytes())

    def load(self) -> None:
        """Reads the model now rather than at the first text."""
        if self._model is None:
            self._model = LinearModel.from_bytes(self._file(MODEL_FILE).read_bytes(), **self.settings.model)

    def score(self, texts: Sequence[str], languages: Sequence[str | None]) -> Scores:
        """Scores n texts; see :class:`detectors.base.Detector`. Raises ValueError where the lengths differ."""
        if len(texts) != len(languages):
            raise ValueError(f"{len(texts)} texts but {len(languages)} languages")
        self.load()
        settings = self.settings
        score = np.full(len(texts), np.nan, np.float32)
        probability = np.full(len(texts), np.nan, np.float32)
        abstained: list[str | None] = [None] * len(texts)
        views: dict[str, tuple[list[int], list[bytes], list[int]]] = {}
        for row, (text, language) in enumerate(zip(texts, languages, strict=True)):
            code = language.split("-")[0].split("_")[0].lower() if language else None
            if code is not None and code not in settings.calibrations:
                abstained[row] = LANGUAGE
                continue
            view = level(text[:SCORED_CHARACTERS])
            tokens = view.count(b" ") + 1
            if tokens < settings.minimum_tokens:
                abstained[row] = TOO_SHORT
                continue
            code = code or guess_language(view)
            if code not in settings.calibrations:
                abstained[row] = LANGUAGE
                continue
            rows, of_language, lengths = views.setdefault(code, ([], [], []))
            rows.append(row)
            of_language.append(view)
            lengths.append(tokens)
        for code, (rows, of_language, lengths) in views.items():
            raw = logits(self._model, tokenise(of_language))
            score[rows] = raw
            probability[rows] = settings.calibrations[code].probability(raw, np.array(lengths, np.int64))
        return Scores(score, probability, abstained)


def guess_language(levelled: bytes) -> str | None:
    """``en`` or ``zh`` where a levelled text plainly is; None for everything else. No substitute for an identifier."""
    tokens = levelled[:2000].split()
    if not tokens:
        return None
    if sum(token in _ENGLISH for token in tokens) > 0.08 * len(tokens):
        return "en"
    text = levelled[:2000].decode("utf-8", "ignore")
    if len(_HAN.findall(text)) > 0.5 * len(tokens) and len(_NOT_CHINESE.findall(text)) < 0.02 * len(tokens):
        return "zh"
    return None


@dataclass(frozen=True)
class SeenTexts:
    """Which texts training and calibration used, as sorted 32-bit keys of their levelled views and their groups.

    About one unseen text in 25,000 is taken for a seen one; the other way it never errs.
    """

    keys: np.ndarray[tuple[int], np.dtype[np.uint32]]

    @classmethod
    def from_keys(cls, keys: Sequence[int]) -> SeenTexts:
        """From 64-bit keys (:func:`detectors.corpus.text_key`)."""
        return cls(np.unique(np.array([key & 0xFFFFFFFF for key in keys], np.uint32)))

    @classmethod
    def from_bytes(cls, data: bytes) -> SeenTexts:
        """From little-endian 32-bit integers in ascending order."""
        return cls(np.frombuffer(data, "<u4").astype(np.uint32))

    def to_bytes(self) -> bytes:
        """The inverse of :meth:`from_bytes`."""
        return self.keys.astype("<u4").tobytes()

    def contains(self, keys: Sequence[int]) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """Which of these 64-bit keys are among them; shape (n,)."""
        return np.isin(np.array([key & 0xFFFFFFFF for key in keys], np.uint32), self.keys)
