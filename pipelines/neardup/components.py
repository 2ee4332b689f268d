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
    first = starts(keys)
    anchors = nodes[np.maximum.accumulate(np.where(first, np.arange(len(keys)), 0))]
    return np.stack([anchors[~first], nodes[~first]], axis=1)


def starts(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
    """Where in values of any order a run of equal ones begins."""
    new = np.ones(len(values), bool)
    new[1:] = values[1:] != values[:-1]
    return new


def distinct(edges: Edges) -> Edges:
    """Each edge once, ordered by its second node and then by its first; holds 41 bytes an edge beside those given."""
    edges = edges[np.lexsort((edges[:, 0], edges[:, 1]))]
    return edges[starts(edges[:, 0]) | starts(edges[:, 1])]


def smallest_neighbours(edges: Edges) -> tuple[Nodes, Nodes]:
    """Each second node in ascending order, and the smallest first node beside it.

    Args:
        edges: uint64[e, 2] in the order of :func:`distinct`, the smaller node first.
    """
    first = starts(edges[:, 1])
    return edges[first, 1], edges[first, 0]


def look_up(wanted: Nodes, nodes: Nodes, values: Nodes) -> tuple[npt.NDArray[np.bool_], Nodes]:
    """Which of the wanted are among the nodes (ascending), and for these, in order, their values."""
    if not len(nodes):
        return np.zeros(len(wanted), bool), values
    at = np.minimum(np.searchsorted(nodes, wanted), len(nodes) - 1)
    found = nodes[at] == wanted
    return found, values[at[found]]


def large_star(edges: Edges, nodes: Nodes, smallest: Nodes) -> tuple[Edges, int]:
    """Joins each node's larger neighbours to its smallest neighbour, or to itself where it has no smaller one.

    The large-star operation of Kiveris et al., *Connected Components in MapReduce and Beyond* (SoCC 2014), cut by the
    larger end of the edges. It keeps the components and adds no edges.

    Args:
        edges: uint64[e, 2], the smaller node first.
        nodes: uint64[n] in ascending order: of the first nodes in ``edges``, those that have a smaller neighbour.
        smallest: uint64[n]; the smallest neighbour of each of them.

    Gives the edges in the order of :func:`distinct`, the smaller node first, and how many of ``edges`` it changed.
    """
    found, values = look_up(edges[:, 0], nodes, smallest)
    moved = edges.copy()
    moved[found, 0] = values
    return distinct(moved), len(values)
