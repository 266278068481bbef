"""The frame of every command: flags, last resort, what becomes of the standard streams."""

import errno
import importlib
import os
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from packaging.requirements import Requirement

from jaxnets import cli
from jaxnets.errors import UserError
from jaxnets.files.atomic import check_file, check_folder, write_text
from tests.small_disk import remount, small_disk

ROOT = Path(__file__).parents[1]
CONFIG = str(ROOT / "configs" / "quickstart.py")
COMMANDS = tuple(importlib.import_module("jaxnets.__main__").COMMANDS)


def parser() -> cli.Parser:
    made = cli.Parser("x", "What it does.", aliases={"--out": "--output"})
    made.add_recipe()
    made.add_argument("--output", type=Path)
    made.add_argument("--num-images", type=cli.whole(1))
    made.add_argument("--rate", type=cli.real(0))
    made.add_argument("--workdir", type=Path, nargs="+", action="extend")
    made.add_argument("--force", action="store_true")
    made.add_argument("--text")
    made.add_argument("rest", nargs="*", type=Path)
    cli.add_json(made, "instead")
    return made


@pytest.mark.parametrize(
    ("args", "found"),
    [
        ("--num-images 3", {"num_images": 3}),
        ("--num_images=3", {"num_images": 3}),
        ("-num_images 3", {"num_images": 3}),
        ("--out x", {"output": Path("x")}),
        ("--output ./-", {"output": Path("-")}),
        ("--rate 1e-3", {"rate": 1e-3}),
        ("--text -", {"text": "-"}),
        ("--text -1e-3", {"text": "-1e-3"}),
        ("--force=true", {"force": True}),
        ("--force=False", {"force": False}),
        ("--noforce", {"force": False}),
        ("--workdir a b --workdir=c", {"workdir": [Path("a"), Path("b"), Path("c")]}),
        ("--workdir=a b", {"workdir": [Path("a"), Path("b")]}),
        ("--json", {"json": "-"}),
        ("--json a b", {"json": "-", "rest": [Path("a"), Path("b")]}),
        ("a --json b.json", {"json": "b.json", "rest": [Path("a")]}),
        ("a --json=b", {"json": "b", "rest": [Path("a")]}),
        ("a -- --b", {"rest": [Path("a"), Path("--b")]}),
        ("--config c --config.a=1 --config.a=2", {"overrides": ["--config.a=1", "--config.a=2"]}),
        ("--config.a -1 --config.b --force", {"overrides": ["--config.a", "-1", "--config.b"]}),
    ],
)
def test_flags_are_read(args, found):
    values = vars(parser().parse_args(args.split()))
    assert {key: values[key] for key in found} == found


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--outptu", "x"], "unknown flag --outptu; did you mean --output?"),
        (["--num-images", "0"], "--num-images 0: a whole number, at least 1"),
        (["--num-images", "1.5"], "--num-images 1.5: a whole number is needed"),
        (["--num-images", "3000000000"], "--num-images 3000000000: a whole number, at most 2,147"),
        (["--rate", "nan"], "--rate nan: a number, at least 0"),
        (["--rate", "-1"], "--rate -1: a number, at least 0"),
        (["--rate", "inf"], "--rate inf: a number, at most"),
        (["--output", ""], "--output: its value is empty"),
        (["--output="], "--output: its value is empty"),
        (["--workdir", "a", ""], "--workdir: its value is empty"),
        ([""], "an argument: its value is empty"),
        (["--output", "-"], "--output -: the standard streams will not do"),
        (["-"], "an argument -: the standard streams"),
        (["--output", "a", "--output", "b"], "--output: given twice"),
        (["--output", "a", "--out=b"], "--output: given twice"),
        (["--num-images=1", "--num_images=2"], "--num-images: given twice"),
        (["--config", "a", "--config", "b"], "--config: given twice"),
        (["--force=perhaps"], "--force=perhaps: a switch takes no value"),
        (["--output"], "--output: expected one argument"),
    ],
)
def test_a_mistaken_flag_is_one_line(args, says):
    with pytest.raises(UserError) as error:
        parser().parse_args(args)
    assert says in str(error.value)


