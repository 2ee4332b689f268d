"""Registries: what is read, what is refused and how it is said, and that keys stay out of sight."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.watermark.marked import VOCABULARY, save_tokenizer
from watermark.registry import RegistryError, key_hash, load_registry, null_subject, public_entries
from watermark.scan import Scanner
from watermark.schemes import VARIANTS
from watermark.tokens import TokenizerError, load_tokenizer

SECRET = 987654321987654323


def entry(**changes: Any) -> dict[str, Any]:
    base = {"id": "one", "scheme": "kgw", "variant": "transformers", "key": SECRET, "tokenizer": "tokenizer.json"}
    return {name: value for name, value in {**base, "vocab_size": VOCABULARY, **changes}.items() if value is not None}


def write(folder: Path, *entries: Any, **more: Any) -> str:
    path = folder / "keys.yaml"
    path.write_text(yaml.safe_dump({"keys": list(entries), **more}))
    return str(path)


@pytest.mark.parametrize("name", list(public_entries()))
def test_every_public_key_can_be_used(name: str, tmp_path: Path) -> None:
    save_tokenizer(tmp_path)
    path = write(tmp_path, {"use": name, "id": "x", "tokenizer": "tokenizer.json", "vocab_size": 50272})
    scanner = Scanner(load_registry(path))
    found = scanner.scan(["a short text", "word " * 30 + "and other words follow here, one after the other"])
    assert found.log_p.shape == (2, 1)
    assert (found.log_p <= 0).all()
    assert public_entries()[name]["source"]


def test_a_user_may_change_what_a_public_key_has(tmp_path: Path) -> None:
    use = {"use": "kgw-transformers-lefthash", "id": "x", "tokenizer": "t", "vocab_size": 32000}
    (mark,) = load_registry(write(tmp_path, {**use, "parameters": {"gamma": 0.5}})).marks
    assert (mark.key.gamma, mark.key.seeding) == (0.5, "lefthash")


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        ({"scheme": "kgv"}, r"one: 'kgv' 'transformers': no such scheme and variant; known are kgw transformers"),
        ({"key": None}, r"one: give one of key, key_file and key_env; none given"),
        ({"key_file": "a.key"}, r"one: give one of key, key_file and key_env; key and key_file given"),
        ({"key": None, "key_file": "a.key"}, r"one: key_file: .*a.key: No such file"),
        ({"key": None, "key_env": "NO_SUCH_KEY"}, r"key_env: the environment variable NO_SUCH_KEY is not set"),
        ({"vocab_size": 1}, r"keys\[0\] \(one\): vocab_size: input should be greater than 1"),
        ({"gama": 0.5}, r"keys\[0\] \(one\): gama: unknown key; known are use, id"),
        ({"parameters": {"gama": 0.5}}, r"one: parameters: gama: not one of kgw transformers, which takes seeding"),
        ({"parameters": {"gamma": 1.5}}, r"one: gamma: 1.5, allowed"),
        ({"parameters": {"seeding": "minhash"}}, r"one: seeding: minhash, allowed"),
        ({"rng": "cuda-philox"}, r"one: rng: cuda-philox draws other green lists"),
        ({"rng": "cuda"}, r"rng: input should be 'cpu-mt19937' or 'cuda-philox'"),
        ({"id": "a b"}, r"id: string should match"),
        ({"use": "kgw"}, r"use: 'kgw' is no public key; known are kgw-transformers-lefthash"),
        ({"key": [1, 2]}, r"one: key: 2 numbers given, this scheme's key is one"),
        ({"scheme": "synthid"}, r"one: key: one number given, a SynthID key is a list"),
    ],
)
def test_a_mistake_is_named_with_its_place_and_the_mend(mistake: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match=message) as error:
        load_registry(write(tmp_path, entry(**mistake)))
    assert str(tmp_path / "keys.yaml") in str(error.value)
    assert str(SECRET) not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("keys: [{id: one, key: 987654321987654323", "line 2: not valid YAML"),
        ("keys: []", "keys: write a list of at least one entry"),
        ("- a", "a registry holds 'keys:' and a list of entries"),
        ("marks: []", "marks: unknown key; a registry has 'keys' and 'nulls'"),
        ("keys: [5]", r"keys\[0\]: an entry holds 'name: value' lines"),
    ],
)
def test_a_file_that_is_no_registry_is_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "keys.yaml").write_text(text + "\n")
    with pytest.raises(RegistryError, match=message) as error:
        load_registry(str(tmp_path / "keys.yaml"))
    assert str(SECRET) not in str(error.value)


def test_two_entries_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match="the id 'one' stands twice"):
        load_registry(write(tmp_path, entry(), entry(scheme="unigram", variant="unigram")))


def test_a_key_is_read_from_a_file_or_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "one.key").write_text("1, 2\n0x3 4\n")
    monkeypatch.setenv("TWO", " 77 ")
    first = entry(key=None, key_file="one.key", scheme="synthid")
    marks = load_registry(write(tmp_path, first, entry(id="two", key=None, key_env="TWO"))).marks
    assert [marks[0].key.keys, marks[1].key.key] == [(1, 2, 3, 4), 77]


def test_what_a_key_file_holds_is_not_said_when_it_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "one.key").write_text(f"{SECRET}x")
    with pytest.raises(RegistryError, match=r"one.key: write whole numbers") as error:
        load_registry(write(tmp_path, entry(key=None, key_file="one.key")))
    assert str(SECRET) not in str(error.value)


def test_a_key_is_in_no_representation(tmp_path: Path) -> None:
    save_tokenizer(tmp_path)
    registry = load_registry(write(tmp_path, entry()))
    scanner = Scanner(registry)
    seen = [registry, registry.marks[0], registry.marks[0].key, registry.marks[0].public(), scanner.public_marks]
    seen += [scanner.families, vars(scanner), json.dumps(scanner.public_marks)]
    assert str(SECRET) not in repr(seen)
    assert registry.marks[0].key.key == SECRET


def test_the_hash_names_key_scheme_and_variant() -> None:
    hashes = {
        key_hash("kgw", "transformers", 5),
        key_hash("kgw", "lm-watermarking", 5),
        key_hash("kgw", "transformers", 6),
    }
    assert len(hashes) == 3
    assert key_hash("kgw", "transformers", 5) == key_hash("kgw", "transformers", (5,))


def test_a_tokenizer_with_more_ids_than_the_model_is_refused(tmp_path: Path) -> None:
    save_tokenizer(tmp_path)
    registry = load_registry(write(tmp_path, entry(vocab_size=100)))
    with pytest.raises(RegistryError, match=rf"one: vocab_size: 100 is less than the {VOCABULARY} ids"):
        Scanner(registry)


def test_another_tokenizer_than_the_named_one_is_refused(tmp_path: Path) -> None:
    save_tokenizer(tmp_path)
    with pytest.raises(RegistryError, match=r"tokenizer: .*SHA-256 is .*, expected 0000"):
        Scanner(load_registry(write(tmp_path, entry(tokenizer_sha256="0" * 64))))


@pytest.mark.parametrize(
    ("name", "message"),
    [("./nowhere", "no such file or folder"), (".", "no tokenizer.json here"), ("keys.yaml", "not a tokenizer")],
)
def test_a_tokenizer_that_is_none_is_refused(name: str, message: str, tmp_path: Path) -> None:
    write(tmp_path, entry())
    with pytest.raises(TokenizerError, match=message):
        load_tokenizer(name, base=str(tmp_path))


def test_encoding_leaves_nothing_out_and_survives_any_text(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(str(save_tokenizer(tmp_path)))
    texts = ["", "plain words", "naïve 漢字 \U0001f600", "\ud800 lone", "a" * 5000, "\0"] * 30
    tokens, offsets = tokenizer.encode(texts)
    assert len(offsets) == len(texts) + 1
    assert offsets[-1] == len(tokens)
    one, two = (tokenizer.encode([text])[0].tolist() for text in texts[1:3])
    assert tokens[offsets[1] : offsets[2]].tolist() == one
    assert tokens[offsets[2] : offsets[3]].tolist() == two


def test_a_null_of_another_key_is_refused(tmp_path: Path) -> None:
    save_tokenizer(tmp_path)
    registry = load_registry(write(tmp_path, entry()))
    scanner = Scanner(registry)
    of = null_subject(registry.marks[0], scanner.tokenizers[0].sha256)
    (tmp_path / "nulls.json").write_text(json.dumps({"nulls": {"one": {"of": of, "null": {"version": 0}}}}))
    with pytest.raises(RegistryError, match=r"nulls: one: .*version.*`reserve watermark fit`"):
        Scanner(load_registry(write(tmp_path, entry(), nulls="nulls.json")))
    with pytest.raises(RegistryError, match="nulls: one: measured for another key or other settings"):
        Scanner(load_registry(write(tmp_path, entry(key=5), nulls="nulls.json")))
    with pytest.raises(RegistryError, match=r"nulls: .*other.json: No such file"):
        load_registry(write(tmp_path, entry(), nulls="other.json"))


def test_the_digest_changes_with_everything_that_decides(tmp_path: Path) -> None:
    save_tokenizer(tmp_path)
    changes: list[dict[str, Any]] = [
        {},
        {"key": 5},
        {"vocab_size": 5000},
        {"min_tokens": 20},
        {"parameters": {"gamma": 0.5}},
    ]
    digests = [Scanner(load_registry(write(tmp_path, entry(**change)))).digest for change in changes]
    assert len(set(digests)) == len(changes)
    assert Scanner(load_registry(write(tmp_path, entry()))).digest == digests[0]


def test_every_variant_says_what_it_takes() -> None:
    assert all(variant.about and variant.scheme.width is not None for variant in VARIANTS.values())
