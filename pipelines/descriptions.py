"""What an output says of itself to machines, written when all its data is.

`provenance.intoto.json` comes first, since `croissant.json` holds its digest. The manifest of the seal covers both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow.parquet as pq

from pipelines import files
from pipelines.errors import UsageError
from pipelines.layout import PLACES, Layout
from pipelines.reserve import croissant, provenance_statement
from pipelines.reserve.manifest import FileDigest, digest_file, digest_of, outside_seal
from pipelines.reserve.manifest import write_bytes as write_digested
from pipelines.versions import code_digest

NAMES = (croissant.NAME, provenance_statement.NAME)


def write_descriptions(
    layout: Layout, summary: Mapping[str, Any], content: bytes, markers: Sequence[Mapping[str, Any]]
) -> None:
    """Writes both files.

    Args:
        layout: of the output, in which everything but the summary is written.
        summary: of the run.
        content: the bytes of `summary.json`, as it is about to be written.
        markers: of all parts, as settle wrote them, with the digests of their files.
    """
    written = {one["file"]: FileDigest.of(one) for marker in markers for one in marker["files"]}
    written[layout.name(layout.summary)] = digest_of(content, layout.name(layout.summary))
    for path in outside_seal(layout):
        if (name := layout.name(path)) not in written and name not in NAMES:
            written[name] = digest_file(path, name)
    statement = provenance_statement.statement_bytes(summary, code_digest(), written.values())
    name = provenance_statement.NAME
    written[name] = write_digested(files.join(layout.output, name), name, statement)
    files.write_bytes(files.join(layout.output, croissant.NAME), croissant.croissant_bytes(summary, written.values()))


def rewrite_croissant(output: str) -> str:
    """Writes `croissant.json` of a finished run again, of its files as they are by now; gives its path.

    The statement stays: it says what the run wrote, also after documents were withdrawn.
    """
    layout = Layout(output)
    summary = files.read_json(layout.summary)
    if summary is None:
        raise UsageError(f"{output}: no finished run here (no summary.json)")
    written, rows = [], dict.fromkeys((place.value for place in PLACES), 0)
    for path in outside_seal(layout):
        name = layout.name(path)
        folder = name.rpartition("/")[0]
        if folder in rows:
            with files.open_read(path) as stream:
                rows[folder] += pq.read_metadata(stream).num_rows
        if folder in croissant.FOLDERS:  # of whose parts no digest stands there
            written.append(FileDigest(name, files.stat(path).size_in_bytes, ""))
        elif name != croissant.NAME:
            written.append(digest_file(path, name))
    path = files.join(output, croissant.NAME)
    records = {"in": summary["records"]["in"], **rows}
    files.write_bytes(path, croissant.croissant_bytes(summary | {"records": records}, written))
    return path