NAMES = ["jaxnets", "torch_ref.train", *(f"jaxnets.{name}" for name in COMMANDS)]


@pytest.mark.parametrize("name", NAMES)
def test_without_arguments_the_help_is_shown(command, name):
    code, out, err = command(name)
    assert (code, out) == (2, "")
    assert err.startswith(f"usage: python -m {name} ")
    assert "--help" in err


def test_all_models_or_one(refused):
    name = "jaxnets.models"
    assert "no model: name one, or --list" in refused(name, "--json")
    assert "no model: name one, or --list" in refused(name, "--budget", "10")
    assert "--list: all models" in refused(name, "--list", "--budget", "10")
    assert "--list: all models" in refused(name, "--list", "se_resnet")


def test_the_next_row_or_others(refused):
    assert "--next: no row" in refused("jaxnets.reproduce", "--next", "--list")
    assert "--next: no row" in refused("jaxnets.reproduce", "--next", "se_resnet_small")


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_dashes_only(command, name):
    code, out, _ = command(f"jaxnets.{name}", "--wrong", "--help")
    assert code == 0
    flags = {word.strip("[],") for word in out.split() if word.lstrip("[").startswith("--")}
    assert flags
    assert not [flag for flag in flags if "_" in flag.partition(".")[0]]


HELPS = """
import contextlib, importlib, sys
from jaxnets.__main__ import COMMANDS
for name in COMMANDS:
    with contextlib.suppress(ImportError):
        name = importlib.import_module(f"jaxnets.{name}.__main__").__name__.removeprefix("jaxnets.")
    with contextlib.suppress(SystemExit):
        importlib.import_module(f"jaxnets.{name}").main(["--help"])
    found = {"jax", "torch", "optuna", "matplotlib"} & set(sys.modules)
    assert not found, (name, found)
"""


