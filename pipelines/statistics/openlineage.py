"""A finished run as an OpenLineage run event: which shards went in, which tables came out, with their schemas and rows.

A working example::

    event = openlineage_event(summary, tables)
    write_bytes("out/openlineage.json", json_bytes(event))

The event is COMPLETE. Its run id is made of the job's digest and the seal's root, and its time is the one given, by
default the beginning of 1970: the same input gives the same bytes. Whoever sends it on puts in the time of sending.

Source: https://openlineage.io/spec/2-0-2/OpenLineage.json and the facets below https://openlineage.io/spec/facets/.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlsplit

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.records import DUPLICATES, OUTPUT, REJECTS, Place

NAME: Final = "openlineage.json"
URN: Final = "urn:human-reserve"
_SPEC: Final = "https://openlineage.io/spec"
_FACETS: Final = {
    "datasetVersion": "1-0-1/DatasetVersionDatasetFacet",
    "schema": "1-2-0/SchemaDatasetFacet",
    "dataQualityMetrics": "1-0-1/DataQualityMetricsDatasetFacet",
    "outputStatistics": "1-0-2/OutputStatisticsOutputDatasetFacet",
    "inputStatistics": "1-0-0/InputStatisticsInputDatasetFacet",
    "jobType": "2-0-4/JobTypeJobFacet",
    "processing_engine": "1-1-1/ProcessingEngineRunFacet",
}
_OF_PLACES: Final = {Place.DUPLICATES: DUPLICATES, Place.REJECTS: REJECTS}

Json = dict[str, Any]


def openlineage_event(summary: Mapping[str, Any], tables: Mapping[str, pa.Table], time: datetime | None = None) -> Json:
    """The event as JSON.

    Args:
        summary: of the run, as ``summary.json`` holds it.
        tables: of ``statistics/``, by name.
        time: of the event, with a time zone.
    """
    version, digest = summary["versions"], summary["job"]["digest"]
    producer = f"{URN}:reserve:{version['human-reserve']}"
    return {
        "eventType": "COMPLETE",
        "eventTime": (time or datetime.fromtimestamp(0, UTC)).astimezone(UTC).isoformat().replace("+00:00", "Z"),
        "run": {
            "runId": run_id(summary),
            "facets": {
                "processing_engine": _facet(
                    producer, "processing_engine", version=version["apache-beam"], name="Apache Beam"
                ),
                "humanReserve_syntheticShare": _own_facet(producer, "synthetic-share", summary["synthetic_share"]),
                "humanReserve_records": _own_facet(producer, "records", summary["records"]),
            },
        },
        "job": {
            "namespace": URN,
            "name": f"run.{digest}",
            "facets": {"jobType": _facet(producer, "jobType", processingType="BATCH", integration="HUMAN_RESERVE")},
        },
        "inputs": [
            *(_shard(producer, shard) for shard in summary["job"]["inputs"]),
            *(_earlier(producer, output) for output in summary["job"]["against"]),
        ],
        "outputs": [
            *(_place(producer, summary, place) for place in Place),
            *(_table(producer, summary, name, tables[name]) for name in sorted(tables)),
        ],
        "producer": producer,
        "schemaURL": f"{_SPEC}/2-0-2/OpenLineage.json#/$defs/RunEvent",
    }


def run_id(summary: Mapping[str, Any]) -> str:
    """UUID (version 5, RFC 9562) of the job's digest and the root of the seal."""
    root = (summary.get("seal") or {}).get("root", "unsealed")
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{URN}:run:{summary['job']['digest']}:{root}"))


def _facet(producer: str, name: str, /, **content: Any) -> Json:
    path = _FACETS[name]
    url = f"{_SPEC}/facets/{path}.json#/$defs/{path.partition('/')[2]}"
    return {"_producer": producer, "_schemaURL": url, **content}


def _own_facet(producer: str, name: str, content: Mapping[str, Any]) -> Json:
    return {"_producer": producer, "_schemaURL": f"{URN}:facet:{name}:1", **_known(content)}


def _known(content: Mapping[str, Any]) -> Json:
    """Without what is null: clients of the protocol leave it out, and events are compared."""
    known = {name: value for name, value in content.items() if value is not None}
    return {name: _known(value) if isinstance(value, Mapping) else value for name, value in known.items()}


def _shard(producer: str, shard: Mapping[str, Any]) -> Json:
    """By the naming rules of the specification: the authority is the namespace, the path is the name."""
    address = urlsplit(shard["name"]) if "://" in shard["name"] else None
    return {
        "namespace": f"{address.scheme}://{address.netloc}" if address else "file",
        "name": shard["name"].split("://", 1)[1].partition("/")[2] if address else shard["name"],
        "inputFacets": {"inputStatistics": _facet(producer, "inputStatistics", size=shard["bytes"], fileCount=1)},
    }


def _earlier(producer: str, output: Mapping[str, Any]) -> Json:
    """An earlier output, named as its own event names it."""
    version = _facet(producer, "datasetVersion", datasetVersion=output["digest"])
    return {
        "namespace": f"{URN}:job:{output['digest']}",
        "name": Place.RESERVE.value,
        "facets": {"datasetVersion": version},
    }


def _dataset(producer: str, summary: Mapping[str, Any], name: str, schema: pa.Schema, rows: int) -> Json:
    digest = summary["job"]["digest"]
    version = (summary.get("seal") or {}).get("root", digest)
    return {
        "namespace": f"{URN}:job:{digest}",
        "name": name,
        "facets": {
            "datasetVersion": _facet(producer, "datasetVersion", datasetVersion=version),
            "schema": _facet(producer, "schema", fields=_fields(schema)),
        },
        "outputFacets": {"outputStatistics": _facet(producer, "outputStatistics", rowCount=rows)},
    }


def _place(producer: str, summary: Mapping[str, Any], place: Place) -> Json:
    return _dataset(producer, summary, place.value, _OF_PLACES.get(place, OUTPUT), summary["records"][place.value])


def _table(producer: str, summary: Mapping[str, Any], name: str, table: pa.Table) -> Json:
    dataset = _dataset(producer, summary, f"statistics/{name}", table.schema, table.num_rows)
    metrics = {column: _metrics(table[column]) for column in table.schema.names}
    quality = _facet(producer, "dataQualityMetrics", rowCount=table.num_rows, columnMetrics=metrics)
    dataset["facets"]["dataQualityMetrics"] = quality
    return dataset


def _fields(schema: Sequence[pa.Field]) -> list[Json]:
    return [{"name": field.name, "type": str(field.type)} for field in schema]


def _metrics(column: pa.ChunkedArray) -> Json:
    """Nulls, and the range of numbers: of finite ones, since JSON has no others."""
    found: Json = {"nullCount": column.null_count, "count": len(column) - column.null_count}
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        values = pc.drop_null(column).to_numpy()
        values = values[np.isfinite(values)]
        if len(values):
            found |= {"min": float(values.min()), "max": float(values.max())}
    return found
