"""Marked text is found with its key and not with another, and is what the published generators write."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="marked text needs the torch extra")
pytest.importorskip("transformers", reason="marked text needs the torch extra")

import torch
from transformers import SynthIDTextWatermarkingConfig
from transformers.generation.logits_process import LogitsProcessor, SynthIDTextWatermarkLogitsProcessor

from tests.watermark.models import TINY, english, save_model
from watermark import exponential, generate, kgw, synthid, synthid_sha256, textseal, unigram
from watermark.generate import Options, load_model, mark
from watermark.windows import windows

V = TINY.vocabulary
VECTORS = json.loads((Path(__file__).parents[1] / "assets" / "watermark" / "generators.json").read_text("utf-8"))
DEPTHS = tuple(range(11, 41)), tuple(range(1011, 1041))

# scheme, the key and another one
CASES: dict[str, tuple[Any, Any, Any]] = {
    "transformers lefthash": (kgw, *(kgw.Key(variant="transformers", key=k, vocab_size=V) for k in (7919, 104729))),
    "transformers selfhash": (
        kgw,
        *(
            kgw.Key(variant="transformers", seeding="selfhash", context_width=4, key=k, vocab_size=V)
            for k in (7919, 104729)
        ),
    ),
    "lm-watermarking minhash": (
        kgw,
        *(kgw.named_key("minhash", V, key=k) for k in (7919, 104729)),
    ),
    "lm-watermarking selfhash": (
        kgw,
        *(kgw.named_key("selfhash", V, key=k) for k in (7919, 104729)),
    ),
    "unigram": (unigram, *(unigram.Key(key=k, vocab_size=V) for k in (7919, 104729))),
    "synthid": (synthid, *(synthid.Key(keys=k, vocab_size=V) for k in DEPTHS)),
    "synthid sha-256": (synthid_sha256, *(synthid_sha256.Key(keys=k, vocab_size=V) for k in DEPTHS)),
    "three-bricks": (exponential, *(exponential.Key(key=k, vocab_size=V, ngram=2) for k in (7919, 104729))),
    "textseal": (textseal, *(textseal.Key(key=k, vocab_size=V, ngram=2) for k in (7919, 104729))),
    "textseal green": (
        textseal,
        *(textseal.Key(key=k, vocab_size=V, ngram=2, statistic="green") for k in (7919, 104729)),
    ),
}


# The self-hash of published programs marks the 40 likeliest tokens only, so nothing else is sampled.
LONG = Options(max_new_tokens=80, min_new_tokens=80, top_k=40, seed=3)
PROMPTS = ["The harbour", "In winter the boats stay at"]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("model")
    torch.set_num_threads(1)
    save_model(folder)
    return load_model(folder)


def log_p_values(scheme: Any, texts: list[list[int]], keys: list[Any]) -> Any:
    """float64[texts, keys]."""
    offsets = np.concatenate([[0], np.cumsum([len(text) for text in texts])])
    batch = windows(np.concatenate(texts).astype(np.int32), offsets, scheme.width(keys[0]))
    tally = scheme.score(batch, keys)
    return scheme.log_p_value(tally.statistic, tally.scored, keys)


@pytest.mark.parametrize("name", CASES)
def test_marks_are_found_with_their_key_alone(tiny: Any, name: str) -> None:
    scheme, key, other = CASES[name]
    marked = mark(PROMPTS, *tiny, key, LONG)
    assert [len(text.tokens) for text in marked] == [80, 80]
    found = log_p_values(scheme, [text.tokens for text in marked], [key, other])
    assert (found[:, 0] < np.log(1e-8)).all(), found
    assert (found[:, 1] > np.log(1e-3)).all(), found


def test_the_mark_is_what_is_found(tiny: Any) -> None:
    """The same sampling without a key shows nothing."""
    plain = [text.tokens for text in mark(PROMPTS, *tiny, None, LONG)]
    for name, (scheme, key, other) in CASES.items():
        assert (log_p_values(scheme, plain, [key, other]) > np.log(1e-3)).all(), name


@pytest.mark.parametrize("name", CASES)
def test_a_seed_gives_the_text_again(tiny: Any, name: str) -> None:
    _, key, _ = CASES[name]
    options = [Options(max_new_tokens=10, seed=seed, top_k=50, temperature=0.8) for seed in (1, 1, 2)]
    state = torch.get_rng_state()
    first, again, other = (mark(["The harbour", "A street"], *tiny, key, option) for option in options)
    assert first == again
    # The exponential choice leaves nothing to the seed as long as no context comes again.
    assert (first == other) == (name in ("three-bricks", "textseal"))
    assert torch.equal(torch.get_rng_state(), state), "the caller's generator was used"


def test_own_green_lists_write_what_transformers_writes(tiny: Any) -> None:
    """Its ``lefthash`` and the authors' are one scheme, so its configuration and our processor must sample the same."""
    theirs = kgw.Key(variant="transformers", key=15485863, vocab_size=V, gamma=0.25)
    ours = kgw.named_key("lefthash", V, key=15485863, gamma=0.25)
    options = Options(max_new_tokens=60, strength=3.0)
    prompts = ["The harbour", "In winter the boats", "A"]
    assert mark(prompts, *tiny, theirs, options) == mark(prompts, *tiny, ours, options)


