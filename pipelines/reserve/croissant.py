"""A description of an output for machines: Croissant 1.1 with its terms of responsible AI, and W3C PROV.

The parts of a folder are one FileSet; all other files are FileObjects with their SHA-256. That of each part stands in
`provenance.intoto.json`, whose own digest stands here: the description does not grow with the number of parts. Up to
:data:`LISTED` inputs are named one by one; the statement has them all.

`mlcroissant` checks and reads it::

    mlcroissant validate --jsonld out/croissant.json
    mlcroissant load --jsonld out/croissant.json --record_set reserve

Not in it, since nobody but who publishes the output knows: its address, creator and date of publication.

Source: http://mlcommons.org/croissant/1.1, http://mlcommons.org/croissant/RAI/1.0 and https://www.w3.org/TR/prov-o/.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, Final

import pyarrow as pa

from pipelines import files
from pipelines.layout import DOCUMENT_PLACES, PLACES
from pipelines.records import DUPLICATES, EVIDENCE_ITEM, OUTPUT, REJECTS, Place
from pipelines.reserve.card import COLUMNS, DUPLICATE_COLUMNS, EVIDENCE_ITEMS, REJECT_COLUMNS
from pipelines.reserve.croissant_words import responsible_terms
from pipelines.reserve.manifest import FileDigest
from pipelines.reserve.provenance_statement import URN, shard_uri

NAME: Final = "croissant.json"
CONFORMS_TO: Final = ("http://mlcommons.org/croissant/1.1", "http://mlcommons.org/croissant/RAI/1.0")
LISTED: Final = 1000

FOLDERS: Final[Mapping[str, str]] = {
    Place.RESERVE: "documents that the policy admits",
    Place.QUARANTINE: "documents with evidence of machine origin",
    Place.REVIEW: "documents that a person should look at",
    Place.DUPLICATES: "copies of a document that is kept elsewhere, named with its similarity",
    Place.REJECTS: "records that gave no document, with the reason",
    "index": "signatures of the texts, with which later runs compare",
}
_FORMATS: Final = {
    "parquet": "application/x-parquet",
    "html": "text/html",
    "md": "text/markdown",
    "jsonl": "application/jsonlines",
}
_CARDINALITY: Final = "http://www.wikidata.org/entity/Q4049983"

Json = dict[str, Any]


def croissant(summary: Mapping[str, Any], written: Iterable[FileDigest]) -> Json:
    """The description of a run's output.

    Args:
        summary: of the run, as `summary.json` holds it.
        written: the files of the output, without this one and the seal; in any order.
    """
    job, seal = summary["job"], summary["seal"]
    return {
        "@context": _context(),
        "@type": "sc:Dataset",
        "name": f"human-reserve-{job['digest'][:12]}",
        "description": _description(summary),
        "conformsTo": list(CONFORMS_TO),
        "identifier": f"{seal['origin']} {seal['size']} {seal['root']}" if seal else f"{URN}:job:{job['digest']}",
        "license": {
            "@type": "sc:CreativeWork",
            "name": "none granted",
            "description": "Rights in each text stay with whoever holds them in the page at `url`.",
        },
        "isLiveDataset": False,
        **responsible_terms(summary),
        "prov:wasDerivedFrom": _sources(job),
        "prov:wasGeneratedBy": _activity(summary),
        "distribution": _distribution(written),
        "recordSet": [_record_set(place, summary) for place in PLACES],
    }


def croissant_bytes(summary: Mapping[str, Any], written: Iterable[FileDigest]) -> bytes:
    """The description as it is written. Arguments as for :func:`croissant`."""
    return files.json_bytes(croissant(summary, written))


def _context() -> Json:
    """The context of the specification's appendix 1 and what `mlcroissant` has beyond it."""
    own = (
        "annotation arrayShape citeAs column containedIn equivalentProperty excludes extract field fileObject "
        "fileProperty fileSet format includes isArray isLiveDataset jsonPath key md5 parentField path readLines "
        "recordSet references regex repeated replace samplingRate sdVersion separator source subField transform "
        "unArchive"
    )
    return {
        "@language": "en",
        "@vocab": "https://schema.org/",
        "sc": "https://schema.org/",
        "cr": "http://mlcommons.org/croissant/",
        "rai": "http://mlcommons.org/croissant/RAI/",
        "dct": "http://purl.org/dc/terms/",
        "prov": "http://www.w3.org/ns/prov#",
        "rdfs": "http://www.w3.org/2000/01/rdf-schema#",
        "conformsTo": "dct:conformsTo",
        "data": {"@id": "cr:data", "@type": "@json"},
        "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
        "description": {"@container": "@language"},
        "examples": {"@id": "cr:examples", "@type": "@json"},
        "name": {"@container": "@language"},
        **{term: f"cr:{term}" for term in own.split()},
    }


def _description(summary: Mapping[str, Any]) -> str:
    records, job = summary["records"], summary["job"]
    return (
        f"{records['in']:,} records of a web crawl, each with a decision and its evidence: {records['reserve']:,} "
        f"documents in the reserve, {records['quarantine']:,} in quarantine, {records['review']:,} for review, "
        f"{records['duplicates']:,} copies and {records['rejects']:,} rejects. Verdicts say when a page was captured, "
        f"according to the crawl, and which signs of machine origin were looked for and found; the cut-off is "
        f"{job['settings']['cutoff']}."
    )


