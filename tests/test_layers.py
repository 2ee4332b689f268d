"""Who may import whom: the layers of the design, read from the source itself."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("pipelines", "detectors", "watermark")
# The files that wire kernels to Beam; every other file of `pipelines` must do without it.
WIRING = {
    "pipelines/beam.py",
    "pipelines/worker.py",
    "pipelines/files.py",
    "pipelines/beam_files.py",
    "pipelines/count_dated.py",
    "pipelines/s3_files.py",
    "pipelines/dedup.py",
    "pipelines/inference.py",
    "pipelines/inspect.py",
    "pipelines/settle.py",
    "pipelines/marks/correct.py",
    "pipelines/neardup/candidates.py",
    "pipelines/neardup/cluster.py",
    "pipelines/neardup/rounds.py",
    "pipelines/neardup/search.py",
    "pipelines/repeats/count.py",
}


def sources() -> list[Path]:
    return sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def imports(path: Path) -> set[str]:
    """The dotted modules that a file imports, anywhere in it; `from a import b` counts as both a and a.b."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def top(modules: set[str]) -> set[str]:
    return {module.split(".")[0] for module in modules}


def module_name(path: Path) -> str:
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    return name.removesuffix(".__init__")


def test_there_are_sources_in_every_room() -> None:
    rooms = {path.relative_to(ROOT).parts[0] for path in sources()}
    assert rooms == set(PACKAGES)
    assert len(sources()) > 30


@pytest.mark.parametrize(
    ("package", "forbidden"),
    [
        ("detectors", {"pipelines", "watermark", "apache_beam"}),
        ("watermark", {"pipelines", "detectors", "apache_beam"}),
    ],
)
def test_lower_rooms_import_nothing_above_them(package: str, forbidden: set[str]) -> None:
    for path in sorted((ROOT / package).rglob("*.py")):
        assert not top(imports(path)) & forbidden, path


def test_kernels_do_not_import_beam() -> None:
    beam = {
        str(path.relative_to(ROOT))
        for path in sorted((ROOT / "pipelines").rglob("*.py"))
        if "apache_beam" in top(imports(path))
    }
    assert beam == WIRING, "a file that wires kernels to Beam is listed in WIRING; a kernel does without Beam"


def test_nobody_imports_the_command() -> None:
    for path in sources():
        assert "pipelines.cli" not in imports(path), path


def test_product_does_not_import_tests_or_benchmarks() -> None:
    for path in sources():
        assert not top(imports(path)) & {"tests", "benchmarks", "conftest"}, path


def test_there_are_no_circles() -> None:
    names = {module_name(path): path for path in sources()}
    edges = {name: {m for m in imports(path) if m in names and m != name} for name, path in names.items()}
    # A package's own __init__ is imported with every module in it; it closes no circle unless it imports them back.
    state: dict[str, str] = {}

    def visit(name: str, way: tuple[str, ...]) -> None:
        if state.get(name) == "done":
            return
        assert name not in way, " -> ".join((*way[way.index(name) :], name))
        for other in sorted(edges[name]):
            visit(other, (*way, name))
        state[name] = "done"

    for name in sorted(edges):
        visit(name, ())


def test_files_stay_readable() -> None:
    long = {str(p.relative_to(ROOT)): n for p in sources() if (n := len(p.read_text().splitlines())) > 450}
    assert not long, "no file above about 400 lines"