def test_own_tournament_writes_what_transformers_writes(tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    key = synthid.Key(keys=DEPTHS[0], vocab_size=V, context_history_size=16)
    options = Options(max_new_tokens=80, top_k=3, temperature=0.7)  # narrow, so that contexts repeat
    prompts = [[5, 6, 7], [8]]
    theirs = mark(prompts, *tiny, key, options)
    make = lambda key, options, pads, start, device: {  # noqa: E731
        "watermarking_config": generate._Last(lambda _: generate.Rows(generate.tournament(key), pads, start))
    }
    monkeypatch.setattr(generate, "_watermark", make)
    assert mark(prompts, *tiny, key, options) == theirs


def test_tournament_of_a_distribution() -> None:
    random = np.random.default_rng(0)
    scores = random.normal(0, 3, (4, V)).astype(np.float32)
    scores[2, 10:] = -np.inf
    g_values = random.integers(0, 2, (4, V, 30)).astype(np.uint8)
    processor = SynthIDTextWatermarkLogitsProcessor(5, [1], 8, 0, 8, torch.device("cpu"))
    expected = processor.update_scores(torch.from_numpy(scores), torch.from_numpy(g_values.astype(np.int64))).softmax(1)
    for row in range(4):
        p = np.exp(generate.tournament_scores(scores[row], g_values[row]).astype(np.float64))
        assert p.sum() == pytest.approx(1, abs=1e-5)
        np.testing.assert_allclose(p, expected[row].numpy(), atol=2e-6)


def test_another_device_draws_on_the_cpu(tiny: Any) -> None:
    """The processor for other devices marks as the plain one does."""
    config = SynthIDTextWatermarkingConfig(ngram_len=5, keys=list(DEPTHS[0]))
    plain = config.construct_processor(V, "cpu")
    moved = generate._on_cpu(config).construct_processor(V, "cuda")
    ids, scores = torch.tensor([[1, 2, 3]]), torch.randn(1, V, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(moved(ids, scores), plain(ids, scores), rtol=0, atol=0)


def logits(case: Any) -> Any:
    random = np.random.default_rng(case["logits_seed"])
    return random.normal(0, 2, (VECTORS["made"]["steps"], 1, VECTORS["made"]["vocabulary"])).astype(np.float32)


def test_synthid_of_deepmind() -> None:
    """Step by step the distribution of the published processor, with contexts that repeat at the end."""
    case = VECTORS["synthid-sha256"]
    depth_keys = tuple(np.random.default_rng(case["keys_seed"]).integers(0, 2**62, 30).tolist())
    change = generate.tournament(synthid_sha256.Key(keys=depth_keys, vocab_size=VECTORS["made"]["vocabulary"]))
    text = list(case["prompt"])
    for step, (scores, (token, likely, largest, squares)) in enumerate(zip(logits(case), case["rows"], strict=True)):
        changed = change(0, np.array(text), step, scores[0].copy())
        p = generate._softmax(changed)
        assert int(p.argmax()) == likely, step
        assert p.max() == pytest.approx(largest, abs=1e-4)
        assert (p**2).sum() == pytest.approx(squares, abs=1e-4)
        text.append(token)
    assert sum(row[3] < 0.1 for row in case["rows"]) >= 5, "no step was left unmarked"


@pytest.mark.parametrize("case", VECTORS["three-bricks"]["cases"] + VECTORS["textseal"]["cases"], ids=str)
def test_exponential_choice(case: Any) -> None:
    """Token by token what the programs sample, with their temperature and top-p before our choice."""
    from transformers import TemperatureLogitsWarper, TopPLogitsWarper

    settings = {"vocab_size": VECTORS["made"]["vocabulary"], "ngram": case["ngram"], "key": case["key"]}
    key = exponential.Key(**settings, salt=case["salt"]) if "salt" in case else textseal.Key(**settings)
    change = generate.exponential_choice(key, Options(mark_repeats=True))
    warpers: list[LogitsProcessor] = [TopPLogitsWarper(case["top_p"])]
    if case["temperature"] != 1.0:
        warpers.insert(0, TemperatureLogitsWarper(case["temperature"]))
    text = list(case["prompt"])
    for step, (scores, token) in enumerate(zip(logits(case), case["tokens"], strict=True)):
        warped = torch.from_numpy(scores)
        for warper in warpers:
            warped = warper(torch.tensor([text]), warped)
        changed = change(0, np.array(text), step, warped[0].numpy().copy())
        assert np.flatnonzero(np.isfinite(changed)).tolist() == [token], step
        text.append(token)


@pytest.mark.parametrize("case", VECTORS["lm-watermarking"]["cases"], ids=lambda case: case["seeding"])
def test_green_tokens_of_lm_watermarking(case: Any) -> None:
    key = kgw.named_key(case["seeding"], VECTORS["made"]["vocabulary"], case["gamma"])
    assert (key.seeding, key.context_width, key.self_salt, key.key) == (
        case["prf"],
        case["context_width"],
        case["self_salt"],
        case["key"],
    )
    change = generate._green(key, 2.0)
    text = list(case["prompt"])
    for step, (scores, green) in enumerate(zip(logits(case), case["green"], strict=False)):
        changed = change(0, np.array(text), step, scores[0].copy())
        assert np.flatnonzero(changed != scores[0]).tolist() == green, step
        np.testing.assert_array_equal(changed[green], scores[0][green] + np.float32(2.0))
        text.append(int(changed.argmax()))
    assert text[len(case["prompt"]) :] == case["tokens"]


def test_exponential_choice_keeps_the_distribution() -> None:
    """Over contexts, the chosen token follows p: the mark does not change what the model says."""
    p = np.array([0.5, 0.25, 0.125, 0.125, 0.0])
    key = textseal.Key(key=5, vocab_size=5, ngram=1)
    change = generate.exponential_choice(key, Options())
    with np.errstate(divide="ignore"):
        scores = np.log(p).astype(np.float32)
    chosen = [int(change(0, np.array([context]), 1, scores.copy()).argmax()) for context in range(5000)]
    counts = np.bincount(chosen, minlength=5)
    assert counts[4] == 0
    assert (abs(counts[:4] / 5000 - p[:4]) < 4 * np.sqrt(p[:4] * (1 - p[:4]) / 5000)).all(), counts


def test_a_repeated_context_is_not_chosen_for_again() -> None:
    key = exponential.Key(key=5, vocab_size=50, ngram=2)
    flat = np.zeros(50, np.float32)
    for repeats, left in ((False, 50), (True, 1)):
        change = generate.exponential_choice(key, Options(mark_repeats=repeats))
        finite = [np.isfinite(change(row, np.array(text), 0, flat.copy())).sum() for row, text in CONTEXTS]
        assert finite == [1, 1, left, 1, 50]


CONTEXTS = [(0, [1, 2]), (0, [2, 1]), (0, [7, 1, 2]), (1, [1, 2]), (0, [2])]  # the last is too short


def test_largest_power_where_everything_underflows() -> None:
    assert generate.largest_power(np.array([1.0, 0.0]), np.array([0.0, 0.9], np.float32)) == 0
    tiny_p = np.array([1e-300, 1.0 - 1e-12, 1e-12])
    assert generate.largest_power(tiny_p, np.array([0.999, 0.001, 0.999], np.float32)) == 1


def test_ends_and_lengths(tiny: Any) -> None:
    """Texts stop at the end token, which is not part of them, but not before the least length."""
    model, tokenizer = tiny
    with torch.no_grad():
        row = model.lm_head.weight[0].clone()
        model.lm_head.weight[0] *= 40.0  # the end token is likely where it points along the state
        try:
            short = mark(["The harbour"] * 8, model, tokenizer, None, Options(max_new_tokens=60))
            long = mark(["The harbour"] * 8, model, tokenizer, None, Options(max_new_tokens=60, min_new_tokens=60))
        finally:
            model.lm_head.weight[0] = row
    assert any(len(text.tokens) < 60 for text in short)
    assert all(0 not in text.tokens for text in short + long)
    assert {len(text.tokens) for text in long} == {60}


def test_rows_do_not_see_each_other(tiny: Any) -> None:
    """A short prompt beside a long one is marked in its own context, not in the padding."""
    key = exponential.Key(key=3, vocab_size=V, ngram=2)
    options = Options(max_new_tokens=30, min_new_tokens=30)
    together = mark([[5, 6], [9, 8, 7, 6, 5, 4]], *tiny, key, options)
    apart = [mark([prompt], *tiny, key, options)[0] for prompt in ([5, 6], [9, 8, 7, 6, 5, 4])]
    assert together == apart  # nothing is left to chance: contexts of two tokens do not repeat in so short a text


def test_what_is_refused(tiny: Any) -> None:
    model, tokenizer = tiny
    key = unigram.Key(key=1, vocab_size=V)
    with pytest.raises(ValueError, match=r"prompt 1 is empty"):
        mark(["The", ""], model, tokenizer, key)
    with pytest.raises(ValueError, match=r"prompt 0 is empty"):
        mark([[]], model, tokenizer, key)
    with pytest.raises(ValueError, match=r"vocab_size of the key is 999, the model's vocabulary has 1000"):
        mark(["The"], model, tokenizer, unigram.Key(key=1, vocab_size=999))
    with pytest.raises(
        ValueError, match=r"a prompt of 3 tokens and max_new_tokens 2046 are more than the model's 2048"
    ):
        mark([[1, 2, 3]], model, tokenizer, key, Options(max_new_tokens=2046))
    with pytest.raises(ValueError, match=r"not among the model's 1000"):
        mark([[1000]], model, tokenizer, key)
    with pytest.raises(ValueError, match=r"a CUDA device's generator marks only there; the model is on cpu"):
        mark(["The"], model, tokenizer, synthid.Key(keys=(1, 2), vocab_size=V, generator="philox"))
    for wrong in ({"temperature": 0.0}, {"top_p": 0.0}, {"top_k": -1}, {"batch": 0}, {"min_new_tokens": 201}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Options(**wrong)  # type: ignore[arg-type]
    assert mark([], model, tokenizer, key) == []


def test_models_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        load_model(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        load_model("./none")
    with pytest.raises((OSError, ValueError)):
        load_model(tmp_path)


def test_texts_of_the_tiny_tokenizer_come_back(tiny: Any) -> None:
    _, tokenizer = tiny
    for text in (*english()[:20], "Zürich — 東京 🙂\n\tend "):
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_without_torch() -> None:
    program = "import sys; sys.modules['torch'] = None; import watermark.generate"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert run.stderr.endswith("marked text needs torch and transformers: pip install 'human-reserve[torch]'\n")
