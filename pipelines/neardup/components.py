"""Connected components of a graph that is given as packed edges.

Nodes are uint64, edges uint64[e, 2]. A component is named by its smallest node, so the result depends neither on the
order of the edges nor on how they were cut into pieces::

    >>> components(np.array([[7, 3], [9, 7], [5, 4]], np.uint64))
    (array([3, 4, 5, 7, 9], dtype=uint64), array([3, 4, 4, 3, 3], dtype=uint64))
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

Nodes = npt.NDArray[np.uint64]
Edges = npt.NDArray[np.uint64]


def components(edges: Edges) -> tuple[Nodes, Nodes]:
    """The nodes of a graph in ascending order, and for each the smallest node of its component."""
    nodes, flat = np.unique(edges, return_inverse=True)
    ends = flat.reshape(-1, 2)
    weights = np.ones(len(ends), np.int8)
    graph = coo_array((weights, (ends[:, 0], ends[:, 1])), shape=(len(nodes), len(nodes)))
    count, labels = connected_components(graph, directed=False)
    smallest = np.full(count, len(nodes), np.int64)
    np.minimum.at(smallest, labels, np.arange(len(nodes)))
    return nodes, nodes[smallest[labels]]


def forest(edges: Edges) -> Edges:
    """The fewest edges with the same components: one from each node to the smallest of its component.

    ``forest(concatenate(forest(A), forest(B)))`` equals ``forest(concatenate(A, B))``, so pieces of a graph can be
    shrunk wherever they are before they meet.
    """
    nodes, roots = components(edges)
    other = nodes != roots
    return np.stack([roots[other], nodes[other]], axis=1)


def stars(keys: npt.NDArray[np.uint64], nodes: Nodes) -> Edges:
    """Joins the nodes that share a key: one edge from the smallest of them to each other."""
    order = np.lexsort((nodes, keys))
    keys, nodes = keys[order], nodes[order]
    first = np.ones(len(keys), bool)
    first[1:] = keys[1:] != keys[:-1]
    anchors = nodes[np.maximum.accumulate(np.where(first, np.arange(len(keys)), 0))]
    return np.stack([anchors[~first], nodes[~first]], axis=1)
