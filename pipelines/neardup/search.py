"""The search for near-duplicates over any number of documents: one pipeline, or several over files.

Up to a declared bound one process holds all candidate edges, and :class:`pipelines.neardup.cluster.FindClusters` is a
single pipeline. Beyond it edges go to files, large-star and small-star rounds find their components
(:mod:`pipelines.neardup.rounds`), and a last pipeline resolves the blocks. Both give the same bytes::

    counters = find_clusters(shards, NearDup(), documents=10_000, folder="work/blocks", execute=run_one_pipeline)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import apache_beam as beam

from pipelines import files
from pipelines.neardup.bands import parameters
from pipelines.neardup.candidates import ShardSignatures
from pipelines.neardup.cluster import FindClusters, ResolveComponents, WriteEdges
from pipelines.neardup.options import NearDup
from pipelines.neardup.rounds import find_components

_EDGES_A_RANGE = 4_000_000  # that one process of a round holds, at some 100 bytes each


def find_clusters(
    shards: Sequence[ShardSignatures],
    options: NearDup,
    documents: int,
    folder: str,
    execute: Callable[[beam.PTransform], dict[str, int]],
) -> dict[str, int]:
    """Writes the cluster files of all units; gives the counters of all pipelines.

    Args:
        shards: the units; their order does not matter.
        options: the options of the search.
        documents: how many documents the units hold, or more.
        folder: takes what lies between the pipelines; it is emptied.
        execute: runs a pipeline of one composite transform to its end and gives its counters.

    Raises ValueError if two units share a name.
    """
    shards = sorted(shards, key=lambda shard: shard.name)
    if len({shard.name for shard in shards}) < len(shards):
        raise ValueError("two shards have the same name; a document's place would not be unique")
    keys = parameters(options.threshold, options.permutations).bands + 1
    # A document has at most one edge for each key that it meets others under.
    if not options.enabled or documents * keys <= options.forest_edges:
        return execute(FindClusters(shards, options))
    files.delete([folder])
    edges = files.join(folder, "edges")
    counters = Counter(execute(WriteEdges(shards, options, edges)))
    written = files.listing(files.join(edges, "*.edges"))
    ranges = max(options.ranges, sum(found.size_in_bytes for found in written) // 16 // _EDGES_A_RANGE + 1)
    components = find_components([found.path for found in written], files.join(folder, "rounds"), ranges, execute)
    counters.update(execute(ResolveComponents(shards, options, components)))
    files.delete([folder])
    return dict(counters)
