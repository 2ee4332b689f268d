"""Tokens per second of the watermark tests for 1, 10 and 50 keys, with transformers' detectors in the same run.

    python -m benchmarks.watermark_throughput --text ../shared/text --tokenizer gpt2/tokenizer.json

Text is the human rows of the Parquet files, one core. *Scoring* is all that comes after the tokenizer: deduplication,
look-ups, stretches, p-values. transformers' detectors score some documents one by one, as their documentation shows;
their time is without tokenization too. Without ``--tokenizer``, one is trained on the text.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pyarrow.parquet as pq
import yaml

from watermark.registry import load_registry
from watermark.scan import Scanner
from watermark.tables import Tables
from watermark.tokens import Tokenizer, load_tokenizer

KEYS = (1, 10, 50)
SCHEMES: dict[str, tuple[str, str, dict[str, object]]] = {
    "kgw transformers lefthash": ("kgw", "transformers", {"seeding": "lefthash"}),
    "kgw lm-watermarking minhash": ("kgw", "lm-watermarking", {"seeding": "minhash"}),
    "kgw transformers selfhash": ("kgw", "transformers", {"seeding": "selfhash", "context_width": 4}),
    "unigram": ("unigram", "unigram", {}),
    "synthid transformers": ("synthid", "transformers", {}),
    "synthid deepmind": ("synthid", "deepmind", {}),
    "exponential three-bricks": ("exponential", "three-bricks", {"ngram": 4}),
    "exponential textseal": ("exponential", "textseal", {}),
}
# A microsecond and more for each token and key: fewer documents, and fewer keys at the most.
SLOW = {"kgw transformers selfhash", "synthid deepmind", "exponential three-bricks"}
DEPTH = 30
_BATCH = 2000  # documents


def texts_of(folder: Path, megabytes: float) -> list[str]:
    """Human texts, shuffled, up to so many megabytes."""
    texts: list[str] = []
    for path in sorted(folder.glob("*.parquet")):
        table = pq.read_table(path, columns=["text", "label"]).to_pylist()
        texts += [row["text"] for row in table if row["label"] == "human"]
    texts = sorted(set(texts))
    random.Random(1).shuffle(texts)
    sizes = np.cumsum([len(text.encode()) for text in texts])
    return texts[: int(np.searchsorted(sizes, megabytes * 1e6))]


def train_tokenizer(texts: list[str], path: Path) -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=32000, initial_alphabet=alphabet, show_progress=False)
    )
    made.save(str(path))


def scanner_of(name: str, keys: int, tokenizer: Path, vocab_size: int, folder: Path) -> Scanner:
    scheme, variant, parameters = SCHEMES[name]
    rng = random.Random(f"{name} {keys}")
    entries = []
    for number in range(keys):
        key: object = rng.getrandbits(40) | 1
        if scheme == "synthid":
            key = rng.sample(range(1 << 16), DEPTH)
        entry = {"id": f"k{number}", "scheme": scheme, "variant": variant, "key": key, "parameters": parameters}
        entries.append({**entry, "tokenizer": str(tokenizer.resolve()), "vocab_size": vocab_size})
    path = folder / "keys.yaml"
    path.write_text(yaml.safe_dump({"keys": entries}))
    return Scanner(load_registry(str(path)), Tables())


def measure(scanner: Scanner, encoded: list[tuple[np.ndarray, np.ndarray]]) -> float:
    """Seconds of scoring, once everything is warm."""
    (family,) = scanner.families
    tokens, offsets = encoded[0]
    small = offsets[: min(len(offsets), 50)]
    for group in family.groups:
        group.test(tokens[: small[-1]], small)
    begin = time.perf_counter()
    for tokens, offsets in encoded:
        for group in family.groups:
            group.test(tokens, offsets)
    return time.perf_counter() - begin


def published(name: str, tokens: list[np.ndarray], vocab_size: int) -> float:
    """Tokens per second of transformers' own detector."""
    import torch
    from transformers import GPT2Config, SynthIDTextWatermarkLogitsProcessor, WatermarkDetector, WatermarkingConfig

    torch.set_num_threads(1)
    inputs = [torch.as_tensor(row[None].astype(np.int64)) for row in tokens]
    if name == "synthid transformers":
        keys = list(range(1, DEPTH + 1))
        processor = SynthIDTextWatermarkLogitsProcessor(
            ngram_len=5, keys=keys, sampling_table_size=1 << 16, sampling_table_seed=0, context_history_size=1024,
            device=torch.device("cpu"),
        )  # fmt: skip
        begin = time.perf_counter()
        for row in inputs:
            processor.compute_g_values(row).float().mean()
            processor.compute_context_repetition_mask(row)
        return sum(map(len, tokens)) / (time.perf_counter() - begin)
    how = {"seeding_scheme": "selfhash", "context_width": 4} if "selfhash" in name else {"seeding_scheme": "lefthash"}
    config = WatermarkingConfig(greenlist_ratio=0.25, **how)
    detector = WatermarkDetector(GPT2Config(vocab_size=vocab_size, bos_token_id=vocab_size - 1), "cpu", config)
    begin = time.perf_counter()
    for row in inputs:
        detector(row)
    return sum(map(len, tokens)) / (time.perf_counter() - begin)


