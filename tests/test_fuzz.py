"""Whatever is typed or read: success, or one clear line and exit code 2, and nothing changed.

A part of the cases runs with the suite, the many under `slow`; tests/test_port.py fuzzes the
readers of weights in the same way.
"""

import contextlib
import functools
import hashlib
import importlib
import io
import pickle
import shutil
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jaxnets import checkpoint, cli, train_loop
from jaxnets import config as configs
from jaxnets.train_step import Totals, train_step
from tests.test_train import CONFIG, trained  # noqa: F401

KEYS = sorted(configs.flatten(configs.read(CONFIG).to_dict()))
NUMBERS = ("0", "-0", "1", "-1", "2", "3", "7", "100", "1437", "1438", "1439", "100000000000",
           str(2**31), str(2**63), str(2**64), ".5", "-.5", "1e-320", "1e308", "1e400", "nan",
           "inf", "-inf", "0x10", "1_000", "１")  # fmt: skip
WORDS = ("", " ", "None", "none", "True", "false", "sgd", "adam", "adamw", "value", "norm",
         "cosine", "one_cycle", "multistep", "warm_restarts", "digits", "folder", "se_resnet",
         "cifar100_v4", "bfloat16", "pmap", "step", "block", "crop", "restore", "/", "..", "~",
         "a/b", "é", "\x00", "'", '"', "%s", "{}", "\n", "--x", "=", "config.seed=1")  # fmt: skip
LISTS = ("()", "(1,)", "(0, 0, 0)", "(1, 1, 1)", "(-1, 2)", "('crop', 'flip')", "('crop',) * 9",
         "[]", "[1, 2]", "(1, (2, 3))", "('a', 1)", "(nan,)", "1,2,3", "0,0,0", "crop,jitter", "(",
         "(None,)", "(1e400, 1)", "('erasing', 'auto_augment', 'rotation')")  # fmt: skip
VALUES = st.one_of(
    st.sampled_from(NUMBERS + WORDS + LISTS),
    st.integers().map(str),
    st.floats().map(str),
    st.text(max_size=8),
)
FEW, MANY = 40, {"config": 3000, "cli": 1500, "reader": 1000}

