"""A new key is one that its variant takes, is kept from others, and replaces nothing."""

import multiprocessing
import stat
from pathlib import Path
from typing import Any

import pytest
import yaml

from watermark.keys import fresh_key, is_prime, keygen
from watermark.registry import Entry, RegistryError, load_registry
from watermark.schemes import VARIANTS

PARAMETERS: dict[tuple[str, str], list[dict[str, Any]]] = {
    ("kgw", "transformers"): [{}, {"seeding": "selfhash", "context_width": 4}],
    ("kgw", "lm-watermarking"): [{"seeding": name} for name in ("lefthash", "selfhash", "minhash", "skipgram")],
}
REGISTRY = """# who to look for
keys:
  - id: first   # the old one
    scheme: unigram
    variant: unigram
    key: 5
    tokenizer: t.json
    vocab_size: 1000

# and what was measured
nulls: n.json
"""


def entry(name: str = "new", scheme: str = "kgw", variant: str = "transformers", **more: Any) -> Entry:
    return Entry(id=name, scheme=scheme, variant=variant, tokenizer="t.json", vocab_size=1000, **more)


@pytest.mark.parametrize("variant", VARIANTS, ids=" ".join)
def test_a_new_key_is_read_again(tmp_path: Path, variant: tuple[str, str]) -> None:
    for number, parameters in enumerate(PARAMETERS.get(variant, [{}])):
        made = keygen(entry(f"key-{number}", *variant, parameters=parameters), tmp_path / "keys.yaml")
        marks = load_registry(str(tmp_path / "keys.yaml")).marks
        assert [mark.entry.id for mark in marks] == [f"key-{n}" for n in range(number + 1)]
        assert marks[number].key_hash == made.key_hash
        assert yaml.safe_load(made.yaml) == [yaml.safe_load((tmp_path / "keys.yaml").read_text())["keys"][number]]
        assert stat.S_IMODE(made.key_file.stat().st_mode) == 0o600
        secret = made.key_file.read_text().split()
        shown = (tmp_path / "keys.yaml").read_text() + made.yaml + repr(marks) + repr(made)
        assert not any(len(part) > 5 and part in shown for part in secret), "the key is shown"
    assert {path.suffix for path in tmp_path.iterdir()} == {".yaml", ".key"}, "something was left behind"


@pytest.mark.parametrize("variant", VARIANTS, ids=" ".join)
def test_keys_differ_and_fit(variant: tuple[str, str]) -> None:
    keys = [fresh_key(*variant) for _ in range(20)]
    assert len(set(keys)) == 20
    for key in keys:
        parts = key if isinstance(key, tuple) else (key,)
        assert all(0 <= part < 2**63 for part in parts)
        assert len(set(parts)) == len(parts) == (30 if variant[0] == "synthid" else 1)
        VARIANTS[variant].build(key, 256_000, "cpu-mt19937", {})


def test_depth_keys_differ_by_the_table() -> None:
    """Depths with the same remainder would mark alike."""
    for size in (64, 4096):
        keys = fresh_key("synthid", "transformers", {"sampling_table_size": size}, depth=60)
        assert isinstance(keys, tuple)
        assert len({key % size for key in keys}) == 60
    with pytest.raises(RegistryError, match="depth is 65; a sampling table of 64 has room"):
        fresh_key("synthid", "transformers", {"sampling_table_size": 64}, depth=65)
    with pytest.raises(RegistryError, match="depth is 0"):
        fresh_key("synthid", "deepmind", depth=0)


def test_green_list_keys_are_primes_of_forty_bits() -> None:
    for variant in ("transformers", "lm-watermarking"):
        for _ in range(20):
            key = fresh_key("kgw", variant)
            assert isinstance(key, int)
            assert key.bit_length() == 40
            assert is_prime(key)


def test_primes() -> None:
    sieve = bytearray([0, 0] + [1] * 99_998)
    for n in range(2, 317):
        if sieve[n]:
            sieve[n * n :: n] = bytes(len(sieve[n * n :: n]))
    assert [n for n in range(100_000) if is_prime(n)] == [n for n in range(100_000) if sieve[n]]
    # Carmichael numbers, the least strong pseudoprimes to the first 4, 9 and 11 primes, Mersenne numbers
    composite = (561, 825265, 3215031751, 3825123056546413051, 318665857834031151167460, 2**67 - 1)
    assert not any(is_prime(n) for n in composite)
    assert all(is_prime(n) for n in (15485863, 2**31 - 1, 2**61 - 1, 2971215073))