def tokenize(tokenizer: Tokenizer, texts: list[str]) -> tuple[list[tuple[np.ndarray, np.ndarray]], float]:
    begin = time.perf_counter()
    encoded = [tokenizer.encode(texts[at : at + _BATCH]) for at in range(0, len(texts), _BATCH)]
    return encoded, time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--tokenizer", type=Path)
    parser.add_argument("--megabytes", type=float, default=20.0)
    parser.add_argument("--slow-megabytes", type=float, default=0.5)
    parser.add_argument("--published-documents", type=int, default=20)
    options = parser.parse_args()
    os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[0]})
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        texts = texts_of(options.text, options.megabytes)
        path = options.tokenizer or folder / "tokenizer.json"
        if options.tokenizer is None:
            train_tokenizer(texts, path)
        tokenizer = load_tokenizer(str(path))
        vocab_size = tokenizer.size
        encoded, seconds = tokenize(tokenizer, texts)
        size = sum(len(text.encode()) for text in texts)
        tokens = sum(len(part) for part, _ in encoded)
        print(f"{len(texts):,} texts, {size / 1e6:.1f} MB, {tokens / 1e6:.2f} M tokens, vocabulary {vocab_size:,}")
        print(f"tokenizer: {seconds:.1f} s, {size / seconds / 1e6:.2f} MB/s, {tokens / seconds / 1e6:.2f} M tokens/s\n")
        some = max(1, int(np.searchsorted(np.cumsum([len(t.encode()) for t in texts]), options.slow_megabytes * 1e6)))
        few, few_seconds = tokenize(tokenizer, texts[:some])
        rows = [np.asarray(part) for part in np.split(few[0][0], few[0][1][1:-1])]
        rows = [row for row in rows if len(row) > 20][: options.published_documents]
        print(f"{'scheme':<28}{'keys':>5}{'scoring M tokens/s':>20}{'whole MB/s':>12}{'tokenizer':>11}{'ratio':>7}")
        for scheme in SCHEMES:
            slow = scheme in SLOW
            part, spent = (few, few_seconds) if slow else (encoded, seconds)
            count = sum(len(ids) for ids, _ in part)
            megabytes = sum(len(text.encode()) for text in (texts[:some] if slow else texts)) / 1e6
            first = 0.0
            for keys in KEYS:
                took = measure(scanner_of(scheme, keys, path, vocab_size, folder), part)
                whole = spent + took
                first = first or whole
                print(
                    f"{scheme:<28}{keys:>5}{count / took / 1e6:>20.2f}{megabytes / whole:>12.2f}"
                    f"{100 * spent / whole:>9.0f} %{whole / first:>7.2f}",
                    flush=True,
                )
            if scheme in ("kgw transformers lefthash", "kgw transformers selfhash", "synthid transformers"):
                speed = published(scheme, rows, vocab_size)
                print(f"{'  transformers itself':<28}{1:>5}{speed / 1e6:>20.4f}", flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"\nratio: tokenizer and scoring, against one key of the scheme. Peak memory {peak:,.0f} MB.")


if __name__ == "__main__":
    main()