def test_help_waits_for_no_framework():
    done = subprocess.run([sys.executable, "-c", HELPS], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("usage: ") == len(COMMANDS)


def test_json_goes_into_a_file(tmp_path, command):
    path = tmp_path / "a.json"
    args = ("se_resnet", "--option", "num_channels=16", "--option", "num_blocks=1,1,1", "--json")
    printed = command("jaxnets.models.__main__", *args)
    written = command("jaxnets.models.__main__", *args, path)
    assert (written.code, written.out) == (0, f"wrote {path}\n")
    assert path.read_text() == printed.out


@pytest.mark.parametrize("tolerance", ["nan", "-1", "inf"])
def test_a_bound_is_a_number(refused, tolerance):
    args = ("--config", CONFIG, "--tolerance", tolerance)
    assert f"--tolerance {tolerance}: a number" in refused("jaxnets.parity.__main__", *args)


def test_flags_of_the_other_comparison_are_refused(refused):
    parity = "jaxnets.parity.__main__"
    assert "--seed: not with --config" in refused(parity, "--config", CONFIG, "--seed=1")
    assert "--steps: not with --model" in refused(parity, "--model=resnet18", "--steps=1")
    assert "--model and --config" in refused(parity, "--model=resnet18", "--config", CONFIG)


# Outputs, before the work


@pytest.fixture
def no_work(monkeypatch):
    """What takes time fails the test."""

    def work(*_, **__):
        raise AssertionError("the output was not checked first")

    for name in (
        "jaxnets.inference.network.load_members",
        "jaxnets.report.run.read_runs",
        "jaxnets.devices.runtime.setup",
        "jaxnets.bench.__main__.measured",
    ):
        monkeypatch.setattr(name, work)


def outputs(workdir: Path, file: Path, folder: Path) -> list[tuple]:
    run = ("--workdir", workdir)
    return [
        ("jaxnets.evaluate", *run, "--output", folder),
        ("jaxnets.report.__main__", *run, "--output", folder),
        ("jaxnets.predict", *run, "--input", workdir / "config.json", "--output", file),
        ("jaxnets.export.__main__", *run, "--format", "onnx", "--output", file),
        ("jaxnets.bench.__main__", "--config", CONFIG, "--json", file),
        ("jaxnets.parity.__main__", "--config", CONFIG, "--out", folder),
        ("jaxnets.parity.__main__", "--model=resnet18", "--torch=x.pt", "--output", folder),
    ]


@pytest.fixture(scope="module")
def workdir(tmp_path_factory) -> Path:
    from tests.fake_run import fake_run

    folder = tmp_path_factory.mktemp("runs") / "x"
    fake_run(folder)
    (folder / "metrics.jsonl").write_text('{"step": 1, "epoch": 1}\n')
    return folder


@pytest.mark.parametrize("which", range(7))
def test_an_output_that_will_not_do_is_said_first(refused, tmp_path, workdir, no_work, which):
    if which >= 5:
        pytest.importorskip("torch")
    taken = tmp_path / "taken"
    taken.write_text("mine")
    args = outputs(workdir, taken / "x.csv", taken)[which]
    assert "taken" in refused(*args)
    long = tmp_path / ("n" * 300)
    assert "File name too long" in refused(*outputs(workdir, long, long)[which])
    assert [taken] == list(tmp_path.iterdir())
    assert taken.read_text() == "mine"


def test_a_file_system_for_reading_is_named(refused, tmp_path, workdir, no_work):
    with small_disk(tmp_path / "disk", 64) as disk:
        remount(disk, "ro")
        for args in outputs(workdir, disk / "x", disk / "x")[:5]:
            assert "Read-only file system" in refused(*args)


def test_checks_leave_nothing_behind(tmp_path):
    check_file(tmp_path / "a", "--x a")
    check_file(tmp_path / ("é" * 120), "--x a")
    check_folder(tmp_path / "a" / "b", "--x a/b")
    assert not list(tmp_path.iterdir())
    write_text(tmp_path / ("é" * 120), "x")  # the longest name that a file may have, nearly
    with pytest.raises(UserError, match="--x a: no folder"):
        check_file(tmp_path / "a" / "b", "--x a")
    with pytest.raises(UserError, match="--x a: is a folder"):
        check_file(tmp_path, "--x a")


# The last resort


def raises(error: BaseException):
    def main(argv):
        raise error

    return main


def refused_by_the_system(path: str):
    return raises(PermissionError(errno.EACCES, os.strerror(errno.EACCES), path))


def ask_jax(argv):
    jnp.zeros((1 << 44,)).block_until_ready()


def ask_numpy(argv):
    np.zeros(1 << 50)


def ask_for_another_device(argv):
    jax.devices("nonsense")


@pytest.mark.parametrize(
    ("main", "says"),
    [
        (refused_by_the_system("runs/x"), "runs/x: Permission denied"),
        (raises(OSError(errno.ENOSPC, "No space left on device", "a", None, "b")), "a -> b: No sp"),
        (raises(OSError("odd")), "input or output: odd"),
        (lambda argv: Path("n" * 300).exists(), "nnn: File name too long"),
        (raises(MemoryError()), "out of memory (MemoryError)"),
        (ask_numpy, "out of memory (Unable to allocate 8.00 PiB"),
        (ask_jax, "out of memory (RESOURCE_EXHAUSTED"),
        (ask_for_another_device, "jax finds no such device here"),
    ],
)
def test_what_nobody_expected_is_one_line(monkeypatch, capsys, main, says):
    monkeypatch.setattr(sys, "argv", ["x"])
    with pytest.raises(SystemExit) as stop:
        cli.run(main)
    err = capsys.readouterr().err
    assert stop.value.code == 2
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert says in err


@pytest.mark.parametrize("error", [ValueError("x"), RuntimeError("x"), RecursionError()])
def test_a_defect_keeps_its_traceback(monkeypatch, error):
    monkeypatch.setattr(sys, "argv", ["x"])
    with pytest.raises(type(error)):
        cli.run(raises(error))


def test_memory_names_the_batch():
    says = r"out of memory \(RESOURCE.*; lower --batch-size 9 or --x 1"
    with pytest.raises(UserError, match=says), cli.naming_batch("--batch-size 9", "--x 1"):
        ask_jax([])
    with pytest.raises(ValueError, match="other"), cli.naming_batch("--batch-size 9"):
        raise ValueError("other")


def test_brackets_without_end(refused, tmp_path):
    (tmp_path / "config.json").write_text("[" * 200_000)
    for module in ("jaxnets.results", "jaxnets.evaluate --workdir"):
        assert "too deep in one another" in refused(*module.split(), tmp_path)
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "epoch": 1}\n')  # something to lose
    said = refused("jaxnets.train", "--config", CONFIG, "--workdir", tmp_path)
    assert "too deep in one another" in said


