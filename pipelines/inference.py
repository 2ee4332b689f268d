"""Detectors under Beam's RunInference: documents in, scores out, one copy of a model a process or a machine.

    with beam.Pipeline() as pipeline:
        scores = pipeline | beam.Create([Text("id", "some text …", "en")]) | ScoreTexts("binoculars/", one_copy=True)

For models that are slow beside reading, on runners that put stages on machines of different kinds. `inspect` does not
need this: it calls its detector on whole batches.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam.ml.inference.base import ModelHandler, RunInference
from apache_beam.utils.multi_process_shared import MultiProcessShared

from detectors import load_detector
from detectors.base import Detector, Scores

# Characters of a batch, unless a bundle ends; the detector sorts them by length and forms its own batches by tokens.
_CHARACTERS = 1 << 20


class Text(NamedTuple):
    """A document to score."""

    doc_id: str
    text: str
    language: str | None


class Scored(NamedTuple):
    """What a detector says of a document; NaN where it has no score or no probability."""

    doc_id: str
    score: float
    probability: float
    abstained: str | None


class DetectorHandler(ModelHandler[Text, Scored, Detector]):  # type: ignore[misc]
    """Loads a detector once a process, or once a machine, and scores batches of documents."""

    def __init__(self, detector: str, one_copy: bool = False, threads: int = 1) -> None:
        """See :class:`ScoreTexts`."""
        super().__init__(
            min_batch_size=_CHARACTERS,  # with a size function these are sums of sizes
            max_batch_size=_CHARACTERS,
            element_size_fn=characters,
            large_model=one_copy,
        )
        self._detector = detector
        self._threads = threads

    def load_model(self) -> Detector:
        """The detector, with its model read."""
        return _loaded(self._detector, self._threads)

    def run_inference(
        self, batch: Sequence[Text], model: Detector, inference_args: dict[str, Any] | None = None
    ) -> Iterable[Scored]:
        """The scores of a batch, in its order."""
        del inference_args
        scores = model.score([one.text for one in batch], [one.language for one in batch])
        both = zip(scores.score.tolist(), scores.probability.tolist(), scores.abstained, strict=True)
        return [Scored(one.doc_id, *found) for one, found in zip(batch, both, strict=True)]

    def get_num_bytes(self, batch: Sequence[Text]) -> int:
        """The size of a batch, for Beam's metrics."""
        return sum(len(one.text) for one in batch)

    def get_metrics_namespace(self) -> str:
        """Where Beam files its metrics."""
        return "detector"


class ScoreTexts(beam.PTransform):  # type: ignore[misc]
    """:class:`Text` → :class:`Scored`, one for each.

    Args:
        detector: name or folder, as :func:`detectors.load_detector` takes it; it exists on every worker.
        one_copy: one copy of the model a machine, which its processes share, instead of one a process.
        threads: torch's threads for each copy. More than one changes scores in their last digits.
    """

    def __init__(self, detector: str, one_copy: bool = False, threads: int = 1) -> None:
        super().__init__()
        self._handler = DetectorHandler(detector, one_copy, threads)

    def expand(self, texts: beam.PCollection[Text]) -> beam.PCollection[Scored]:
        """Wires the step."""
        return texts | "score" >> RunInference(self._handler)


def characters(text: Text) -> int:
    """What a text weighs in a batch; never nothing."""
    return len(text.text) + 1


def one_copy(detector: str, threads: int = 1) -> Detector:
    """A detector of which this machine holds one copy for this user, whichever process asks.

    Calls go over a local port to the process that has the model: the first that asks, and when that ends, the next that
    scores something. The port asks for no secret (Beam's has a fixed one), so use it where nobody else has an account.
    """
    return _Shared(detector, threads)


class _Shared:
    """A detector whose model may be in another process."""

    def __init__(self, detector: str, threads: int) -> None:
        local = load_detector(detector)
        self.name = local.name
        self.digest = local.digest
        self.error_rates = local.error_rates
        self._model = lambda: _loaded(detector, threads)
        self._remote = self._acquired()

    def _acquired(self) -> Any:
        # Where others can write, they could name a port of their own.
        folder = os.path.join(tempfile.gettempdir(), f"human-reserve-{os.getuid()}")
        os.makedirs(folder, 0o700, exist_ok=True)
        if os.stat(folder).st_uid != os.getuid() or os.stat(folder).st_mode & 0o077:
            raise PermissionError(f"{folder} is not this user's alone")
        return MultiProcessShared(self._model, tag=f"detector-{self.digest}", path=folder, always_proxy=True).acquire()

    def score(self, texts: Sequence[str], languages: Sequence[str | None]) -> Scores:
        """Scores n texts; see :class:`detectors.base.Detector`."""
        arguments = list(texts), list(languages)
        try:
            return Scores(*self._remote.score(*arguments))
        except (ConnectionError, EOFError):  # the process that had the model has ended
            self._remote = self._acquired()
            return Scores(*self._remote.score(*arguments))


def _loaded(name: str, threads: int) -> Detector:
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # read by the tokenizers library
    detector = load_detector(name)
    if callable(getattr(detector, "load", None)):
        detector.load()  # type: ignore[attr-defined]
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)
    return detector
