"""Text detectors: text in, score out. One detector a file, one protocol, no Beam.

::

    detector = load_detector("embedded")
    detector.score(["some text …"], ["en"]).probability
"""

from __future__ import annotations

from pathlib import Path

from detectors.base import Detector


def load_detector(name: str) -> Detector:
    """The detector that lies in the package ("embedded"), or the one in a folder that training or calibration wrote.

    Raises FileNotFoundError where the folder holds no detector, ValueError where it is damaged.
    """
    from detectors.embedded import Embedded  # training imports this package without the model's library

    if name == "embedded":
        return Embedded()
    folder = Path(name)
    if not (folder / "detector.json").is_file():
        raise FileNotFoundError(
            f"{name} is neither 'embedded' nor a folder with a detector.json, as training and calibration write it"
        )
    from detectors.model_folder import kind_of, open_detector

    if kind_of(folder):
        return open_detector(folder, load_detector)
    return Embedded(folder)
