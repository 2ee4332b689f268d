"""Models of `transformers` for detectors: loading, tokens, batches and the digest. Needs the ``torch`` extra.

    options = ModelOptions(max_tokens=512)
    model = load_model("/models/gpt2", "causal", options)
    rows = token_rows(load_tokenizer("/models/gpt2"), texts, limit=512)
    for numbers in batches([len(row) for row in rows], budget=4096):
        logits = model.forward([rows[number] for number in numbers])

Nothing is imported from torch or transformers before the first call. A model is a folder, or a name on the hub that
`transformers` resolves; code that comes with a model is never run.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

_WEIGHTS = (".safetensors", ".bin", ".pt")
_DESCRIPTIONS = (".json", ".txt", ".model", ".tiktoken")  # configuration, vocabularies, merges
_CHARACTERS_A_TOKEN = 32  # a text is cut to so many characters for each token of the limit before it is tokenised
_ALONE = 1  # a budget under which every text is a batch of its own
_ACCELERATOR_TOKENS = 16_384


@dataclass(frozen=True)
class ModelOptions:
    """How a model reads texts.

    Attributes:
        max_tokens: tokens that are read of a text; less where the model's context is shorter. None: the whole context.
        minimum_tokens: a text of fewer tokens is too short.
        device: ``auto`` takes CUDA, then Apple's GPU, then the CPU; or any name that torch knows.
        dtype: ``float32``, ``float16`` or ``bfloat16`` of the weights; ``auto`` takes bfloat16 or float16 on an
            accelerator and float32 on a CPU.
        batch_tokens: most tokens of a batch, padding included. None: 16,384 on an accelerator, and on a CPU each text
            alone, which costs little there and makes a score independent of the texts beside it to the last bit.
    """

    max_tokens: int | None = 512
    minimum_tokens: int = 64
    device: str = "auto"
    dtype: str = "auto"
    batch_tokens: int | None = None

    def __post_init__(self) -> None:
        if self.minimum_tokens < 2:
            raise ValueError(f"minimum_tokens is {self.minimum_tokens}; a score needs 2 tokens at least")
        if self.max_tokens is not None and self.max_tokens < self.minimum_tokens:
            raise ValueError(f"max_tokens {self.max_tokens} is less than minimum_tokens {self.minimum_tokens}")
        if self.dtype not in ("auto", "float32", "float16", "bfloat16"):
            raise ValueError(f"dtype {self.dtype!r} is none of auto, float32, float16, bfloat16")
        if self.batch_tokens is not None and self.batch_tokens < 1:
            raise ValueError(f"batch_tokens is {self.batch_tokens}; it is 1 at least")

    def resolved(self) -> ModelOptions:
        """The same with the data type that ``auto`` means on this machine. The device stays open."""
        dtype = default_dtype(pick_device(self.device)) if self.dtype == "auto" else self.dtype
        return ModelOptions(self.max_tokens, self.minimum_tokens, self.device, dtype, self.batch_tokens)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ModelOptions:
        """The inverse of :meth:`to_dict`. Raises TypeError for an unknown key, ValueError for a wrong value."""
        return cls(**data)


class Model(NamedTuple):
    """A loaded model."""

    module: Any  # the torch module, in eval mode
    device: str
    context: int | None  # tokens that it can read; None where nothing says so
    budget: int  # tokens of a batch

    def forward(self, rows: Sequence[Sequence[int]], padding: int = 0) -> Any:
        """The logits of some texts, padded on the right; the padding is masked.

        A tensor [text, position, vocabulary] of a causal model, [text, label] of a classifier, in the model's type.
        """
        torch = need_torch()
        longest = max(map(len, rows))
        ids = torch.full((len(rows), longest), padding, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for number, row in enumerate(rows):
            ids[number, : len(row)] = torch.tensor(row)
            mask[number, : len(row)] = 1
        more = {} if self.module.config.is_encoder_decoder else {"use_cache": False}
        with torch.inference_mode():
            out = self.module(input_ids=ids.to(self.device), attention_mask=mask.to(self.device), **more)
        return out.logits


def need_torch() -> Any:
    """The module torch. Raises ImportError that names the extra where torch or transformers is missing."""
    try:
        import torch
        import transformers
    except ImportError as error:
        raise ImportError("this detector needs torch and transformers: pip install 'human-reserve[torch]'") from error
    transformers.utils.logging.disable_progress_bar()
    return torch


def pick_device(device: str) -> str:
    """The device that ``auto`` means; any other name as it is."""
    if device != "auto":
        return device
    torch = need_torch()
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def default_dtype(device: str) -> str:
    """``float32`` on a CPU, else ``bfloat16`` where the device has it, else ``float16``."""
    if device == "cpu":
        return "float32"
    whole_range = device.startswith("cuda") and need_torch().cuda.is_bf16_supported(including_emulation=False)
    return "bfloat16" if whole_range else "float16"


def load_model(name: str, kind: str, options: ModelOptions) -> Model:
    """Loads a model of the kind ``causal`` or ``classifier``.

    Raises FileNotFoundError where there is none of that name, ImportError without the ``torch`` extra.
    """
    torch = need_torch()
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    device = pick_device(options.device)
    dtype = getattr(torch, default_dtype(device) if options.dtype == "auto" else options.dtype)
    auto = AutoModelForCausalLM if kind == "causal" else AutoModelForSequenceClassification
    with _named(name):
        module = auto.from_pretrained(name, dtype=dtype).to(device).eval()
    budget = options.batch_tokens or (_ALONE if device == "cpu" else _ACCELERATOR_TOKENS)
    return Model(module, device, _context(module), budget)


def _context(module: Any) -> int | None:
    # RoBERTa and its kin number positions from the padding token on; their configuration counts those too.
    for name, part in module.named_modules():
        if name.endswith("position_embeddings") and getattr(part, "padding_idx", None) is not None:
            return int(part.num_embeddings - part.padding_idx - 1)
    known = getattr(module.config.get_text_config(), "max_position_embeddings", None)
    return int(known) if known and known > 0 else None


def load_tokenizer(name: str) -> Any:
    """The tokenizer of a model. Raises FileNotFoundError where there is none."""
    need_torch()
    from transformers import AutoTokenizer

    with _named(name):
        return AutoTokenizer.from_pretrained(name)


@contextlib.contextmanager
def _named(name: str) -> Iterator[None]:
    """Turns the errors with which `transformers` says that a model is missing into one that says what to do."""
    try:
        yield
    except OSError as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise FileNotFoundError(
            f"no model {name!r}: neither a folder that transformers saved nor a name on the hub"
            f" that this machine has or can fetch ({first})"
        ) from error


def check_ids(tokenizer: Any, model: Model, name: str) -> None:
    """Raises ValueError where the tokenizer knows tokens that the model does not."""
    room = model.module.get_input_embeddings().num_embeddings
    highest = max(tokenizer.get_vocab().values())
    if highest >= room:
        raise ValueError(
            f"the tokenizer has token {highest}, the model {name} only {room}: they do not belong together"
        )


def token_rows(tokenizer: Any, texts: Sequence[str], limit: int | None) -> list[list[int]]:
    """The tokens of each text, special ones as the tokenizer adds them, cut at ``limit`` tokens.

    Of a long text only the beginning is tokenised, unless that gives too few tokens.
    """
    if not texts:
        return []
    texts = [text.encode("utf-8", "replace").decode() for text in texts]  # a lone surrogate is no character
    if limit is None:
        return [list(row) for row in tokenizer(texts)["input_ids"]]
    characters = _CHARACTERS_A_TOKEN * limit
    rows = _cut([text[:characters] for text in texts], tokenizer, limit)
    for number, text in enumerate(texts):
        if len(text) > characters and len(rows[number]) < limit:
            rows[number] = _cut([text], tokenizer, limit)[0]
    return rows


def _cut(texts: list[str], tokenizer: Any, limit: int) -> list[list[int]]:
    return [list(row) for row in tokenizer(texts, truncation=True, max_length=limit)["input_ids"]]


def token_limit(tokenizer: Any, options: ModelOptions, *contexts: int | None) -> int | None:
    """The tokens that can be read of a text: the least of the option, the tokenizer's own limit and the contexts."""
    # Tokenizers without a limit say 10^30.
    own = tokenizer.model_max_length if tokenizer.model_max_length < 10**9 else None
    known = [number for number in (options.max_tokens, own, *contexts) if number]
    return min(known) if known else None


