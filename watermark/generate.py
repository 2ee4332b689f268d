"""Writes marked text with a causal language model of `transformers`; needs the ``torch`` extra.

    model, tokenizer = load_model("/models/llama")
    key = kgw.Key(key=15485863, vocab_size=128256, …)
    for text in mark(["The harbour", "In winter"], model, tokenizer, key, Options(max_new_tokens=400, seed=1)):
        print(text.text)

Variants that `transformers` has (KGW of the family ``transformers``, SynthID's table) go through its own
``generate(watermarking_config=…)``. The others are logits processors over the numpy functions that also score them, put
where the programs that published them stand: the bias of a green list before temperature, top-k and top-p
(lm-watermarking, Unigram), the tournament of SynthID and the exponential choice after them (synthid-text, three_bricks,
textseal). SynthID leaves a repeated context unmarked; so does the exponential choice here, since it would otherwise
write the same words in a circle (`Options.mark_repeats` does as the publishers do).

The model may be on any device, but **the device that draws random numbers is part of a key**: green lists and tables
come from a Mersenne Twister on a CPU, or from Philox on a CUDA device, and these differ. All that is here draws on the
CPU, whatever the model's device, unless the key says ``philox``; that needs a model on a CUDA device.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from watermark import exponential, kgw, synthid, synthid_sha256, textseal, unigram

try:
    import torch
    from transformers import (
        AutoModelForCausalLM,
        AutoTokenizer,
        LogitsProcessor,
        LogitsProcessorList,
        PreTrainedModel,
        PreTrainedTokenizerBase,
        SynthIDTextWatermarkingConfig,
        WatermarkingConfig,
    )
except ImportError as error:
    raise ImportError("marked text needs torch and transformers: pip install 'human-reserve[torch]'") from error

CANDIDATES = 41  # most likely tokens that a green list seeded by the token itself is made for, as in lm-watermarking

Key = kgw.Key | unigram.Key | synthid.Key | synthid_sha256.Key | exponential.Key | textseal.Key
Scores = npt.NDArray[np.float32]
Change = Callable[[int, npt.NDArray[np.int64], int, Scores], Scores]


@dataclass(frozen=True)
class Options:
    """How text is generated; the names are those of `transformers`' generate, where it has them.

    Attributes:
        max_new_tokens: tokens after the prompt at most.
        min_new_tokens: before as many the model cannot end the text.
        temperature: above 0; 1 samples from the model's own distribution.
        top_k: most likely tokens that are sampled from; 0 for all.
        top_p: probability of the most likely tokens that are sampled from; 1 for all.
        strength: what is added to the logits of green tokens (δ); of no meaning outside KGW and Unigram.
        seed: of the sampling, not of the marks; the same seed, prompts and batch give the same texts. The exponential
            choice samples only where a context comes again, so that a prompt's text begins alike under all seeds.
        batch: prompts that are continued at once.
        mark_repeats: whether the exponential choice marks a context that it has marked before in the same text.
    """

    max_new_tokens: int = 200
    min_new_tokens: int = 0
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    strength: float = 2.0
    seed: int = 0
    batch: int = 8
    mark_repeats: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.min_new_tokens <= self.max_new_tokens or self.max_new_tokens < 1:
            raise ValueError(
                f"min_new_tokens is {self.min_new_tokens} and max_new_tokens {self.max_new_tokens}; "
                "0 <= min_new_tokens <= max_new_tokens and max_new_tokens >= 1 are needed"
            )
        if not self.temperature > 0:
            raise ValueError(f"temperature is {self.temperature}; it must be above 0, since marks need a choice")
        if self.top_k < 0 or not 0 < self.top_p <= 1:
            raise ValueError(f"top_k is {self.top_k} and top_p {self.top_p}; top_k >= 0 and 0 < top_p <= 1 are needed")
        if self.batch < 1:
            raise ValueError(f"batch is {self.batch}; it must be 1 or more")


class Marked(NamedTuple):
    """What the model wrote after a prompt; ``tokens`` are as sampled, and ``text`` need not encode to the same ones."""

    text: str
    tokens: list[int]


def load_model(name: str | Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A causal language model and its tokenizer, from a folder or by their name on the hub.

    A folder is read without the network, and code that comes with a model is never run.

    Raises:
        FileNotFoundError: the path is absolute or starts with a dot, and there is no such folder.
        OSError: no such model can be had, or its files are not a model's.
    """
    local = Path(name).is_dir()
    if not local and (Path(name).is_absolute() or str(name).startswith(".") or isinstance(name, Path)):
        raise FileNotFoundError(f"model: there is no folder {name}")
    tokenizer = AutoTokenizer.from_pretrained(str(name), local_files_only=local)
    model = AutoModelForCausalLM.from_pretrained(str(name), local_files_only=local)
    return model.eval(), tokenizer


