"""The kernel of settle: rows routed by policy, sorted by identity, with nothing lost."""

from datetime import UTC, datetime

import numpy as np
import pyarrow as pa

from pipelines.provenance.policy import load_policy
from pipelines.records import (
    CLUSTERS,
    DUPLICATES,
    EVIDENCE,
    OUTPUT,
    REJECTS,
    STAGED,
    Place,
    signatures_schema,
)
from pipelines.reserve.writer import Rules, StagedShard, gather, judge, merge_samples, output_part, samples

CUTOFF = datetime(2022, 11, 30, tzinfo=UTC)
OLD, NEW = datetime(2015, 1, 1, tzinfo=UTC), datetime(2024, 1, 1, tzinfo=UTC)
RULES = Rules(load_policy(None), CUTOFF, 0.9)


def shard(name: str, ids: list[int], when: list[datetime], probability: list[float | None]) -> StagedShard:
    rows = len(ids)
    keys = [i.to_bytes(16, "big") for i in ids]
    staged = {
        "doc_id": keys,
        "record_offset": list(range(rows)),
        "url": [f"https://{name}.example/{i}" for i in ids],
        "host": [f"{name}.example"] * rows,
        "captured_at": when,
        "payload_sha256": [bytes(32)] * rows,
        "text": [f"text {i}" for i in ids],
        "text_sha256": [bytes(32)] * rows,
        "language": ["en"] * rows,
        "machine_probability": probability,
        "evidence": [[]] * rows,
    }
    signed = {
        "doc_id": keys,
        "captured_at": when,
        "text_sha256": [bytes(32)] * rows,
        "shingles": [1] * rows,
        "length": [6] * rows,
        "findings": [0] * rows,
        "signature": [bytes(16)] * rows,
    }
    return StagedShard(
        name,
        pa.table(staged, schema=STAGED),
        pa.table(signed, schema=signatures_schema(4)),
        CLUSTERS.empty_table(),
        REJECTS.empty_table(),
    )


def clustered(to: StagedShard, row: int, **values: object) -> StagedShard:
    line = (
        {"row": row, "cluster_size": 2, "kept_unit": 0, "bears_text": True, "jaccard": 0.9}
        | dict.fromkeys(CLUSTERS.names[-3:])
        | values
    )
    return to._replace(clusters=pa.concat_tables([to.clusters, pa.Table.from_pylist([line], CLUSTERS)]))


def test_rows_leave_sorted_and_each_in_one_place() -> None:
    one = shard("a", [9, 2, 5], [OLD, NEW, NEW], [0.99, 0.99, 0.1])
    two = shard("b", [7, 1], [NEW, NEW], [None, 0.2])
    judged = judge(gather([one, two]), RULES)
    parts = {place: output_part(judged, place) for place in (Place.RESERVE, Place.QUARANTINE, Place.REVIEW)}
    ids = {place.value: [int(i, 16) for i in part["doc_id"].to_pylist()] for place, part in parts.items()}
    assert ids == {"reserve": [1, 5, 9], "quarantine": [2], "review": [7]}
    assert all(part.schema == OUTPUT for part in parts.values())
    assert parts[Place.RESERVE]["shard"].to_pylist() == ["b", "a", "a"]
    assert parts[Place.RESERVE]["because"].to_pylist()[2] == "it was captured before the cut-off"


def test_a_removed_copy_leaves_and_the_kept_one_knows_its_cluster() -> None:
    kept = (1).to_bytes(16, "big")
    one = shard("a", [1, 2], [OLD, NEW], [0.1, 0.99])
    one = clustered(one, 0, cluster_id=kept, kept=True, jaccard=1.0)
    one = clustered(one, 1, cluster_id=kept, kept=False)
    judged = judge(gather([one]), RULES)
    duplicates = output_part(judged, Place.DUPLICATES)
    assert duplicates.schema == DUPLICATES
    assert duplicates.select(["doc_id", "kept_doc_id"]).to_pylist() == [
        {"doc_id": f"{2:032x}", "kept_doc_id": f"{1:032x}"}
    ]
    assert output_part(judged, Place.RESERVE).select(["cluster_id", "cluster_size"]).to_pylist() == [
        {"cluster_id": f"{1:032x}", "cluster_size": 2}
    ]
    assert output_part(judged, Place.QUARANTINE).num_rows == 0


def test_an_older_copy_is_evidence_and_dates_a_page() -> None:
    older = (77).to_bytes(16, "big")
    one = shard("a", [2], [NEW], [0.99])
    line = {"older_doc_id": older, "older_captured_at": OLD, "older_jaccard": 0.93}
    one = clustered(one, 0, cluster_id=(2).to_bytes(16, "big"), kept=True, **line)
    (row,) = output_part(judge(gather([one]), RULES), Place.RESERVE).to_pylist()
    assert row["verdict"] == "dated"
    (item,) = row["evidence"]
    assert (item["source"], item["kind"]) == ("near_duplicate", "older_copy")
    assert item["detail"] == f"{77:032x} captured 2015-01-01T00:00:00Z"


def test_an_older_copy_from_after_the_cutoff_proves_nothing() -> None:
    one = shard("a", [2], [NEW], [0.99])
    line = {"older_doc_id": bytes(16), "older_captured_at": datetime(2023, 1, 1, tzinfo=UTC), "older_jaccard": 0.93}
    one = clustered(one, 0, cluster_id=(2).to_bytes(16, "big"), kept=True, **line)
    (row,) = output_part(judge(gather([one]), RULES), Place.QUARANTINE).to_pylist()
    assert (row["verdict"], row["evidence"]) == ("suspected", [])


def test_samples_merge_to_those_of_the_whole() -> None:
    rng = np.random.default_rng(3)
    ids = rng.permutation(60).tolist()
    when = [OLD if i % 3 else NEW for i in ids]
    probability = [float(rng.random()) for _ in ids]
    shards = [shard(str(k), ids[k::4], when[k::4], probability[k::4]) for k in range(4)]
    whole = merge_samples([samples(judge(gather(shards), RULES))])
    parts = merge_samples([samples(judge(gather([one]), RULES)) for one in shards])
    assert whole.equals(parts)
    assert whole.num_rows >= 6
    assert whole.schema.field("evidence").type == EVIDENCE


def test_a_pack_without_documents_writes_empty_parts() -> None:
    judged = judge(gather([shard("a", [], [], [])]), RULES)
    for place in (Place.RESERVE, Place.DUPLICATES):
        assert output_part(judged, place).num_rows == 0
    assert merge_samples([samples(judged)]).num_rows == 0