def batches(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Batches of indices, by length, each with at most ``budget`` tokens with padding, or one text.

    The longest come first: where memory does not suffice, that shows at once.
    """
    batch: list[int] = []
    for number in sorted(range(len(lengths)), key=lambda number: (-lengths[number], number)):
        if batch and (len(batch) + 1) * lengths[batch[0]] > budget:
            yield batch
            batch = []
        batch.append(number)
    if batch:
        yield batch


def model_digest(name: str) -> str:
    """SHA-256 (hex) over the names and contents of a model's files, its tokenizer's among them.

    A folder's README, or another file that does not describe the model, does not count.
    """
    folder = _folder(name)
    found = sorted(file for file in folder.iterdir() if file.suffix in (*_WEIGHTS, *_DESCRIPTIONS) and file.is_file())
    whole = hashlib.sha256()
    for file in found:
        status = file.stat()
        content = _file_digest(str(file.resolve()), status.st_size, status.st_mtime_ns)
        whole.update(file.name.encode() + b"\0" + content)
    return whole.hexdigest()


def _folder(name: str) -> Path:
    if Path(name).is_dir():
        return Path(name)
    need_torch()
    from transformers.utils import cached_file

    with _named(name):
        return Path(str(cached_file(name, "config.json"))).parent


@cache
def _file_digest(path: str, size: int, changed: int) -> bytes:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