def mark(
    prompts: Sequence[str | Sequence[int]],
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    key: Key | None,
    options: Options | None = None,
) -> list[Marked]:
    """Continues each prompt with text that ``key`` marks.

    Args:
        prompts: texts, or token ids that are taken as they are.
        model: a causal language model.
        tokenizer: the model's tokenizer.
        key: parameters of a scheme; None for text without a mark, sampled in the same way.
        options: how to sample; the defaults of `Options` where None.

    Returns:
        One text a prompt, in their order, without the prompt and the end token.

    Raises:
        ValueError: a prompt is empty or leaves no room for the new tokens; the vocabulary of the key is not that of the
            model; the key asks for the generator of a device that the model is not on.
    """
    options = options or Options()
    ids = [_prompt(number, prompt, tokenizer) for number, prompt in enumerate(prompts)]
    _check(model, key, ids, options)
    marked: list[Marked] = []
    with torch.random.fork_rng(devices=[model.device] if model.device.type == "cuda" else []):
        torch.manual_seed(options.seed)
        for first in range(0, len(ids), options.batch):
            marked += _continue(ids[first : first + options.batch], model, tokenizer, key, options)
    return marked


def _prompt(number: int, prompt: str | Sequence[int], tokenizer: PreTrainedTokenizerBase) -> list[int]:
    ids = list(tokenizer(prompt)["input_ids"] if isinstance(prompt, str) else prompt)
    if not prompt or not ids:
        raise ValueError(f"prompt {number} is empty; at least one token to continue is needed")
    return ids


def _check(model: PreTrainedModel, key: Key | None, ids: Sequence[list[int]], options: Options) -> None:
    config = model.config.get_text_config()
    room = getattr(config, "max_position_embeddings", None)
    longest = max(map(len, ids), default=0)
    if room is not None and longest + options.max_new_tokens > room:
        raise ValueError(
            f"a prompt of {longest} tokens and max_new_tokens {options.max_new_tokens} are more than the model's {room}"
        )
    if any(not 0 <= token < config.vocab_size for prompt in ids for token in prompt):
        raise ValueError(f"a prompt has a token that is not among the model's {config.vocab_size}: another tokenizer?")
    if key is None:
        return
    size = key.vocab_size
    if size != config.vocab_size:
        raise ValueError(
            f"vocab_size of the key is {size}, the model's vocabulary has {config.vocab_size} tokens; "
            "marks depend on it, so they must be equal"
        )
    if _draws_on_cuda(key) and model.device.type != "cuda":
        raise ValueError(f"a key of a CUDA device's generator marks only there; the model is on {model.device.type}")