def _sources(job: Mapping[str, Any]) -> list[Json]:
    """The shards, or where there are many, what they are together; and the outputs that were compared with."""
    inputs = job["inputs"]
    if len(inputs) <= LISTED:
        found = [_entity(shard_uri(one["name"]), one["name"]) | {"contentSize": f"{one['bytes']} B"} for one in inputs]
    else:
        size = sum(one["bytes"] for one in inputs)
        collection = {"@type": "prov:Collection", "rdfs:label": f"{len(inputs)} shards, listed in the statement"}
        found = [collection | {"contentSize": f"{size} B"}]
    return found + [_entity(f"{URN}:job:{one['digest']}", "earlier output") for one in job["against"]]


def _entity(uri: str, label: str) -> Json:
    return {"@type": "prov:Entity", "@id": uri, "rdfs:label": label}


def _activity(summary: Mapping[str, Any]) -> Json:
    job, versions, detector = summary["job"], summary["versions"], summary["detector"]
    agent = {
        "@type": "prov:SoftwareAgent",
        "rdfs:label": f"human-reserve {versions['human-reserve']}",
        "softwareVersion": versions["human-reserve"],
        "identifier": f"{URN}:code:{versions['code']}",
    }
    activity: Json = {
        "@type": "prov:Activity",
        "rdfs:label": "reserve run",
        "identifier": f"{URN}:job:{job['digest']}",
        "prov:wasAssociatedWith": agent,
    }
    if detector:
        activity["prov:used"] = _entity(f"{URN}:detector:{detector['digest']}", f"detector {detector['name']}")
    return activity


def _distribution(written: Iterable[FileDigest]) -> list[Json]:
    parts, single = defaultdict(list), []
    for one in sorted(written, key=lambda one: one.file):
        folder = one.file.rpartition("/")[0]
        if folder in FOLDERS:
            parts[folder].append(one)
        else:
            single.append(_file_object(one))
    return [_file_set(folder, parts[folder]) for folder in FOLDERS if folder in parts] + single


def _file_set(folder: str, parts: list[FileDigest]) -> Json:
    size = sum(part.size for part in parts)
    return {
        "@type": "cr:FileSet",
        "@id": f"{folder}-files",
        "name": f"{folder}-files",
        "description": f"{FOLDERS[folder]}; files: {len(parts)}, digests as written: provenance.intoto.json",
        "contentSize": f"{size} B",
        "encodingFormat": _FORMATS["parquet"],
        "includes": f"{folder}/part-*.parquet",
    }


def _file_object(one: FileDigest) -> Json:
    suffix = one.file.rpartition(".")[2]
    return {
        "@type": "cr:FileObject",
        "@id": one.file,
        "name": one.file.rpartition("/")[2],
        "contentUrl": one.file,
        "contentSize": f"{one.size} B",
        "encodingFormat": _FORMATS.get(suffix, "application/json"),
        "sha256": one.sha256,
    }


def _record_set(place: Place, summary: Mapping[str, Any]) -> Json:
    """One record set; a field for each column, and the number of records as an annotation."""
    schema, words = _columns(place)
    # Without the search for copies, a record that was read twice is there twice.
    unique = place in DOCUMENT_PLACES and summary["job"]["settings"]["neardup"]["enabled"]
    count = summary["records"][place]
    return {
        "@type": "cr:RecordSet",
        "@id": place.value,
        "name": place.value,
        "description": FOLDERS[place],
        **({"key": {"@id": f"{place.value}/doc_id"}} if unique else {}),
        "field": [_field(place.value, column, words[column.name]) for column in schema],
        "annotation": {
            "@type": "cr:Field",
            "@id": f"{place.value}/count",
            "name": f"{place.value}/count",
            "description": "how many records there are",
            "dataType": ["sc:Integer", _CARDINALITY],
            # The specification's own term, and the one that `mlcroissant` 1.1 reads, which is schema.org's.
            "cr:value": count,
            "value": count,
        },
    }


def _columns(place: Place) -> tuple[pa.Schema, Mapping[str, str]]:
    if place is Place.REJECTS:
        return REJECTS, REJECT_COLUMNS
    return (DUPLICATES, COLUMNS | DUPLICATE_COLUMNS) if place is Place.DUPLICATES else (OUTPUT, COLUMNS)


def _field(folder: str, column: pa.Field, words: str) -> Json:
    field: Json = {
        "@type": "cr:Field",
        "@id": f"{folder}/{column.name}",
        "name": column.name,
        "description": words,
    }
    source: Json = {"fileSet": {"@id": f"{folder}-files"}, "extract": {"column": column.name}}
    if not pa.types.is_list(column.type):
        return field | {"dataType": _data_type(column.type), "source": source}
    items = [
        {
            "@type": "cr:Field",
            "@id": f"{folder}/{column.name}/{item.name}",
            "name": item.name,
            "description": EVIDENCE_ITEMS[item.name],
            "dataType": _data_type(item.type),
            "source": source | {"transform": {"jsonPath": item.name}},
        }
        for item in EVIDENCE_ITEM
    ]
    return field | {"isArray": True, "arrayShape": "-1", "subField": items}


def _data_type(kind: pa.DataType) -> str:
    if pa.types.is_timestamp(kind):
        return "sc:DateTime"
    if pa.types.is_integer(kind):
        return "sc:Integer"
    return "sc:Float" if pa.types.is_floating(kind) else "sc:Text"
