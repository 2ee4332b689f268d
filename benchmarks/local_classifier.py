"""Trains a small sequence classifier for the benchmarks of cascades, and sets aside text that it has not seen.

    python -m benchmarks.local_classifier --text ../shared/text --output DIR --minutes 10

A byte-level BPE and an encoder of the ModernBERT kind, which averages over the tokens, are trained from nothing on the
texts that the embedded detector was trained on. What that one left out as its test split is halved by group, and
written as Parquet sets: ``DIR/calibration`` to calibrate the classifier on, ``DIR/cascade`` to choose and measure a
cascade on. ``DIR/model`` is the classifier. No pre-training went into it: it stands for a large detector in being slow
and in knowing its sets, not in what it makes of others.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from transformers import ModernBertConfig, ModernBertForSequenceClassification, PreTrainedTokenizerFast

from benchmarks.local_model import train_tokenizer
from detectors.calibration import balanced_weights
from detectors.cascade_fitting import unseen
from detectors.corpus import Corpus, components, read_corpus, split
from detectors.embedded import Embedded

_LENGTH, _RATE, _WARM_UP = 256, 1e-3, 100
_TOKENS = 4096  # of a batch


def write_sets(corpus: Corpus, rows: np.ndarray, folder: Path) -> None:
    """The rows as one Parquet file a set."""
    folder.mkdir(parents=True, exist_ok=True)
    part = corpus.take(rows)
    for name in np.unique(part.sets):
        one = part.take(np.flatnonzero(part.sets == name))
        columns = {
            "text": one.texts,
            "label": np.where(one.machine, "machine", "human"),
            "group": one.groups,
            "language": one.languages,
            "domain": one.domains,
            "generator": one.generators,
            "attack": one.attacks,
        }
        pq.write_table(pa.table(columns), folder / f"{name}.parquet")


def new_model(vocabulary: int) -> ModernBertForSequenceClassification:
    config = ModernBertConfig(
        vocab_size=vocabulary,
        hidden_size=192,
        num_hidden_layers=4,
        num_attention_heads=6,
        intermediate_size=288,
        max_position_embeddings=_LENGTH,
        local_attention=64,
        classifier_pooling="mean",
        pad_token_id=0,
        bos_token_id=0,
        eos_token_id=0,
        cls_token_id=0,
        sep_token_id=0,
        id2label={0: "human", 1: "machine"},
        label2id={"human": 0, "machine": 1},
    )
    torch.manual_seed(0)
    return ModernBertForSequenceClassification(config)


def drawn(
    corpus: Corpus, tokenizer: PreTrainedTokenizerFast
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Batches of random stretches of one length, both labels alike often and a set of n texts √n times in its label."""
    random = np.random.default_rng(0)
    weights = balanced_weights(corpus.machine, corpus.sets)
    weights /= weights.sum()
    while True:
        length = int(random.choice([_LENGTH // 4, _LENGTH // 2, _LENGTH]))
        rows = random.choice(len(corpus), _TOKENS // length, p=weights)
        ids = torch.zeros(len(rows), length, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for place, row in enumerate(rows):
            tokens = tokenizer(corpus.texts[row][:6000])["input_ids"]
            start = int(random.integers(0, max(1, len(tokens) - length)))
            tokens = tokens[start : start + length]
            ids[place, : len(tokens)] = torch.tensor(tokens, dtype=torch.long)
            mask[place, : len(tokens)] = 1
        yield ids, mask, torch.tensor(corpus.machine[rows].astype(np.int64))


def train(
    model: ModernBertForSequenceClassification, corpus: Corpus, tokenizer: PreTrainedTokenizerFast, minutes: float
) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=_RATE, weight_decay=0.01)
    model.train()
    began, total = time.monotonic(), 0.0
    for step, (ids, mask, labels) in enumerate(drawn(corpus, tokenizer)):
        done = (time.monotonic() - began) / 60 / minutes
        if done >= 1:
            break
        for group in optimizer.param_groups:
            group["lr"] = _RATE * min((step + 1) / _WARM_UP, 1 - done)
        loss = model(input_ids=ids, attention_mask=mask, labels=labels).loss
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        total += loss.item()
        if (step + 1) % 100 == 0:
            print(f"step {step + 1}: loss {total / 100:.3f}, {time.monotonic() - began:.0f} s", flush=True)
            total = 0.0
    model.eval()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path, required=True, help="folder of Parquet sets")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    corpus = read_corpus(options.text)
    new = unseen(corpus, Embedded())
    rest = np.flatnonzero(new)
    first = split(corpus.take(rest), components(corpus.take(rest)), 1, (0.5, 0.0)) == 0
    write_sets(corpus, rest[first], options.output / "calibration")
    write_sets(corpus, rest[~first], options.output / "cascade")
    known = corpus.take(np.flatnonzero(~new & (corpus.languages == "en") & (corpus.attacks != "human_llm_fusion")))
    tokenizer = train_tokenizer([text[:2000] for text in known.texts[::10]], 8192)
    tokenizer.model_max_length = _LENGTH
    model = new_model(len(tokenizer))
    print(f"{len(known)} texts to train on, {len(rest)} set aside, {model.num_parameters()} parameters", flush=True)
    train(model, known, tokenizer, options.minutes)
    model.save_pretrained(options.output / "model")
    tokenizer.save_pretrained(options.output / "model")


if __name__ == "__main__":
    main()