def _continue(
    ids: Sequence[list[int]],
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    key: Key | None,
    options: Options,
) -> list[Marked]:
    ends = model.generation_config.eos_token_id
    ends = [] if ends is None else [ends] if isinstance(ends, int) else list(ends)
    padding = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else (ends or [0])[0]
    longest = max(map(len, ids))
    padded = [[padding] * (longest - len(prompt)) + prompt for prompt in ids]
    mask = [[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in ids]
    out = model.generate(
        input_ids=torch.tensor(padded, device=model.device),
        attention_mask=torch.tensor(mask, device=model.device),
        do_sample=True,
        num_beams=1,
        temperature=options.temperature,
        top_k=options.top_k,
        top_p=options.top_p,
        max_new_tokens=options.max_new_tokens,
        min_new_tokens=options.min_new_tokens,
        pad_token_id=padding,
        **_watermark(key, options, [longest - len(prompt) for prompt in ids], longest, model.device.type),
    )
    tokens = [_before(row[longest:].tolist(), ends) for row in out]
    return [Marked(str(tokenizer.decode(row, skip_special_tokens=True)), row) for row in tokens]


def _before(tokens: list[int], ends: Sequence[int]) -> list[int]:
    """The tokens up to the first that ends a text."""
    return tokens[: next((place for place, token in enumerate(tokens) if token in ends), len(tokens))]


def _watermark(key: Key | None, options: Options, pads: Sequence[int], start: int, device: str) -> dict[str, Any]:
    """The arguments of generate that mark the text."""
    match key:
        case None:
            return {}
        case kgw.Key(variant="transformers"):
            config = WatermarkingConfig(
                greenlist_ratio=key.gamma,
                bias=options.strength,
                hashing_key=key.key,
                seeding_scheme=key.seeding,
                context_width=key.context_width,
            )
            return {"watermarking_config": config if device == "cpu" or _draws_on_cuda(key) else _on_cpu(config)}
        case synthid.Key():
            config = SynthIDTextWatermarkingConfig(
                ngram_len=key.ngram_len,
                keys=list(key.keys),
                context_history_size=key.context_history_size,
                sampling_table_seed=key.sampling_table_seed,
                sampling_table_size=key.sampling_table_size,
            )
            return {"watermarking_config": config if device == "cpu" or _draws_on_cuda(key) else _on_cpu(config)}
        case kgw.Key() | unigram.Key():
            change = _green(key, options.strength)
            return {"logits_processor": LogitsProcessorList([Rows(change, pads, start)])}
        case synthid_sha256.Key():
            return {"watermarking_config": _Last(lambda _: Rows(tournament(key), pads, start))}
        case textseal.Key(statistic="green"):
            return {"watermarking_config": _Last(lambda _: Rows(partial(_green_of_hash, key, options), pads, start))}
        case _:
            return {"watermarking_config": _Last(lambda _: Rows(exponential_choice(key, options), pads, start))}


def _draws_on_cuda(key: Key) -> bool:
    return getattr(key, "generator", "mt19937") == "philox"


class Rows(LogitsProcessor):  # type: ignore[misc]
    """Changes the scores of each text of a batch by a function of the text.

    Args:
        change: of the row's number in the batch, its tokens without padding, how many of them are generated, and its
            scores, float32[vocabulary], which it may change in place; gives the new scores.
        pads: for each row, how many tokens of padding stand before it.
        start: where in the rows the generated tokens begin.
    """

    def __init__(self, change: Change, pads: Sequence[int], start: int) -> None:
        self.change, self.pads, self.start = change, pads, start

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """The new scores, on the device and of the type of the old ones."""
        rows = input_ids.cpu().numpy()
        table = scores.float().cpu().numpy().copy()
        new = rows.shape[1] - self.start
        for row, pad in enumerate(self.pads):
            table[row] = self.change(row, rows[row, pad:], new, table[row])
        return torch.from_numpy(table).to(device=scores.device, dtype=scores.dtype)


def _green(key: kgw.Key | unigram.Key, strength: float) -> Change:
    """Adds ``strength`` to green tokens; a text shorter than the context is left alone."""
    if isinstance(key, unigram.Key):
        everywhere = np.float32(strength) * unigram.green_mask(key)
        return lambda row, tokens, new, scores: scores + everywhere
    return partial(_green_of_self if kgw.self_salted(key) else _green_of_context, key, strength)


def _green_of_context(
    key: kgw.Key, strength: float, row: int, tokens: npt.NDArray[np.int64], new: int, scores: Scores
) -> Scores:
    if len(tokens) >= kgw.width(key):
        scores[kgw.green_mask(tokens, key)] += strength
    return scores


def _green_of_self(
    key: kgw.Key, strength: float, row: int, tokens: npt.NDArray[np.int64], new: int, scores: Scores
) -> Scores:
    """Each candidate has a green list of its own; the most likely ones are looked up, the rest stays as it is."""
    if len(tokens) >= kgw.width(key):
        candidates = np.argsort(-scores, kind="stable")[:CANDIDATES]
        scores[candidates[kgw.is_green(tokens, candidates, key)]] += strength
    return scores


def _green_of_hash(
    key: textseal.Key, options: Options, row: int, tokens: npt.NDArray[np.int64], new: int, scores: Scores
) -> Scores:
    if len(tokens) >= key.ngram:
        scores[textseal.uniforms_for(tokens[-key.ngram :].tolist(), key) < key.gamma] += options.strength
    return scores


def tournament(key: synthid.Key | synthid_sha256.Key) -> Change:
    """SynthID's tournament of two candidates at each depth (Dathathri et al. 2024, Methods), on the whole distribution.

    As published, contexts are made of generated tokens, with zeros before the first, and one that occurred among the
    last ``context_history_size`` in the same text is not marked.
    """
    g_values_for = _g_values_for(key)
    history: dict[int, deque[tuple[int, ...]]] = defaultdict(lambda: deque(maxlen=key.context_history_size))

    def change(row: int, tokens: npt.NDArray[np.int64], new: int, scores: Scores) -> Scores:
        length = key.ngram_len - 1
        written = tokens[len(tokens) - new :][-length:].tolist()
        context = (*[0] * (length - len(written)), *written)
        repeated = context in history[row]
        history[row].appendleft(context)
        return scores if repeated else tournament_scores(scores, g_values_for(np.array(context, np.int32)))

    return change


def _g_values_for(key: synthid.Key | synthid_sha256.Key) -> Callable[[npt.NDArray[np.int32]], npt.NDArray[np.uint8]]:
    if isinstance(key, synthid.Key):
        return lambda context: synthid.g_values_for(context, key)
    return lambda context: synthid_sha256.g_values_for(context, key)


def tournament_scores(scores: Scores, g_values: npt.NDArray[np.uint8]) -> Scores:
    """Log-probabilities after the tournament, float32[v], of scores [v] and g values [v, depth].

    One depth turns p into p · (1 + g - Σ g p): of two tokens drawn from p the one with the larger g stays, and either
    where they are equal.
    """
    p = _softmax(scores)
    for g in g_values.T:
        p *= 1.0 + g - p[g == 1].sum()
    with np.errstate(divide="ignore"):
        return np.log(np.maximum(p, 0)).astype(np.float32)  # what rounding makes negative is 0


def exponential_choice(key: exponential.Key | textseal.Key, options: Options) -> Change:
    """Leaves only the token with the largest r^(1/p) (Aaronson and Kirchner 2022), so that nothing is left to sample.

    Where the context has been marked before in the same text, or is not complete yet, the scores stay as they are.
    """
    seen: dict[int, set[tuple[int, ...]]] = defaultdict(set)

    def change(row: int, tokens: npt.NDArray[np.int64], new: int, scores: Scores) -> Scores:
        context = tuple(tokens[len(tokens) - key.ngram :].tolist()) if len(tokens) >= key.ngram else None
        if context is None or (context in seen[row] and not options.mark_repeats):
            return scores
        seen[row].add(context)
        chosen = largest_power(_softmax(scores), _uniforms_for(context, key))
        scores[:] = -np.inf
        scores[chosen] = 0.0
        return scores

    return change


def _uniforms_for(context: Sequence[int], key: exponential.Key | textseal.Key) -> npt.NDArray[np.float32]:
    if isinstance(key, exponential.Key):
        return exponential.uniforms_for(context, key)
    return textseal.uniforms_for(context, key)


def largest_power(p: npt.NDArray[np.float64], r: npt.NDArray[np.float32]) -> int:
    """The token with the largest r^(1/p) among those with p > 0; by log(r) / p, which does not underflow."""
    possible = np.flatnonzero(p > 0)
    with np.errstate(divide="ignore", over="ignore"):
        powers = np.log(r[possible].astype(np.float64)) / p[possible]
    return int(possible[powers.argmax()] if powers.max() > -np.inf else p.argmax())


def _softmax(scores: Scores) -> npt.NDArray[np.float64]:
    p = np.exp(scores.astype(np.float64) - scores.max())
    return np.asarray(p / p.sum())


class _Last(WatermarkingConfig):  # type: ignore[misc]
    """A processor in the place of `transformers`' own: after temperature, top-k and top-p.

    Early releases take nothing but their own configurations, so it is one of them.
    """

    def __init__(self, make: Callable[[int], LogitsProcessor]) -> None:
        super().__init__()
        self.make = make

    def validate(self) -> None:
        """Nothing to do; keys are checked where they are made."""

    def construct_processor(self, vocab_size: int, device: str) -> LogitsProcessor:
        del device
        return self.make(vocab_size)


def _on_cpu(config: WatermarkingConfig | SynthIDTextWatermarkingConfig) -> _Last:
    """The processor of a configuration with the CPU's random numbers, for a model on another device."""
    return _Last(lambda vocab_size: OnCpu(config.construct_processor(vocab_size, "cpu")))


class OnCpu(LogitsProcessor):  # type: ignore[misc]
    """Runs a processor on the CPU and gives the scores back to the device that they came from."""

    def __init__(self, processor: LogitsProcessor) -> None:
        self.processor = processor

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """The new scores, on the device of the old ones."""
        return self.processor(input_ids.cpu(), scores.cpu()).to(scores.device)