def test_an_entry_goes_behind_the_last(tmp_path: Path) -> None:
    """Comments and what follows the list stay; so does the file's mode."""
    path = tmp_path / "keys.yaml"
    path.write_text(REGISTRY)
    path.chmod(0o640)
    keygen(entry(parameters={"seeding": "selfhash", "context_width": 4}), path)
    text = path.read_text()
    head, tail = REGISTRY.split("\n# and what")
    assert text.startswith(head)
    assert text.endswith("# and what" + tail)
    assert [item["id"] for item in yaml.safe_load(text)["keys"]] == ["first", "new"]
    assert yaml.safe_load(text)["nulls"] == "n.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


@pytest.mark.parametrize(
    "text",
    [
        "keys:\n- {id: first, scheme: kgw}",
        "keys:\n    - id: first\n      parameters: {a: [1,\n        2]}\n",
        "nulls: n.json\nkeys:\n- id: first\n  parameters:\n    gamma: 0.25\n# end\n",
        "keys:\n- id: first\n  source: |\n    two\n    lines\n",
        "keys:\n- id: first\n  source: >-\n    two\n    lines\n\nnulls: n.json\n",
    ],
)
def test_ways_to_write_a_list(tmp_path: Path, text: str) -> None:
    path = tmp_path / "keys.yaml"
    path.write_text(text)
    before = yaml.safe_load(text)
    keygen(entry(), path)
    after = yaml.safe_load(path.read_text())
    assert after["keys"][:-1] == before["keys"]
    assert after["keys"][-1]["id"] == "new"
    assert {name: value for name, value in after.items() if name != "keys"} == {
        name: value for name, value in before.items() if name != "keys"
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("keys: [{id: first}]\n", "append the entry that it prints by hand"),
        ("keys:\n- id: first\n  source: |+\n    kept\n\n\n", "append the entry that it prints by hand"),
        ("keys:\n- id: new\n", "there is an entry 'new' already"),
        ("keys: []\n", "a list of at least one entry"),
        ("[1]\n", "a list of at least one entry"),
        ("keys: [\n", "not YAML"),
    ],
)
def test_registries_that_are_left_alone(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "keys.yaml"
    path.write_text(text)
    with pytest.raises(RegistryError, match=message):
        keygen(entry(), path)
    assert path.read_text() == text
    assert [item.name for item in tmp_path.iterdir()] == ["keys.yaml"]


def test_nothing_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "new.key").write_text("123\n")
    for registry in (None, tmp_path / "keys.yaml"):
        with pytest.raises(RegistryError, match="there is a file already; a key is never replaced"):
            keygen(entry(), registry, folder=tmp_path)
    assert (tmp_path / "new.key").read_text() == "123\n"
    assert [item.name for item in tmp_path.iterdir()] == ["new.key"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (entry(parameters={"gamma": 2.0}), "gamma"),
        (entry(parameters={"colour": 1}), "colour"),
        (entry(variant="nobody's"), "is not known; known are kgw transformers, "),
        (entry(key=5), "leave out key and key_env"),
        (entry(key_env="KEY"), "leave out key and key_env"),
        (entry(key_file="no/such/folder.key"), "cannot be written"),
    ],
)
def test_entries_that_are_refused(tmp_path: Path, wrong: Entry, message: str) -> None:
    with pytest.raises(RegistryError, match=message):
        keygen(wrong, tmp_path / "keys.yaml")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match="the registry's folder cannot be opened"):
        keygen(entry(), tmp_path / "none" / "keys.yaml")


def test_without_a_registry_only_the_key_is_written(tmp_path: Path) -> None:
    made = keygen(entry(), folder=tmp_path)
    assert list(tmp_path.iterdir()) == [made.key_file] == [tmp_path / "new.key"]
    (tmp_path / "keys.yaml").write_text("keys:\n" + made.yaml)
    assert load_registry(str(tmp_path / "keys.yaml")).marks[0].key_hash == made.key_hash


def append(path: Path, name: str) -> None:
    keygen(entry(name, "unigram", "unigram"), path)


def test_two_at_once_both_stay(tmp_path: Path) -> None:
    names = [f"key-{n}" for n in range(6)]
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=append, args=(tmp_path / "keys.yaml", name)) for name in names]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0] * 6
    assert sorted(mark.entry.id for mark in load_registry(str(tmp_path / "keys.yaml")).marks) == names
