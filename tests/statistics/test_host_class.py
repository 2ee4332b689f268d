"""The class of a host by its name: the package's rules, one's own, and what is said of wrong ones."""

import json
import pickle
from urllib.parse import urlsplit

import numpy as np
import pyarrow as pa
import pytest

from pipelines.errors import UsageError
from pipelines.statistics.host_class import CLASSES, OTHER, host_classes, load_host_classes
from tests.crawls import SHARED

EXAMPLES = {
    "government": [
        "www.irs.gov",
        "gov.uk",
        "x.service.gov.uk",
        "www.gob.mx",
        "impots.gouv.fr",
        "mod.go.jp",
        "navy.mil",
    ],
    "education": ["cs.stanford.edu", "www.ox.ac.uk", "u-tokyo.ac.jp", "www.univ-lyon.fr", "uni12.example", "my.school"],
    "news": [
        "www.nytimes.com",
        "edition.cnn.com",
        "www.detroitnews.com",
        "news12.example",
        "the-daily.example",
        "bbc.co.uk",
    ],
    "blog": ["someone.wordpress.com", "x.blogspot.com.br", "x.blogspot.de", "blog.example.com", "myblog.example"],
    "forum": ["old.reddit.com", "news.ycombinator.com", "forum3.example", "bbs.example.cn", "gardenforum.example"],
    "reference": ["de.wikipedia.org", "math.stackexchange.com", "wiki4.example", "docs.example.com", "x.fandom.com"],
    "shop": ["www.amazon.co.uk", "amazon.com", "x.myshopify.com", "shop59.example", "www.web-shop.example"],
    "code": ["github.com", "someone.github.io", "pypi.org", "git.example.org"],
    "social": ["m.facebook.com", "x.com", "www.pinterest.co.uk", "mastodon.social"],
    OTHER: [
        "example.com",
        "github.com.evil.example",
        "workshop.example",
        "192.168.0.1",
        "localhost",
        "",
        "unknown",
    ],
}


def test_examples_of_every_class():
    assert tuple(EXAMPLES) == CLASSES
    for expected, hosts in EXAMPLES.items():
        found = host_classes(pa.array(hosts)).to_pylist()
        assert dict(zip(hosts, found, strict=True)) == dict.fromkeys(hosts, expected)


def test_the_shape_of_the_name_makes_no_difference():
    hosts = ["WWW.NYTimes.com", "nytimes.com.", "nytimes.com:8080", None]
    assert host_classes(pa.array(hosts)).to_pylist() == ["news", "news", "news", OTHER]


def test_columns_of_any_kind():
    hosts = [host for hosts in EXAMPLES.values() for host in hosts] + [None]
    column = [hosts[at] for at in np.random.default_rng(1).integers(0, len(hosts), 5000)]
    expected = [host_classes(pa.array([host], pa.string())).to_pylist()[0] for host in column]
    for array in (
        pa.array(column),
        pa.array(column).dictionary_encode(),
        pa.array(column, pa.large_string()),
        pa.chunked_array([column[:77], column[77:]]),
        pa.array([None, *column]).slice(1),
    ):
        found = host_classes(array)
        assert (found.type, found.null_count) == (pa.string(), 0)
        assert found.to_pylist() == expected
    assert host_classes(pa.array([], pa.string())).to_pylist() == []
    assert host_classes(pa.chunked_array([], pa.string())).to_pylist() == []
    assert host_classes(pa.nulls(2, pa.string())).to_pylist() == [OTHER, OTHER]


def test_own_rules_go_before_those_of_the_package(tmp_path):
    path = tmp_path / "classes.yaml"
    path.write_text('news: [trade.example, "*bulletin"]\nintranet: [.corp, wiki]\nother: [nytimes.com]\n')
    rules = load_host_classes(str(path))
    hosts = ["a.trade.example", "thebulletin.example", "x.corp", "wiki.example", "www.nytimes.com", "www.wsj.com"]
    assert host_classes(pa.array(hosts), rules).to_pylist() == ["news", "news", "intranet", "intranet", OTHER, "news"]
    assert rules.classes == (*CLASSES, "intranet")
    assert load_host_classes().classes == CLASSES
    again = pickle.loads(pickle.dumps(rules))
    assert again == rules
    table = tmp_path / "classes.tsv"
    table.write_text("# pattern\tclass\ntrade.example\tnews\n*bulletin\tnews\n\n.corp\tintranet\nwiki\tintranet\n")
    assert (
        host_classes(pa.array(hosts), load_host_classes(str(table))).to_pylist()[:4]
        == ["news", "news"] + ["intranet"] * 2
    )


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.yaml", "news: nytimes.com", "news: expected a list of patterns, got 'nytimes.com'"),
        ("a.yaml", "- nytimes.com", "expected classes with lists of patterns"),
        ("a.yaml", "news: [*bulletin]", "patterns that start with \\* need quotes"),
        ("a.yaml", "news: [", "not valid YAML"),
        ("a.yaml", "News!: [a.example]", "'News!' is no name of a class"),
        ("a.yaml", "news: [3]", "news\\[0\\]: 3 is no pattern; allowed: a domain"),
        ("a.yaml", "news: [a.example, 'ne*ws']", "news\\[1\\]: 'ne\\*ws' is no pattern"),
        ("a.yaml", "news: [a.example]\nblog: [a.example]", "blog\\[0\\]: 'a.example' is of class 'news' already"),
        ("a.yaml", "\n".join(f"c{i}: [c{i}.example]" for i in range(9)), "19 classes .* allowed: 16"),
        ("a.tsv", "a.example\tnews\nb.example news", "line 2: expected a pattern, a tab and a class"),
        ("a.tsv", "a.example\t", "line 1: '' is no name of a class"),
    ],
)
def test_wrong_files_are_named_with_the_place(tmp_path, name, text, said):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(UsageError, match=said) as error:
        load_host_classes(str(path))
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(UsageError, match="No such file"):
        load_host_classes(str(tmp_path / "none.yaml"))
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="not UTF-8"):
        load_host_classes(str(tmp_path / "b.yaml"))


def test_most_hosts_of_real_articles_are_recognised():
    gold = SHARED / "html_gold" / "ground-truth.json"
    if not gold.exists():
        pytest.skip(f"{gold} is not here")
    hosts = [urlsplit(page["url"]).hostname for page in json.loads(gold.read_text()).values()]
    found = host_classes(pa.array(hosts)).to_pylist()
    assert found.count("news") > len(hosts) / 2
    assert found.count(OTHER) < len(hosts) / 2