fuzz = functools.partial(
    settings, deadline=None, derandomize=True, database=None,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip


def outcome(module: str, args: list[str]) -> int:
    """Runs a command as `python -m` would; its exit code, after looking at what it says."""
    out, err, argv = io.StringIO(), io.StringIO(), sys.argv
    sys.argv = [module, *args]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                cli.run(importlib.import_module(module).main)
            except SystemExit as stop:
                code = stop.code or 0
    finally:
        sys.argv = argv
    said = [line for line in err.getvalue().splitlines() if line.startswith("error: ")]
    assert code in (0, 1, 2), (args, err.getvalue())
    assert "Traceback" not in err.getvalue(), (args, err.getvalue())
    shown = code == 2 and not args  # the help
    assert shown or len(said) == (code == 2), (args, err.getvalue())
    assert all(len(line) < 2000 for line in said), (args, said)
    return code


def contents(folder: Path) -> dict[str, str]:
    """Every file's digest."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


@pytest.fixture
def no_training(monkeypatch):
    """Trainings end where the first step would be compiled: it is traced, which finds misfits."""

    def trace(config, run, workdir, **_):
        step = functools.partial(train_step, run.task, size=run.task.batch_size)
        data = run.data
        order = jax.ShapeDtypeStruct(data.train_labels.shape, "int32")
        jax.eval_shape(step, run.state, Totals.zero(), data.train_images, data.train_labels, order)
        return 0

    monkeypatch.setattr(train_loop, "train", trace)


# Every key of the configuration


def config_case(tmp_path: Path, key: str, value: str) -> None:
    workdir = tmp_path / "run"
    shutil.rmtree(workdir, ignore_errors=True)
    args = ["--config", CONFIG, f"--config.{key}={value}", "--workdir", str(workdir)]
    code = outcome("jaxnets.train", args)
    assert code != 1
    assert workdir.exists() == (code == 0), (key, value)
    jax.config.update("jax_enable_x64", False)


@fuzz(max_examples=FEW)
@given(key=st.sampled_from(KEYS), value=VALUES)
def test_configuration(no_training, tmp_path_factory, key, value):
    config_case(tmp_path_factory.getbasetemp(), key, value)


@pytest.mark.slow
@pytest.mark.timeout(7200)
@fuzz(max_examples=MANY["config"])
@given(key=st.sampled_from(KEYS), value=VALUES)
def test_configuration_long(no_training, tmp_path_factory, key, value):
    config_case(tmp_path_factory.getbasetemp(), key, value)


# Every command line

FLAGS = {
    "jaxnets.train": ("--config", "--workdir", "--print-config", "--config.seed", "--help"),
    "jaxnets.evaluate": ("--workdir", "--checkpoint", "--split", "--output", "--data-dir"),
    "jaxnets.predict": ("--workdir", "--input", "--output", "--topk", "--tta", "--batch-size",
                        "--names", "--proba", "--label-column", "--checkpoint", "--skip-bad"),
    "jaxnets.report.__main__": ("--workdir", "--checkpoint", "--output", "--data-dir"),
    "jaxnets.results": ("--target", "--json"),
    "jaxnets.port.__main__": ("--model", "--option", "--num-classes", "--dtype", "--checkpoint",
                              "--with-optimizer", "--step"),
    "jaxnets.models.__main__": ("--option", "--num-classes", "--budget", "--json"),
    "jaxnets.data.__main__": ("--name", "--dir", "--image-size", "--skip-bad"),
    "jaxnets.parity.__main__": ("--model", "--jax", "--torch", "--option", "--config", "--steps"),
    "jaxnets.bench.__main__": ("--config", "--batch", "--dtype", "--repeats", "--json"),
}  # fmt: skip


# Without a name this command audits every model there is.
FIRST = {"jaxnets.models.__main__": ["cifar100_v3"]}


def command_lines(flags: tuple[str, ...]) -> st.SearchStrategy[list[str]]:
    # What makes a command work for long is left out: these are lines with something wrong in them,
    # or short ones.
    word = st.one_of(st.sampled_from(flags), VALUES.filter(lambda v: "\x00" not in v))
    return st.lists(word, max_size=6)


def cli_case(folder: Path, module: str, args: list[str]) -> None:
    before = contents(folder)
    code = outcome(module, FIRST.get(module, []) + args)
    if code:
        assert contents(folder) == before, args
    jax.config.update("jax_enable_x64", False)


@pytest.fixture
def somewhere(tmp_path_factory, monkeypatch) -> Path:
    folder = tmp_path_factory.mktemp("cli")
    (folder / "a").write_text("kept")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("JAXNETS_DATA", str(folder))
    monkeypatch.setattr("jaxnets.data.tfds_source.prepare", _offline)
    return folder


def _offline(files, root):
    from jaxnets.errors import UserError

    raise UserError("no network")


@pytest.mark.parametrize("module", FLAGS)
@fuzz(max_examples=FEW // 4)
@given(data=st.data())
def test_command_lines(no_training, somewhere, module, data):
    cli_case(somewhere, module, data.draw(command_lines(FLAGS[module])))


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("module", FLAGS)
@fuzz(max_examples=MANY["cli"] // len(FLAGS))
@given(data=st.data())
def test_command_lines_long(no_training, somewhere, module, data):
    cli_case(somewhere, module, data.draw(command_lines(FLAGS[module])))


# Every file that a command reads


def mutate(data: bytes, draw) -> bytes:
    """Cut, doubled, overwritten or replaced bytes."""
    at = draw(st.integers(0, max(0, len(data) - 1)))
    kind = draw(st.sampled_from(("cut", "flip", "insert", "zero", "empty", "random")))
    if kind == "cut":
        return data[:at]
    if kind == "flip":
        return data[:at] + bytes([data[at] ^ draw(st.integers(1, 255))]) + data[at + 1 :]
    if kind == "insert":
        return data[:at] + draw(st.binary(min_size=1, max_size=9)) + data[at:]
    if kind == "zero":
        return data[:at] + bytes(min(64, len(data) - at)) + data[at + 64 :]
    return b"" if kind == "empty" else draw(st.binary(max_size=64))


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> dict[str, bytes]:
    """An input of predict of every form, by file name."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("inputs")
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    with open(folder / "a.pkl", "wb") as f:
        pickle.dump({b"data": images.reshape(3, -1), b"ids": [7, 8, 9]}, f)
    np.save(folder / "a.npy", images)
    np.savez(folder / "a.npz", data=images)
    for suffix in ("png", "jpg", "gif"):
        Image.fromarray(images[0]).save(folder / f"a.{suffix}")
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def input_case(workdir: Path, folder: Path, inputs: dict[str, bytes], data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(inputs)))
    path, output = folder / name, folder / "out.csv"
    output.unlink(missing_ok=True)
    path.write_bytes(mutate(inputs[name], data.draw))
    args = ["--workdir", str(workdir), "--input", str(path), "--output", str(output)]
    code = outcome("jaxnets.predict", args)
    assert output.exists() == (code == 0)
    assert not list(folder.glob("*.tmp"))