@pytest.mark.parametrize(
    ("env", "says"),
    [
        ({"JAX_PLATFORMS": "cuda"}, "JAX_PLATFORMS=cuda: jax finds no such device here"),
        ({"JAX_DISABLE_JIT": "1"}, "JAX_DISABLE_JIT is set"),
    ],
)
def test_variables_of_jax(tmp_path, env, says):
    if "cuda" in env.values() and jax.default_backend() != "cpu":
        pytest.skip("there is one")
    args = ["-m", "jaxnets.train", "--config", CONFIG, "--workdir", str(tmp_path / "x")]
    done = shell(args, env=env)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert says in done.stderr
    assert not list(tmp_path.iterdir())


# The standard streams

HELP = ("-m", "jaxnets.results", "--help")


def shell(args, redirect: str = "", env: dict[str, str] | None = None):
    words = ["bash", "-c", f'"$@" {redirect}', "bash", sys.executable, *args]
    env = os.environ | {"PYTHONPATH": str(ROOT)} | (env or {})
    return subprocess.run(words, capture_output=True, text=True, env=env)


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    ("redirect", "code", "says"),
    [
        ("> /dev/full", 2, "error: the standard output: No space left on device\n"),
        (">&-", 2, "error: the standard output is closed; redirect it, e.g. > /dev/null\n"),
        ("> >(exec >&-; exit)", 141, ""),
        ("2>&-", 0, ""),
    ],
)
def test_an_output_that_takes_nothing(redirect, code, says, unbuffered):
    done = shell(HELP, redirect, {"PYTHONUNBUFFERED": unbuffered})
    assert (done.returncode, done.stderr) == (code, says)


def test_names_that_the_terminal_cannot_show(tmp_path):
    args = ("-m", "jaxnets.results", str(tmp_path / "é"))
    done = shell(args, env={"PYTHONIOENCODING": "ascii"})
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "\\xe9: no config.json there" in done.stderr


# The tests themselves


def test_libraries_leave_nothing_behind(temporary_folder):
    """Neither here nor in another process."""
    left = tempfile.mkdtemp("tfds")
    code = "import tempfile; print(tempfile.mkdtemp('tfds'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert Path(left).parent == Path(done.stdout.strip()).parent == temporary_folder


def test_the_pinned_versions_are_within_the_wheels_bounds():
    """And what is about to change has an upper one."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = map(Requirement, project["dependencies"] + project["optional-dependencies"]["torch"])
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if "==" in line)
    for requirement in wanted:
        assert requirement.specifier.contains(pins[requirement.name]), requirement
        if requirement.name in ("jax", "flax", "optax", "orbax-checkpoint", "numpy", "torch"):
            assert "<" in str(requirement.specifier), requirement
