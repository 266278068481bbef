"""The plan of the house: which package imports which, what needs no framework, how large it is."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = sorted(p.parent for p in ROOT.glob("jaxnets/*/__init__.py"))

# Who may import whom: only what stands in a line above.  A package's commands, its __main__,
# count as commands.
RANKS = (
    ("errors", "signals", "extrema"),
    ("checks", "timing"),
    ("jaxnets", "files"),
    ("data",),
    ("config",),
    ("cli", "pretrained", "tables"),
    ("models", "optim", "augment", "runs"),
    ("devices",),
    ("checkpoints",),
    ("inference",),
    ("report",),
    ("train",),
    ("port",),
    ("export",),
    ("bench", "parity"),
    ("evaluate", "predict", "results", "__main__"),
    ("reproduce", "sweep"),
)
RANK = {name: rank for rank, names in enumerate(RANKS) for name in names}
COMMANDS = len(RANKS)
# What the twin, an implementation of its own, shares with jaxnets.
SHARED = {
    "jaxnets.augment.options", "jaxnets.augment.policies", "jaxnets.augment.tables",
    "jaxnets.checks", "jaxnets.cli", "jaxnets.config", "jaxnets.data", "jaxnets.errors",
    "jaxnets.files", "jaxnets.pretrained", "jaxnets.runs", "jaxnets.signals",
}  # fmt: skip
FRAMEWORKS = {"jax", "jaxlib", "flax", "optax", "orbax", "torch"}


def imports(path: Path) -> Iterator[str]:
    """The modules that a file imports, anywhere in it; `from a import b` is a.b if that is one."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                yield name if module_exists(name) else node.module


def module_exists(name: str) -> bool:
    path = ROOT / name.replace(".", "/")
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists()


def room(module: str) -> str:
    """The part of jaxnets that a module belongs to: a package, or a file beside them."""
    return module.split(".")[1] if "." in module else "jaxnets"


def sources(folder: str) -> list[Path]:
    found = [p.relative_to(ROOT) for p in (ROOT / folder).glob("**/*.py")]
    assert found
    return found


def test_the_house_can_be_seen_at_a_glance():
    assert len(list(ROOT.glob("jaxnets/*.py"))) <= 12
    rooms = {p.name for p in PACKAGES} | {p.stem for p in ROOT.glob("jaxnets/*.py")}
    assert rooms - {"__init__"} == set(RANK) - {"jaxnets"}


@pytest.mark.parametrize("package", PACKAGES, ids=lambda p: p.name)
def test_a_package_says_what_it_is(package):
    """What lives there, what it may import, who calls it."""
    said = ast.get_docstring(ast.parse((package / "__init__.py").read_text()))
    assert said
    assert len(said.split()) >= 15
    assert "import" in said.lower()


def test_imports_go_one_way():
    wrong = []
    for path in sources("jaxnets"):
        inside = path.parts[1] if len(path.parts) > 2 else path.stem
        rank = RANK["jaxnets" if inside == "__init__" else inside]
        if path.name == "__main__.py":
            rank = COMMANDS
        for module in imports(path):
            other = room(module)
            if module.startswith("jaxnets") and other != inside and RANK[other] >= rank:
                wrong.append(f"{path} imports {module}")
            if module.startswith("torch") and inside not in ("port", "parity", "bench", "export"):
                wrong.append(f"{path} imports {module}")
    assert not wrong


@pytest.mark.parametrize("folder", ["runs", "files", "config", "data", "pretrained"])
def test_no_framework_is_needed(folder):
    """Both trainers use these, and commands before they set jax up."""
    modules = []
    for path in sources(f"jaxnets/{folder}"):
        if path.name == "__main__.py":
            continue
        assert not {m.split(".")[0] for m in imports(path)} & FRAMEWORKS, path
        modules.append(".".join(path.with_suffix("").parts).removesuffix(".__init__"))
    code = f"import sys, {', '.join(modules)}; print(sorted({FRAMEWORKS} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_the_twin_is_an_implementation_of_its_own():
    wrong = []
    for path in sources("torch_ref"):
        for module in imports(path):
            shared = {".".join(module.split(".")[:n]) for n in (2, 3)} & SHARED
            foreign = module.startswith("jaxnets") and not shared
            if foreign or module.split(".")[0] in FRAMEWORKS - {"torch"}:
                wrong.append(f"{path} imports {module}")
    assert not wrong
