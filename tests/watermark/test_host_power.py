"""Short documents of one host that say nothing alone are found together, and unmarked hosts are not."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import yaml

from pipelines.marks.sites import Sites, document_e_values, find_sites
from pipelines.marks.staged import matrix, staged_marks
from tests.watermark.marked import VOCABULARY, preference, save_tokenizer, tokenizer, words
from watermark import sites as site_samples
from watermark.many_tests import e_bh, log_e_value
from watermark.registry import load_registry
from watermark.scan import Scanner

LEVEL = 0.01
HUMAN, DOCUMENTS, TOKENS = 200, 20, 60


def scanner_of(folder: Path, keys: Sequence[int], **changes: object) -> Scanner:
    save_tokenizer(folder)
    entry = {"scheme": "kgw", "variant": "transformers", "tokenizer": "tokenizer.json", "vocab_size": VOCABULARY}
    entries = [{"id": f"key-{key}", "key": key, **entry, **changes} for key in keys]
    (folder / "keys.yaml").write_text(yaml.safe_dump({"keys": entries}))
    return Scanner(load_registry(str(folder / "keys.yaml")))


def weakly_marked(key: object, seed: int, share: float = 0.2) -> str:
    """Words at random, but at a share of the places one that the key likes."""
    rng = np.random.default_rng(seed)
    tokens = rng.choice(words(), 1).tolist()
    while len(tokens) < TOKENS:
        candidates = rng.choice(words(), 8)
        best = int(np.argmax(preference(key, tokens)[candidates])) if rng.random() < share else 0
        tokens.append(int(candidates[best]))
    return tokenizer().decode(tokens)


def unmarked(rng: np.random.Generator, documents: int, tokens: int = TOKENS, shared: int = 0) -> list[str]:
    """The documents of a host, with so many tokens that all of them share."""
    frame = rng.choice(words(), shared).tolist()
    return [tokenizer().decode(frame + rng.choice(words(), tokens - shared).tolist()) for _ in range(documents)]


def marks_of(scanner: Scanner, hosts: dict[str, list[str]], section: str = "") -> pa.Table:
    rows = [
        (host, f"https://{host}/{section}{at}", text) for host, texts in hosts.items() for at, text in enumerate(texts)
    ]
    table = pa.table(dict(zip(("host", "url", "text"), zip(*rows, strict=True), strict=True)))
    return pa.Table.from_batches([staged_marks(scanner, batch, samples=True) for batch in table.to_batches()])


def found_hosts(sites: Sites, level: float = LEVEL) -> set[str]:
    table = sites.candidates
    each = table.group_by(["host", "section"]).aggregate([("site_log_e", "max")])["site_log_e_max"].to_numpy()
    threshold = e_bh(each, level, sites.tested)
    return set(table.filter(pc.greater_equal(table["site_log_e"], threshold))["host"].to_pylist())


@pytest.fixture(scope="module")
def crawl(tmp_path_factory: pytest.TempPathFactory) -> tuple[Scanner, pa.Table]:
    """200 unmarked hosts of 1 to 20 documents, and one whose 20 documents are weakly marked."""
    scanner = scanner_of(tmp_path_factory.mktemp("keys"), [7919, 104729])
    rng = np.random.default_rng(0)
    hosts = {f"human-{at}.example": unmarked(rng, int(rng.integers(1, 21)), shared=10) for at in range(HUMAN)}
    marked = {"marked.example": [weakly_marked(scanner.marks[0].key, seed) for seed in range(DOCUMENTS)]}
    return scanner, marks_of(scanner, hosts | marked)


def test_no_document_is_found_alone(crawl: tuple[Scanner, pa.Table]) -> None:
    _, marks = crawl
    log_e, tested = document_e_values(marks, np.array([50, 50]))
    assert tested.all()
    assert (log_e < e_bh(log_e, LEVEL)).all()
    own = matrix(marks["log_p"], 2)[-DOCUMENTS:, 0]
    assert np.median(own) > np.log(LEVEL), "documents stand out, so that the host would prove nothing"


def test_the_host_is_found_and_no_other(crawl: tuple[Scanner, pa.Table]) -> None:
    scanner, marks = crawl
    sites = find_sites(marks, scanner, LEVEL)
    assert found_hosts(sites) == {"marked.example"}
    row = sites.candidates.filter(pc.equal(sites.candidates["host"], "marked.example")).to_pylist()[0]
    assert (row["key"], row["documents"]) == (0, DOCUMENTS)
    assert row["log_p"] < np.log(1e-9)


def test_more_documents_say_more(crawl: tuple[Scanner, pa.Table]) -> None:
    scanner, marks = crawl
    marked = marks.slice(marks.num_rows - DOCUMENTS)
    log_p = [find_sites(marked.slice(0, count), scanner, 0.49).candidates["log_p"].to_pylist() for count in (5, 10, 20)]
    assert all(log_p)
    least = [min(of_size) for of_size in log_p]
    assert least[2] < least[1] < least[0]
    assert least[2] < 2 * least[0], "the evidence grows by less than its share"


def test_a_marked_section_of_an_unmarked_host(crawl: tuple[Scanner, pa.Table]) -> None:
    scanner, marks = crawl
    rng = np.random.default_rng(1)
    marked = marks.slice(marks.num_rows - DOCUMENTS)
    host = pa.array(["large.example"] * DOCUMENTS)
    section = pa.array(["news"] * DOCUMENTS)
    inside = marked.set_column(0, marked.schema.field(0), host).set_column(1, marked.schema.field(1), section)
    others = marks_of(scanner, {"large.example": unmarked(rng, 150)}, section="about/")
    sites = find_sites(pa.concat_tables([others, inside]), scanner, LEVEL)
    by_section = {row["section"]: row["log_p"] for row in sites.candidates.to_pylist()}
    assert "news" in by_section
    assert "about" not in by_section
    assert by_section["news"] < by_section.get(None, 0.0), "the host says more than its marked section"


def test_which_documents_of_a_mixed_host_are_marked(crawl: tuple[Scanner, pa.Table]) -> None:
    """Ten of forty: most of them are told, and hardly another."""
    scanner, _ = crawl
    marked = [weakly_marked(scanner.marks[0].key, 100 + seed, 0.5) for seed in range(10)]
    marks = marks_of(scanner, {"mixed.example": marked + unmarked(np.random.default_rng(3), 30)})
    (row,) = find_sites(marks, scanner, LEVEL).candidates.to_pylist()
    told = matrix(marks["log_p"], 2)[:, row["key"]] <= row["document_log_p"]
    assert told[:10].sum() >= 8
    assert told[10:].sum() <= 1


def test_unmarked_hosts_under_random_keys(tmp_path: Path) -> None:
    """A site's p-value is uniform or larger, though its pages share half of their text; and e-BH finds no host.

    One key's sites lean together (they share frequent pairs of tokens), so what is bounded is the mean over keys.
    """
    keys = np.random.default_rng(0).integers(1, 1 << 40, 16).tolist()
    rng = np.random.default_rng(1)
    hosts = {f"host-{at}.example": unmarked(rng, int(rng.integers(2, 9)), 40, shared=20) for at in range(200)}
    scanner = scanner_of(tmp_path, keys, min_tokens=20)
    marks = marks_of(scanner, hosts)
    log_p = site_log_p(scanner, marks)
    assert log_p.shape == (200, 16)
    for level in (0.5, 0.1, 0.01):
        shares = (log_p <= np.log(level)).mean(axis=0)
        assert shares.mean() < level + 3 * shares.std() / np.sqrt(len(keys)), level
        assert shares.mean() > 0.3 * level, "far from uniform: the test has lost its power"
    e_values = np.exp(log_e_value(log_p))
    assert e_values.mean() < 1.1
    assert found_hosts(find_sites(marks, scanner, 0.2), 0.2) == set()
    false = [np.isfinite(e_bh(log_e_value(of_key), 0.2)) for of_key in log_p.T]
    assert np.mean(false) <= 0.2, "every discovery is false here, so that the rate is the share of crawls with one"


def test_text_that_all_pages_share_counts_once(tmp_path: Path) -> None:
    """Thirty pages that are one text say what one page says: its lucky windows are not thirty finds."""
    keys = list(range(100, 106))
    scanner = scanner_of(tmp_path, keys, min_tokens=20)
    text = unmarked(np.random.default_rng(2), 1, 50)[0]
    one, thirty = (site_log_p(scanner, marks_of(scanner, {"a.example": [text] * count})) for count in (2, 30))
    np.testing.assert_array_equal(one, thirty)
    assert one.min() > np.log(1e-4)


def site_log_p(scanner: Scanner, marks: pa.Table) -> np.ndarray:
    """float64[hosts, keys], for hosts that stand together: what `find_sites` tests, but all of it."""
    size = scanner.families[0].width + 1
    hosts = marks["host"].to_pylist()
    windows = [np.frombuffer(value, "<i4").reshape(-1, size) for value in marks["windows_0"].to_pylist()]
    samples = [
        site_samples.merge(
            np.concatenate([window for window, of in zip(windows, hosts, strict=True) if of == host]),
            site_samples.salt(host),
        )
        for host in dict.fromkeys(hosts)
    ]
    return scanner.scan_sites(0, samples)[0]
