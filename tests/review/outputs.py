"""Small outputs for tests: files as a run writes them, without a run."""

import hashlib
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.layout import DOCUMENT_PLACES
from pipelines.records import OUTPUT
from pipelines.reserve.seal import SealWriter, sealing

WORDS = [f"w{number}x" for number in range(400)]
START = datetime(2022, 10, 3, tzinfo=UTC)


def row(number: int, place: str = "reserve", **changes: Any) -> dict[str, Any]:
    """A document of its own words; those with an even number are from before the cut-off."""
    random = np.random.default_rng(number)
    text = changes.pop("text", " ".join(random.choice(WORDS, 30)))
    digest = hashlib.sha256(f"{number}/{text}".encode()).hexdigest()
    dated = number % 2 == 0
    verdict = {"reserve": "dated" if dated else "clear", "quarantine": "declared", "review": "undetermined"}[place]
    return {
        "place": place,
        "doc_id": digest[:32],
        "url": f"https://h{number % 7}.example/{number}",
        "host": f"h{number % 7}.example",
        "captured_at": START + timedelta(days=number % 30 if dated else 100 + number % 60),
        "language": "en" if number % 5 else "de",
        "text": text,
        "text_sha256": hashlib.sha256(text.encode()).hexdigest(),
        "verdict": verdict,
        "machine_probability": None if number % 11 == 3 else float(random.random() ** 3),
        "evidence": [{"source": "other", "kind": "opinion", "probability": float(random.random())}],
        "shard": f"s{number % 3}",
        "record_offset": number,
        "cluster_id": None,
        "cluster_size": 1 + number % 2,
        "because": "",
        "posterior": None,
        "payload_sha256": digest,
        **changes,
    }


def rows(reserve: int = 60, quarantine: int = 24, review: int = 6) -> list[dict[str, Any]]:
    places = ["reserve"] * reserve + ["quarantine"] * quarantine + ["review"] * review
    return [row(number, place) for number, place in enumerate(places)]


def write_output(
    folder: Path, documents: list[dict[str, Any]], parts: int = 1, group: int = 1000, sealed: bool = True
) -> str:
    for place in DOCUMENT_PLACES:
        (folder / place.value).mkdir(parents=True)
        own = [one for one in documents if one["place"] == place.value]
        for part in range(parts):
            columns = {
                field.name: pa.array([one.get(field.name) for one in own[part::parts]], field.type) for field in OUTPUT
            }
            path = folder / place.value / f"part-{part:05d}.parquet"
            pq.write_table(pa.table(columns, schema=OUTPUT), path, row_group_size=group)
    summary: dict[str, Any] = {
        "records": {p.value: sum(one["place"] == p.value for one in documents) for p in DOCUMENT_PLACES},
        "synthetic_share": {"estimate": 0.05, "low": 0.02, "high": 0.1, "level": 0.95, "too_few": False},
        "detector": {"name": "embedded", "threshold": 0.9},
        "job": {"digest": "ab" * 32, "settings": {"cutoff": "2022-11-30"}},
    }
    if sealed:
        writer = SealWriter(str(folder / "seal"), sealing((), None, {}, None))
        entries = np.frombuffer(b"".join(bytes.fromhex(one["doc_id"]).ljust(188, b"\0") for one in documents), np.uint8)
        tree = writer.add_documents([entries.reshape(-1, 188)])
        summary["seal"] = {"root": tree.root.hex(), "size": tree.size}
        writer.close(summary["records"], b"")
    (folder / "summary.json").write_text(json.dumps(summary))
    return str(folder)