@fuzz(max_examples=FEW)
@given(data=st.data())
def test_inputs(trained, inputs, tmp_path_factory, data):  # noqa: F811
    input_case(trained, tmp_path_factory.getbasetemp(), inputs, data)


@pytest.mark.slow
@pytest.mark.timeout(7200)
@fuzz(max_examples=MANY["reader"])
@given(data=st.data())
def test_inputs_long(trained, inputs, tmp_path_factory, data):  # noqa: F811
    input_case(trained, tmp_path_factory.getbasetemp(), inputs, data)


def workdir_case(trained: Path, folder: Path, data: st.DataObject) -> None:  # noqa: F811
    """A run in which one file was damaged: evaluated, summed up, gone on with."""
    workdir = folder / "damaged"
    shutil.rmtree(workdir, ignore_errors=True)
    shutil.copytree(trained, workdir, ignore=shutil.ignore_patterns("report", "events.*"))
    files = sorted(path for path in workdir.rglob("*") if path.is_file())
    path = data.draw(st.sampled_from(files))
    path.write_bytes(mutate(path.read_bytes(), data.draw))
    for module, args in (
        ("jaxnets.results", [str(workdir)]),
        ("jaxnets.evaluate", ["--workdir", str(workdir)]),
        ("jaxnets.port.__main__", [str(workdir), str(folder / "damaged.safetensors"), "--force"]),
    ):
        outcome(module, args)
    with contextlib.suppress(FileNotFoundError):
        checkpoint.find(workdir, "last")


@fuzz(max_examples=FEW // 8)
@given(data=st.data())
def test_workdirs(trained, tmp_path_factory, data):  # noqa: F811
    workdir_case(trained, tmp_path_factory.getbasetemp(), data)


@pytest.mark.slow
@pytest.mark.timeout(7200)
@fuzz(max_examples=MANY["reader"] // 4)
@given(data=st.data())
def test_workdirs_long(trained, tmp_path_factory, data):  # noqa: F811
    workdir_case(trained, tmp_path_factory.getbasetemp(), data)


def config_file_case(folder: Path, data: st.DataObject) -> None:
    """A recipe's file that was damaged."""
    path = folder / "recipe.py"
    path.write_bytes(mutate(Path(CONFIG).read_bytes(), data.draw))
    assert outcome("jaxnets.train", ["--config", str(path), "--print-config"]) in (0, 2)


@fuzz(max_examples=FEW)
@given(data=st.data())
def test_recipes(somewhere, data):
    config_file_case(somewhere, data)


def test_the_fuzzing_can_fail(monkeypatch):
    """A traceback, two lines or a foreign exit code are noticed."""
    from jaxnets.errors import UserError

    def fails(error):
        def main(argv):
            raise error

        return main

    for error in (ValueError("x"), RuntimeError("x\ny")):
        monkeypatch.setattr("jaxnets.results.main", fails(error))
        with pytest.raises((AssertionError, ValueError, RuntimeError)):
            outcome("jaxnets.results", [])
    monkeypatch.setattr("jaxnets.results.main", fails(UserError("x")))
    assert outcome("jaxnets.results", []) == 2
