"""Trains a small causal language model and its tokenizer on human English text, for benchmarks that generate text.

    python -m benchmarks.local_model --text ../shared/text --output DIR            # about 10 minutes on two cores
    python -m benchmarks.local_model --text ../shared/text --output DIR --steps 50 # a quick look

A byte-level BPE and a decoder of the Llama kind are trained from nothing on the rows with ``label == "human"`` and
``language == "en"`` of the Parquet files of a folder; one document in fifty is held out. The embeddings start from a
factorisation of how often each pair of tokens occurs: the loss begins at 6.6 nats a token instead of 9.7. The model
writes English-like word salad: good enough for measuring how well a watermark is found, since what decides that is the
entropy of the next token. ``training.json`` records that entropy beside the loss; it is higher than that of a large
model, so generate at a temperature below 1 to come near one. The same seed, steps and threads give the same model.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow.dataset as ds
import torch
from scipy import sparse
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

END = "<|endoftext|>"
_HELD_OUT = 50  # one document in so many
_PEAK, _WARM_UP, _FLOOR = 3e-3, 60, 0.05  # learning rate, steps up to it, share of it that is left at the end
_CONSTANT = 10.0  # some times the usual length of a token's factor

Ids = npt.NDArray[np.int32]
Matrix = npt.NDArray[np.float64]


class Shape(NamedTuple):
    """How large the tokenizer and the model are; ``length`` is the longest text in tokens, and that trained on."""

    vocabulary: int = 16_384
    width: int = 192
    layers: int = 4
    heads: int = 6
    length: int = 1024


def human_texts(folder: Path) -> tuple[list[str], list[str]]:
    """The human English texts of the Parquet files in a folder, each once: (to train on, held out), in a fixed order.

    The hash of a text decides on which side it falls and where it stands, so that every reader splits alike.
    """
    human = (ds.field("label") == "human") & (ds.field("language") == "en")
    column = ds.dataset(folder, format="parquet").to_table(columns=["text"], filter=human)["text"]
    by_hash = {hashlib.sha256(text.encode()).digest(): text for text in column.to_pylist() if text.strip()}
    if not by_hash:
        raise ValueError(f"{folder} holds no row with label 'human' and language 'en'")
    sides: tuple[list[str], list[str]] = ([], [])
    for digest in sorted(by_hash):
        sides[int.from_bytes(digest[-4:], "big") % _HELD_OUT == 0].append(by_hash[digest])
    return sides


def train_tokenizer(texts: Iterable[str], vocabulary: int, whole: bool = True) -> PreTrainedTokenizerFast:
    """A byte-level BPE of at most ``vocabulary`` tokens; token 0 ends and pads a text.

    ``whole``: the alphabet is all 256 bytes, so that any text can be written; else only what occurs.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet() if whole else []
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=[END], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=END, eos_token=END, pad_token=END)


def new_model(shape: Shape, seed: int = 0) -> LlamaForCausalLM:
    """A model with random weights."""
    config = LlamaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.width,
        intermediate_size=shape.width * 8 // 3 // 32 * 32,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        max_position_embeddings=shape.length,
        initializer_range=0.02,
        tie_word_embeddings=False,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config)


def pair_factors(ids: Ids, vocabulary: int, rank: int, seed: int) -> tuple[Matrix, Matrix, Matrix]:
    """Factors U, W of the positive pointwise mutual information of neighbouring tokens, and the tokens' log-frequency.

    U W^T comes near log P(b after a) / P(b) where that is positive; float64[v, rank] twice, and float64[v]. Half a
    count is taken off each pair, since most pairs that occur once are chance. The factorisation is a randomised one
    (Halko, Martinsson and Tropp 2011, algorithm 4.4).
    """
    ones = np.ones(len(ids) - 1)
    pairs = sparse.coo_matrix((ones, (ids[:-1], ids[1:])), shape=(vocabulary, vocabulary)).tocsr().tocoo()
    counts = np.bincount(ids, minlength=vocabulary) + 1.0
    information = np.log((pairs.data - 0.5) * len(ids) / (counts[pairs.row] * counts[pairs.col]))
    matrix = sparse.csr_matrix((np.maximum(information, 0.0), (pairs.row, pairs.col)), shape=pairs.shape)
    turned = matrix.T.tocsr()
    basis = np.random.default_rng(seed).standard_normal((vocabulary, rank + 10))
    for _ in range(3):
        basis = np.linalg.qr(matrix @ basis)[0]
        basis = np.linalg.qr(turned @ basis)[0]
    left, values, right = np.linalg.svd(matrix @ basis, full_matrices=False)
    root = np.sqrt(values[:rank])
    return left[:, :rank] * root, (basis @ right.T)[:, :rank] * root, np.log(counts / counts.sum())


@torch.no_grad()
def start_from_pairs(model: LlamaForCausalLM, ids: Ids, seed: int) -> None:
    """Sets the embeddings so that the model begins as a bigram model, with layers that add nothing yet.

    One dimension of the input is constant: it carries the tokens' frequencies, and, being large, makes the last
    normalisation divide every position by nearly the same number.
    """
    vocabulary, width = model.model.embed_tokens.weight.shape
    left, right, frequency = pair_factors(ids, vocabulary, width - 1, seed)
    first = np.full((vocabulary, 1), _CONSTANT)
    model.model.embed_tokens.weight.copy_(torch.from_numpy(np.hstack([first, left])))
    last = np.hstack([frequency[:, None], right * _CONSTANT]) / math.sqrt(width)
    model.lm_head.weight.copy_(torch.from_numpy(last))
    for layer in model.model.layers:
        layer.self_attn.o_proj.weight.zero_()
        layer.mlp.down_proj.weight.zero_()
        layer.input_layernorm.weight[0] = layer.post_attention_layernorm.weight[0] = 1 / _CONSTANT


