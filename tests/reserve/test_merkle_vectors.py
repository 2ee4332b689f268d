"""The vectors of transparency-dev/merkle: right and wrong proofs of RFC 6962 and of subtrees."""

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest

from pipelines.reserve.proofs import (
    ProofError,
    Subtree,
    verify_consistency,
    verify_inclusion,
    verify_subtree_consistency,
    verify_subtree_inclusion,
)
from tests.crawls import SHARED

VECTORS = SHARED / "vectors" / "rfc6962"
FILES = {kind: sorted((VECTORS / kind).rglob("*.json")) for kind in ("inclusion", "consistency")} | {
    f"subtree {kind}": sorted((VECTORS / f"subtree{kind}").rglob("*.json")) for kind in ("inclusion", "consistency")
}

pytestmark = pytest.mark.skipif(not VECTORS.is_dir(), reason=f"needs the vectors in {VECTORS}")


def raw(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def proof(vector: dict[str, Any]) -> list[bytes]:
    return [raw(value) for value in vector["proof"] or []]


def inclusion(v: dict[str, Any]) -> None:
    verify_inclusion(raw(v["leafHash"]), v["leafIdx"], v["treeSize"], proof(v), raw(v["root"]))


def consistency(v: dict[str, Any]) -> None:
    verify_consistency(v["size1"], v["size2"], raw(v["root1"]), raw(v["root2"]), proof(v))


def subtree_inclusion(v: dict[str, Any]) -> None:
    subtree = Subtree(v["start"], v["end"])
    verify_subtree_inclusion(raw(v["leafHash"]), v["leafIdx"], subtree, proof(v), raw(v["root"]))


def subtree_consistency(v: dict[str, Any]) -> None:
    subtree = Subtree(v["start"], v["end"])
    verify_subtree_consistency(subtree, v["size"], raw(v["root1"]), raw(v["root2"]), proof(v))


@pytest.mark.parametrize(
    ("kind", "verify", "right", "wrong"),
    [
        ("inclusion", inclusion, 6, 92),
        ("consistency", consistency, 6, 92),
        ("subtree inclusion", subtree_inclusion, 12, 192),
        ("subtree consistency", subtree_consistency, 12, 106),
    ],
)
def test_right_vectors_are_accepted_and_wrong_ones_refused(
    kind: str, verify: Callable[[dict[str, Any]], None], right: int, wrong: int
) -> None:
    accepted, refused, mistaken = 0, 0, []
    for file in FILES[kind]:
        vector = json.loads(file.read_text())
        try:
            verify(vector)
        except ProofError as error:
            refused += 1
            if not vector["wantErr"]:
                mistaken.append(f"{file}: {error}")
        else:
            accepted += 1
            if vector["wantErr"]:
                mistaken.append(f"{file}: accepted")
    assert not mistaken
    assert (accepted, refused) == (right, wrong)
