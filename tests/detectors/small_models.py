"""Small models with random weights for the tests of model detectors; needs the ``torch`` extra.

Files that import this call ``pytest.importorskip("torch")`` first.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPT2ForSequenceClassification,
    GPT2LMHeadModel,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from benchmarks.local_model import Shape, new_model, train_tokenizer
from tests.watermark.models import english

VOCABULARY = 400
torch.set_num_threads(1)  # as a worker has; with more, tests that run side by side wait for each other
_ENDS = {"bos_token_id": 0, "eos_token_id": 0}


@cache
def tokenizer() -> PreTrainedTokenizerFast:
    made = train_tokenizer(english(), VOCABULARY)
    made.model_max_length = 512
    return made


def llama(folder: Path, seed: int) -> str:
    """A decoder whose next-token distribution is far from uniform, so that scores differ from text to text."""
    model = new_model(Shape(vocabulary=VOCABULARY, width=32, layers=1, heads=2, length=128), seed)
    return _save(_sharper(model, seed), folder)


def gpt2(folder: Path, seed: int, vocabulary: int = VOCABULARY) -> str:
    config = GPT2Config(vocab_size=vocabulary, n_embd=32, n_layer=1, n_head=2, n_positions=128, **_ENDS)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _save(_sharper(GPT2LMHeadModel(config), seed), folder)


def roberta(folder: Path, labels: dict[int, str], seed: int = 0, **more: object) -> str:
    config = RobertaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=66,
        pad_token_id=1,
        id2label=labels,
        label2id={name: index for index, name in labels.items()},
        **more,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _save(_sharper(RobertaForSequenceClassification(config), seed), folder)


def gpt2_classifier(folder: Path, padding: int | None) -> str:
    config = GPT2Config(
        vocab_size=VOCABULARY, n_embd=32, n_layer=1, n_head=2, n_positions=128, pad_token_id=padding, **_ENDS,
        id2label={0: "human", 1: "machine"}, label2id={"human": 0, "machine": 1},
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return _save(_sharper(GPT2ForSequenceClassification(config), 0), folder)


def _sharper(model: torch.nn.Module, seed: int) -> torch.nn.Module:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weights in model.parameters():
            if weights.ndim == 2:
                weights.copy_(torch.randn(weights.shape, generator=generator) * 0.3)
    return model


def _save(model: torch.nn.Module, folder: Path) -> str:
    model.eval().save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return str(folder)


def sampled(folder: str, texts: int, tokens: int, seed: int) -> list[list[int]]:
    """Tokens that a model wrote at temperature 1, after a random first one."""
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    with torch.random.fork_rng(devices=[]), torch.inference_mode():
        torch.manual_seed(seed)
        first = torch.randint(1, VOCABULARY, (texts, 1))
        out = model.generate(
            first, attention_mask=torch.ones_like(first), do_sample=True, top_k=0, max_new_tokens=tokens,
            min_new_tokens=tokens, pad_token_id=0,
        )  # fmt: skip
    return [[int(token) for token in row] for row in out]


def write_sets(folder: Path, human: list[list[str]], machine: list[list[str]]) -> Path:
    """One Parquet set for each pair of lists."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, (one, other) in enumerate(zip(human, machine, strict=True)):
        columns = {
            "text": one + other,
            "label": ["human"] * len(one) + ["machine"] * len(other),
            "language": ["en"] * (len(one) + len(other)),
        }
        pq.write_table(pa.table(columns), folder / f"set{number}.parquet")
    return folder
