"""Which schemes there are: from a registry's words to a scheme's module and its key.

>>> variant = VARIANTS["kgw", "transformers"]
>>> variant.build(15485863, 50257, "cpu-mt19937", {"seeding": "lefthash"}).gamma
0.25
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

from watermark import exponential, kgw, synthid, synthid_sha256, textseal, unigram
from watermark.prf import PRFS
from watermark.windows import Scheme

Secret = int | tuple[int, ...]
RNGS = ("cpu-mt19937", "cuda-philox")
_PHILOX = "cuda-philox"


@dataclass(frozen=True)
class Variant:
    """One program's marks.

    Attributes:
        name: scheme and variant, as a registry writes them.
        module: the code that scores them.
        make: from the secret, the vocabulary's size, the generator and the parameters to the module's key.
        parameters: the names that a registry may give.
        about: one line for people.
    """

    name: tuple[str, str]
    module: str
    make: Callable[..., Any] = field(repr=False)
    parameters: tuple[str, ...]
    about: str

    @property
    def scheme(self) -> Scheme:
        """The module's functions."""
        return cast(Scheme, _MODULES[self.module])

    def build(self, secret: Secret, vocab_size: int, rng: str, parameters: Mapping[str, Any]) -> Any:
        """The key, ready to score with.

        Raises ValueError or TypeError that names the parameter, without the secret.
        """
        unknown = sorted(set(parameters) - set(self.parameters))
        if unknown:
            known = ", ".join(self.parameters) or "none"
            raise ValueError(f"parameters: {unknown[0]}: not one of {' '.join(self.name)}, which takes {known}")
        if rng not in RNGS:
            raise ValueError(f"rng: {rng!r}; known are {', '.join(RNGS)}")
        return self.make(secret, vocab_size, rng, dict(parameters))


def _one(secret: Secret) -> int:
    if not isinstance(secret, int):
        raise ValueError(f"key: {len(secret)} numbers given, this scheme's key is one")
    return secret


def _cpu_only(rng: str) -> None:
    if rng == _PHILOX:
        raise ValueError(
            "rng: cuda-philox draws other green lists and numbers than cpu-mt19937, which cannot be reproduced without "
            "a CUDA device; mark with the model's generator on the CPU, or leave this key out"
        )


def _kgw_transformers(secret: Secret, vocab_size: int, rng: str, parameters: dict[str, Any]) -> kgw.Key:
    _cpu_only(rng)
    return kgw.Key(_one(secret), vocab_size, variant="transformers", **parameters)


def _kgw_authors(secret: Secret, vocab_size: int, rng: str, parameters: dict[str, Any]) -> kgw.Key:
    _cpu_only(rng)
    seeding = str(parameters.pop("seeding", "selfhash"))
    if seeding in PRFS:
        return kgw.Key(_one(secret), vocab_size, variant="lm-watermarking", seeding=seeding, **parameters)
    named = kgw.named_key(seeding, vocab_size, key=_one(secret))
    if conflict := sorted({"context_width", "self_salt"} & set(parameters)):
        raise ValueError(
            f"parameters: {conflict[0]}: {seeding} has its own; name a function such as minhash_prf instead"
        )
    return replace(named, **parameters)


def _unigram(secret: Secret, vocab_size: int, rng: str, parameters: dict[str, Any]) -> unigram.Key:
    del rng  # numpy's generator, on any device
    return unigram.Key(_one(secret), vocab_size, **parameters)


def _synthid_table(secret: Secret, vocab_size: int, rng: str, parameters: dict[str, Any]) -> synthid.Key:
    generator: Any = "philox" if rng == _PHILOX else "mt19937"
    return synthid.Key(_several(secret), vocab_size, generator=generator, **parameters)


def _synthid_sha256(secret: Secret, vocab_size: int, rng: str, parameters: dict[str, Any]) -> synthid_sha256.Key:
    del rng  # no generator: hashes only
    return synthid_sha256.Key(_several(secret), vocab_size, **parameters)


def _three_bricks(secret: Secret, vocab_size: int, rng: str, parameters: dict[str, Any]) -> exponential.Key:
    _cpu_only(rng)
    return exponential.Key(vocab_size, _one(secret), **parameters)


def _textseal(secret: Secret, vocab_size: int, rng: str, parameters: dict[str, Any]) -> textseal.Key:
    del rng  # no generator: hashes only
    return textseal.Key(vocab_size, _one(secret), **parameters)


def _several(secret: Secret) -> tuple[int, ...]:
    if isinstance(secret, int):
        raise ValueError("key: one number given, a SynthID key is a list with a number for each depth")
    return secret


_MODULES = {
    "kgw": kgw,
    "unigram": unigram,
    "synthid": synthid,
    "synthid_sha256": synthid_sha256,
    "exponential": exponential,
    "textseal": textseal,
}
_KGW = ("seeding", "gamma", "context_width")
_SYNTHID = ("ngram_len", "context_history_size", "statistic")

VARIANTS: Mapping[tuple[str, str], Variant] = {
    variant.name: variant
    for variant in (
        Variant(("kgw", "transformers"), "kgw", _kgw_transformers, _KGW, "green lists of transformers"),
        Variant(
            ("kgw", "lm-watermarking"),
            "kgw",
            _kgw_authors,
            (*_KGW, "self_salt", "green_last"),
            "green lists of the authors' program",
        ),
        Variant(("unigram", "unigram"), "unigram", _unigram, ("gamma",), "one green list for all text"),
        Variant(
            ("synthid", "transformers"),
            "synthid",
            _synthid_table,
            (*_SYNTHID, "sampling_table_size", "sampling_table_seed", "generator_threads"),
            "SynthID-Text of transformers, by a table",
        ),
        Variant(("synthid", "deepmind"), "synthid_sha256", _synthid_sha256, _SYNTHID, "SynthID-Text by SHA-256"),
        Variant(
            ("exponential", "three-bricks"), "exponential", _three_bricks, ("ngram", "payload", "salt"), "Gumbel marks"
        ),
        Variant(
            ("exponential", "textseal"), "textseal", _textseal, ("ngram", "statistic", "gamma"), "marks of textseal"
        ),
    )
}
