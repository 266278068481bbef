"""Each mistake of `mutants.py`, made in a copy of the project, turns one of its killers red."""

import multiprocessing
import os
import re
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from mutants import MUTANTS, Edit, Mutant

ROOT = Path(__file__).parents[1]
COPIED = ("jaxnets", "torch_ref", "configs", "parity_tests", "tests")
UNCHANGED = Mutant("nothing", tuple({killer for m in MUTANTS for killer in m.killers}), ())


def edited(edits: Sequence[Edit], root: Path = ROOT) -> dict[str, str]:
    """The texts of the files with the edits in them, by path.

    Raises:
        AssertionError: what is to be replaced does not occur exactly once.
    """
    texts: dict[str, str] = {}
    for file, old, new in edits:
        text = texts.get(file) or (root / file).read_text()
        found = text.count(old)
        assert found == 1, f"{file} has {found} times {old!r}: mend parity_tests/mutants.py"
        texts[file] = text.replace(old, new)
    return texts


def run_in(folder: Path, tests: Iterable[str], output: Path) -> None:
    """Runs the tests of another copy of the project in this process, and ends it."""
    os.chdir(folder)
    with open(output, "w") as f:
        os.dup2(f.fileno(), 1)
        os.dup2(f.fileno(), 2)
    ours = {ROOT, ROOT / "parity_tests", ROOT / "tests"}
    sys.path[:] = [str(folder), *(p for p in sys.path if Path(p or ".").resolve() not in ours)]
    sys.exit(pytest.main(["-x", "-q", "-m", "", "-p", "no:cacheprovider", *tests]))


def verdict(mutant: Mutant, folder: Path) -> tuple[int | None, str]:
    """Makes the mistake in a copy of the project; the exit code of its killers there, and more."""
    ignore = shutil.ignore_patterns("__pycache__", "*.pyc")
    for name in COPIED:
        shutil.copytree(ROOT / name, folder / name, ignore=ignore)
    shutil.copy(ROOT / "pyproject.toml", folder)
    for file, text in edited(mutant.edits, folder).items():
        (folder / file).write_text(text)
    # Forked from a process that has imported the frameworks, and nothing of the project.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["flax.nnx", "optax", "orbax.checkpoint", "torch", "pytest"])
    tests = [f"parity_tests/{killer}" for killer in mutant.killers]
    process = context.Process(target=run_in, args=(folder, tests, folder / "output"))
    process.start()
    process.join()
    said = (folder / "output").read_text()
    shutil.rmtree(folder)
    return process.exitcode, said


@pytest.fixture(scope="module")
def verdicts(request, tmp_path_factory) -> Iterator[dict[str, Future]]:
    """Of all mutants that are to be tested, side by side, a process for each core."""
    tests = [item for item in request.session.items if item.module is request.module]
    chosen = [t.callspec.params["mutant"] for t in tests if t.originalname == "test_is_killed"]
    if any(t.originalname == "test_killers_pass_without_a_mistake" for t in tests):
        chosen.insert(0, UNCHANGED)  # it takes longest
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield {
            mutant.name: pool.submit(verdict, mutant, tmp_path_factory.mktemp("mutant"))
            for mutant in chosen
        }


by_name = pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)


@by_name
def test_can_still_be_made(mutant):
    """The text is there, once, and the mistake is Python."""
    for file, text in edited(mutant.edits).items():
        compile(text, file, "exec")


def test_names_and_killers_are_whole():
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS) >= 50
    for mutant in MUTANTS:
        for killer in mutant.killers:
            file, _, test = killer.partition("::")
            function = test.partition("[")[0]
            assert f"def {function}" in (ROOT / "parity_tests" / file).read_text(), killer


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_killers_pass_without_a_mistake(verdicts):
    code, said = verdicts[UNCHANGED.name].result()
    assert code == 0, said[-3000:]


@pytest.mark.slow
@pytest.mark.timeout(3600)
@by_name
def test_is_killed(verdicts, mutant):
    """By a comparison: a test that cannot run, or stops at an error, proves nothing."""
    code, said = verdicts[mutant.name].result()
    assert code == 1, said[-3000:]
    assert re.search(r"^E +(AssertionError|assert)\b", said, re.M), said[-3000:]