def token_ids(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> Ids:
    """The texts one after the other, each with the end token after it."""
    encoded = tokenizer.backend_tokenizer.encode_batch(list(texts), add_special_tokens=False)
    end = [tokenizer.eos_token_id]
    return np.concatenate([np.array(text.ids + end, np.int32) for text in encoded])


def stretches(ids: Ids, length: int, rows: int, seed: int) -> Iterator[torch.Tensor]:
    """int64[rows, length]: stretches of the ids without end, each round in a new order and with a new offset."""
    random = np.random.default_rng(seed)
    while True:
        start = int(random.integers(length))
        cut = ids[start : start + (len(ids) - start) // length * length].reshape(-1, length)
        order = random.permutation(len(cut))
        for first in range(0, len(order) - rows + 1, rows):
            yield torch.from_numpy(cut[order[first : first + rows]].astype(np.int64))


def rate(step: int, steps: int) -> float:
    """The learning rate: up in a straight line, then down along a cosine."""
    if step < _WARM_UP:
        return _PEAK * (step + 1) / _WARM_UP
    done = (step - _WARM_UP) / max(1, steps - _WARM_UP)
    return _PEAK * (_FLOOR + (1 - _FLOOR) * (1 + math.cos(math.pi * done)) / 2)


def train(model: LlamaForCausalLM, ids: Ids, length: int, steps: int, rows: int, seed: int, report: int = 50) -> None:
    """AdamW on ``rows`` × ``length`` tokens a step; prints the mean loss (nats a token) of every ``report`` steps."""
    flat = [p for p in model.parameters() if p.ndim < 2]
    full = [p for p in model.parameters() if p.ndim >= 2]
    groups: list[dict[str, Any]] = [{"params": full, "weight_decay": 0.1}, {"params": flat, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=_PEAK, betas=(0.9, 0.95))
    model.train()
    began, total = time.monotonic(), 0.0
    for step, batch in zip(range(steps), stretches(ids, length, rows, seed), strict=False):
        for group in optimizer.param_groups:
            group["lr"] = rate(step, steps)
        loss = model(input_ids=batch, labels=batch).loss
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        total += loss.item()
        if (step + 1) % report == 0:
            print(f"step {step + 1}: loss {total / report:.3f}, {time.monotonic() - began:.0f} s", flush=True)
            total = 0.0
    model.eval()


class Quality(NamedTuple):
    """Means over held-out tokens, in nats a token."""

    loss: float
    entropy: float  # of the model's own next-token distribution at temperature 1
    tokens: int


@torch.no_grad()
def measure(model: LlamaForCausalLM, ids: Ids, length: int, limit: int = 100_000) -> Quality:
    """Loss and entropy on stretches of ``length`` tokens, ``limit`` tokens at most."""
    count = min(len(ids), limit) // length
    loss = entropy = 0.0
    for row in ids[: count * length].reshape(count, length):
        batch = torch.from_numpy(row.astype(np.int64))[None]
        log_p = torch.log_softmax(model(input_ids=batch).logits[0, :-1], dim=-1)
        loss -= log_p.gather(1, batch[0, 1:, None]).sum().item()
        entropy -= (log_p.exp() * log_p).sum().item()
    tokens = count * (length - 1)
    return Quality(loss / tokens, entropy / tokens, tokens)


def example(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, prompt: str, temperature: float) -> str:
    """The prompt and sixty tokens that the model puts after it."""
    encoded = tokenizer(prompt, return_tensors="pt")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        out = model.generate(
            input_ids=encoded["input_ids"],
            attention_mask=encoded["attention_mask"],
            do_sample=True,
            temperature=temperature,
            top_k=0,
            max_new_tokens=60,
        )
    return str(tokenizer.decode(out[0], skip_special_tokens=True))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path, required=True, help="folder of Parquet files with text, label, language")
    parser.add_argument("--output", type=Path, required=True, help="folder for model, tokenizer and training.json")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--rows", type=int, default=2, help="texts of 1024 tokens to a step")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    os.environ["TOKENIZERS_PARALLELISM"] = "true" if options.threads > 1 else "false"

    began = time.monotonic()
    shape = Shape()
    texts, held_out = human_texts(options.text)
    tokenizer = train_tokenizer(texts, shape.vocabulary)
    ids = token_ids(tokenizer, texts)
    model = new_model(shape, options.seed)
    print(f"{len(texts)} texts, {len(ids)} tokens, {model.num_parameters()} parameters", flush=True)
    start_from_pairs(model, ids, options.seed)
    train(model, ids, shape.length, options.steps, options.rows, options.seed)
    quality = measure(model, token_ids(tokenizer, held_out), shape.length)
    options.output.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(options.output)
    tokenizer.save_pretrained(options.output)
    record = {
        "steps": options.steps,
        "rows": options.rows,
        "seed": options.seed,
        "parameters": model.num_parameters(),
        "seconds": round(time.monotonic() - began),
        "torch": torch.__version__,
        **shape._asdict(),
        "held_out": {"loss": round(quality.loss, 4), "entropy": round(quality.entropy, 4), "tokens": quality.tokens},
    }
    (options.output / "training.json").write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(record))
    for temperature in (1.0, 0.7):
        print(f"temperature {temperature}:", example(model, tokenizer, "The history of the city", temperature))


if __name__ == "__main__":
    main()
