"""The cases of the fuzzing, kind by kind.

    python -m tests.fuzz_cases SEED FOLDER KIND:FROM:TO ...

Whatever is typed or read: success, or one clear line and exit code 2, and nothing changed.
"""

import contextlib
import functools
import hashlib
import importlib
import io
import json
import os
import pickle
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from jaxnets import cli, signals
from jaxnets.checkpoints.folder import SUMS, write_sums
from jaxnets.data import cifar, tfds_source
from jaxnets.errors import UserError
from jaxnets.files.restricted_pickle import restricted_loads
from jaxnets.inference.inputs import read_inputs
from tests import data_fakes as fakes
from tests.commands import main_of
from tests.fuzz_damage import altered, damaged
from tests.fuzz_lines import command_line, value
from tests.fuzz_pickles import random_pickle
from tests.fuzzing import Part, Voice

_DATA = "jaxnets.data"
CONFIG = str(Path(__file__).parent / "tiny_config.py")
# What a run may leave beside its files, and what it never may.
KEPT, LEFT_BEHIND = (".lock", "__pycache__"), (".tmp", ".new", ".old", ".orbax-checkpoint-tmp")


def outcome(module: str, args: list[str]) -> int:
    """Runs a command as `python -m` would; its exit code, after looking at what it says."""
    out, err, argv = io.StringIO(), io.StringIO(), sys.argv
    sys.argv = [module, *args]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                cli.run(main_of(module))
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
    """What is in a folder: every file's digest, and the names of folders."""
    return {
        str(path.relative_to(folder)): (
            hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "a folder"
        )
        for path in sorted(folder.rglob("*"))
        if not any(part in KEPT for part in path.relative_to(folder).parts)
    }


def command(here: Path, module: str, *args: object) -> int:
    """`outcome`, and that a command which fails changes nothing, and none leaves half a file."""
    before = contents(here)
    code = outcome(module, list(map(str, args)))
    after = contents(here)
    if code == 2:
        assert after == before, (module, args, sorted(after.items() ^ before.items()))
    left = [name for name in after if name.endswith(LEFT_BEHIND) and name not in before]
    assert not left, (module, args, left)
    assert not os.listdir(tempfile.gettempdir()), (module, args, os.listdir(tempfile.gettempdir()))
    return code


def check_plain(made: Any, size: int) -> None:
    """That a value is of arrays of their own memory and plain data, not larger than the file."""
    seen: dict[int, Any] = {}
    held = 0

    def look(part: Any) -> None:
        nonlocal held
        if id(part) in seen:
            return
        seen[id(part)] = part
        kind = type(part)
        if kind in (list, tuple):
            for item in part:
                look(item)
        elif kind is dict:
            for key, item in part.items():
                look(key)
                look(item)
        elif kind is np.ndarray:
            assert part.flags.owndata
            held += part.nbytes
            part.tobytes()
        else:
            plain = kind in (str, bytes, int, float, bool, type(None))
            assert plain or isinstance(part, np.generic), kind

    look(made)
    assert held <= size, (held, size)


# What each kind needs, made once: a function of a folder; and a case: of that, in an empty folder.


def pickles_case(_: None, here: Path, random: Random) -> None:
    data = random_pickle(random)
    with contextlib.suppress(UserError):
        check_plain(restricted_loads(data, "a file"), len(data))


def inputs(folder: Path) -> dict[str, bytes]:
    """An input of predict of every form, by file name."""
    from PIL import Image

    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    content = {b"data": images.reshape(3, -1), b"ids": ["a", 8, 9]}
    for protocol in (0, 2, 4, 5):
        (folder / f"{protocol}.pkl").write_bytes(pickle.dumps(content, protocol))
    np.save(folder / "a.npy", images)
    np.savez(folder / "a.npz", data=images, ids=["a", "b", "c"])
    np.savez_compressed(folder / "b.npz", data=images)
    for suffix in ("png", "jpg", "gif", "tiff", "bmp", "webp", "ppm"):
        Image.fromarray(images[0]).save(folder / f"a.{suffix}")
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def bad_input(files: dict[str, bytes], here: Path, random: Random) -> Path:
    """An input that was damaged, or made by the grammar of pickles."""
    path = here / random.choice(sorted(files))
    data = damaged(files[path.name], random)
    if path.suffix == ".pkl" and random.random() < 0.5:
        data = random_pickle(random)
        if random.random() < 0.5:
            odd = altered({"data": np.zeros((2, 32, 32, 3), "u1"), "ids": [1, "b"]}, random)
            with contextlib.suppress(Exception):
                data = pickle.dumps(odd, random.choice((0, 2, 4, 5)))
    path.write_bytes(data)
    return path


def inputs_case(files: dict[str, bytes], here: Path, random: Random) -> None:
    with contextlib.suppress(UserError):
        read = read_inputs(bad_input(files, here, random), 32)
        assert read.images.shape[1:] == (32, 32, 3)
        assert len(read.ids) == len(read.images)


def predict(folder: Path) -> tuple[Path, dict[str, bytes]]:
    (folder / "inputs").mkdir()
    return trained(folder), inputs(folder / "inputs")


def predict_case(given: tuple[Path, dict[str, bytes]], here: Path, random: Random) -> None:
    workdir, files = given
    path = bad_input(files, here, random)
    output = here / "out.csv"
    code = command(
        here, "jaxnets.predict", "--workdir", workdir, "--input", path, "--output", output
    )
    assert output.exists() == (code == 0)


def cifar_case(_: None, here: Path, random: Random) -> None:
    """A publisher's folder or archive with one damaged file in it."""
    which = random.choice(fakes.BOTH)
    packing = random.choice(("python", "binary"))
    layout = getattr(which, packing)
    how = {"protocol": random.choice((0, 2, 5))} if random.random() < 0.7 else {"python2": True}
    how = how if packing == "python" else {}
    files = getattr(fakes, f"{packing}_files")(fakes.fake(which), **how)
    name = random.choice(sorted(files))
    match random.randrange(4):
        case 0 if packing == "python":
            files[name] = random_pickle(random)
        case 1 if packing == "python" and not how.get("python2"):
            with contextlib.suppress(Exception):
                files[name] = pickle.dumps(altered(pickle.loads(files[name]), random))
        case 2:
            del files[name]
        case _:
            files[name] = damaged(files[name], random)
    if random.random() < 0.5:
        fakes.write_folder(here, layout.folder, files)
    else:
        path = fakes.write_archive(here / layout.archive, layout.folder, files)
        if random.random() < 0.5:
            path.write_bytes(damaged(path.read_bytes(), random))
    command_on_data(here, which)


def command_on_data(here: Path, which: cifar.Cifar) -> None:
    """Reads a data set twice: the second time it may be out of the cache."""
    code = command(here, _DATA, "--name", which.name, "--dir", here)
    assert command(here, _DATA, "--name", which.name, "--dir", here) == code


def tfds(folder: Path) -> Path:
    """A data set prepared by TFDS."""
    layout = cifar.CIFAR10.binary
    files = fakes.binary_files(fakes.fake(cifar.CIFAR10))
    archive = fakes.write_archive(folder / layout.archive, layout.folder, files)
    package = importlib.import_module("tensorflow_datasets")
    importlib.import_module("array_record.python.array_record_module")
    package.download.DownloadManager.download = lambda self, url: archive
    builder = tfds_source._builder_class(package, cifar.CIFAR10)(data_dir=folder / "made")
    builder.download_and_prepare(download_dir=folder / "got", file_format="array_record")
    assert outcome(_DATA, ["--name", "cifar10", "--dir", str(folder / "made")]) == 0
    return folder / "made" / "cifar10"


def tfds_case(made: Path, here: Path, random: Random) -> None:
    shutil.copytree(made, here / "cifar10")
    path = random.choice(sorted(p for p in here.rglob("*") if p.is_file()))
    if path.suffix == ".json" and random.random() < 0.7:
        path.write_text(
            json.dumps(altered(json.loads(path.read_text()), random, sharing=False), default=str)
        )
    else:
        path.write_bytes(damaged(path.read_bytes(), random))
    command_on_data(here, cifar.CIFAR10)


@functools.cache
def trained(folder: Path) -> Path:
    """The workdir of a finished run."""
    workdir = folder.parent / "trained"
    args = ["--config", CONFIG, "--config.num_epochs=1", "--workdir", str(workdir)]
    assert outcome("jaxnets.train", args) == 0
    return workdir


def workdirs_case(workdir: Path, here: Path, random: Random) -> None:
    """A run in which one file was damaged: summed up, evaluated, ported, gone on with."""
    run = here / "run"
    shutil.copytree(workdir, run, ignore=shutil.ignore_patterns("report", "events.*", ".lock"))
    files = sorted(p for p in run.rglob("*") if p.is_file())
    texts = [run / "config.json", run / "metrics.jsonl", *run.rglob("metadata")]
    path = random.choice(random.choice((files, texts)))
    try:
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        indented = False
    except ValueError:
        lines, indented = [], path.suffix == ".json"
    if indented:
        lines = [json.loads(path.read_text())]
    if lines and random.random() < 0.7:
        lines = altered(lines, random, sharing=False)
        path.write_text("".join(json.dumps(line, default=str) + "\n" for line in lines))
    else:
        path.write_bytes(damaged(path.read_bytes(), random))
    for sums in run.rglob(SUMS) if random.random() < 0.7 else ():
        if sums.is_file() and path != sums:  # whoever means harm mends the checksums too
            sums.unlink()
            write_sums(sums.parent)
    out = here / random.choice(("out", "out.safetensors", "out.pt", "twin/last.pt"))
    whole = ("--with-optimizer",) if random.random() < 0.5 else ()
    command(here, "jaxnets.results", run)
    commands = (
        ("jaxnets.port", run, out, *whole),
        ("jaxnets.evaluate", "--workdir", run),
        ("jaxnets.report", "--workdir", run, "--output", here / "report"),
        ("jaxnets.train", "--config", CONFIG, "--config.num_epochs=1", "--workdir", run),
    )
    # One of them a case, for the limit of time is a case's.
    ((module, *args),) = random.choices(commands, (70, 15, 3, 12))
    if module == "jaxnets.train":  # sets damaged checkpoints aside before it gives up
        outcome(module, list(map(str, args)))
    else:
        command(here, module, *args)


@functools.cache
def twins(folder: Path) -> Path:
    """A run of torch_ref.train that was stopped."""
    workdir = folder.parent / "trained_by_the_twin"
    args = ["--config", CONFIG, "--workdir", str(workdir), "--config.num_epochs=1"]
    assert outcome("torch_ref.train", args) == 0
    return workdir


def torch_file(workdir: Path, path: Path, random: Random) -> None:
    """A .pt file: a damaged checkpoint, one with other values, or one by the grammar of pickles."""
    import torch

    source = workdir / "last.pt"
    kind = random.randrange(10)
    if kind < 2:
        path.write_bytes(damaged(source.read_bytes(), random))
        return
    if kind < 4:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a/data.pkl", random_pickle(random))
            archive.writestr("a/version", "3\n")
            archive.writestr("a/data/0", bytes(4 * random.randrange(9)))
        return
    content = torch.load(source, weights_only=True)
    if kind < 6:  # as others write it
        layer = torch.nn.ParameterList(torch.nn.Parameter(v) for v in content["net"].values()
                                       if v.dtype == torch.float32)  # fmt: skip
        make = random.choice((torch.optim.SGD, torch.optim.AdamW, torch.optim.RMSprop))
        content = {"net": content["net"], "epoch": 3, "acc": 50.0,
                   "optimizer": make(layer.parameters(), lr=0.1).state_dict()}  # fmt: skip
    elif kind == 6:
        content = content["net"]
    with warnings.catch_warnings(action="ignore"):
        content = as_tensors(altered(content, random))
        try:
            torch.save(content, path, _use_new_zipfile_serialization=random.random() < 0.8)
        except Exception:  # what cannot be written is no case
            path.write_bytes(b"")


def as_tensors(tree: Any) -> Any:
    """Arrays as tensors, which is what torch opens without running code."""
    import torch

    if isinstance(tree, np.ndarray):
        return torch.from_numpy(tree)
    if isinstance(tree, dict):
        return {key: as_tensors(value) for key, value in tree.items()}
    # Lists that share their parts stay as they are: to go through them would take for ever.
    return tree


def port_case(workdir: Path, here: Path, random: Random) -> None:
    path = here / random.choice(("a.pt", "a.pth", "a.safetensors", "last.pt"))
    if path.suffix == ".safetensors":
        import torch
        from safetensors.torch import save_file

        net = torch.load(workdir / "last.pt", weights_only=True)["net"]
        save_file({name: value.contiguous() for name, value in net.items()}, path)
        path.write_bytes(damaged(path.read_bytes(), random))
    else:
        torch_file(workdir, path, random)
    out = here / random.choice(("out", "out.safetensors", "out.pt", "twin/last.pt"))
    flags = random.choice(
        (
            (),
            ("--with-optimizer",),
            ("--with-optimizer",),
            ("--with-optimizer", "--config", CONFIG),
            ("--with-optimizer", "--config", CONFIG, "--step", value(random)),
            ("--model", "se_resnet"),
            ("--dtype", "bfloat16", "--force"),
        )
    )
    if any("\0" in flag for flag in flags):
        return
    command(here, "jaxnets.port", path, out, *flags)


def twin_case(workdir: Path, here: Path, random: Random) -> None:
    """torch_ref.train: gone on with from damaged files, or begun with damaged weights."""
    run, args = here / "run", ["--config", CONFIG, "--config.num_epochs=1"]
    if random.random() < 0.3:
        path = here / random.choice(("init.pt", "init.safetensors"))
        torch_file(workdir, path, random)
        args += ["--init", path]
    else:
        shutil.copytree(workdir, run, ignore=shutil.ignore_patterns("events.*", ".lock"))
        path = run / random.choice(("last.pt", "last.pt", "config.json", "metrics.jsonl"))
        if path.suffix == ".pt":
            torch_file(workdir, path, random)
        else:
            path.write_bytes(damaged(path.read_bytes(), random))
    command(here, "torch_ref.train", *args, "--workdir", run)


def no_training(folder: Path) -> list[str]:
    """Trainings end where the first step would be compiled: it is traced, which finds misfits."""
    import jax

    from jaxnets import config as configs
    from jaxnets.train import loop
    from jaxnets.train.step import Totals, train_step

    def trace(config, run, workdir, **_):
        step = functools.partial(train_step, run.task, size=run.task.batch_size)
        data = run.data
        order = jax.ShapeDtypeStruct(data.train_labels.shape, "int32")
        jax.eval_shape(step, run.state, Totals.zero(), data.train_images, data.train_labels, order)
        return 0

    loop.train = trace

    def offline(files, root):
        raise UserError("no network")

    tfds_source.prepare = offline
    return sorted(configs.flatten(configs.read(CONFIG).to_dict()))


def config_case(keys: list[str], here: Path, random: Random) -> None:
    """Every key of the configuration."""
    import jax

    run = here / "run"
    key = f"--config.{random.choice(keys)}={value(random)}"
    code = command(here, "jaxnets.train", "--config", CONFIG, key, "--workdir", run)
    assert run.exists() == (code == 0), key
    jax.config.update("jax_enable_x64", False)


def line_case(_: list[str], here: Path, random: Random) -> None:
    """Every command line."""
    import jax

    (here / "a").write_text("kept")
    os.environ["JAXNETS_DATA"] = str(here)
    command(here, *command_line(random))
    jax.config.update("jax_enable_x64", False)


def recipe_case(_: None, here: Path, random: Random) -> None:
    """A recipe's file that was damaged."""
    path = here / "recipe.py"
    path.write_bytes(damaged(Path(CONFIG).read_bytes(), random))
    assert command(here, "jaxnets.train", "--config", path, "--print-config") in (0, 2)


def _forever(_: None, here: Path, random: Random) -> None:
    while True:
        pass


def _command(do: Callable[[Path], object]) -> Callable[[None, Path, Random], None]:
    """A case of a command that does something it must not."""

    def case(_: None, here: Path, random: Random) -> None:
        from jaxnets.results import __main__ as results

        (here / "b").write_text("before")
        main, results.main = results.main, lambda argv: do(here)
        try:
            command(here, "jaxnets.results")
        finally:
            results.main = main

    return case


def _change(here: Path) -> None:
    (here / "b").write_text("after")
    raise UserError("no")


# What must be found out; with these the fuzzing itself is tested.
BUGS: dict[str, "Case"] = {
    "bug_left": _command(lambda here: (here / "a.tmp").touch()),
    "bug_changed": _command(_change),
    "bug_traceback": _command(lambda here: [][0]),
    "bug_crash": lambda _, here, random: os.kill(os.getpid(), signal.SIGSEGV),
    "bug_slow": _forever,
    "bug_wait": lambda _, here, random: time.sleep(1000),
}


Prepare = Callable[[Path], Any]
Case = Callable[[Any, Path, Random], None]
KINDS: dict[str, tuple[Prepare | None, Case]] = {
    "pickles": (None, pickles_case),
    "inputs": (inputs, inputs_case),
    "predict": (predict, predict_case),
    "cifar": (None, cifar_case),
    "tfds": (tfds, tfds_case),
    "workdirs": (trained, workdirs_case),
    "port": (twins, port_case),
    "twin": (twins, twin_case),
    "recipe": (None, recipe_case),
    # The rest comes last, for it replaces what trains.
    "config": (no_training, config_case),
    "line": (no_training, line_case),
    **{kind: (None, case) for kind, case in BUGS.items()},
}


def main(seed: str, folder: Path, parts: list[Part]) -> None:
    """Runs the cases and tells of each."""
    say = Voice()
    say("prepare")
    shutil.rmtree(folder / "work", ignore_errors=True)
    for name in ("work", "work/tmp"):
        (folder / name).mkdir(parents=True)
    work = folder / "work"
    os.environ["TMPDIR"] = tempfile.tempdir = str(work / "tmp")
    os.environ["XDG_CACHE_HOME"] = str(work / "cache")
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(work / "cache" / "torch")  # torch makes it
    signals.listen = lambda: None  # it would outlast the command
    _without_running_networks()
    for kind, start, stop in parts:
        prepare, case = KINDS[kind]
        say("prepare")
        made = None
        if prepare is not None:
            (work / kind).mkdir()
            made = prepare(work / kind)
        for number in range(start, stop):
            for left in (work / "tmp").iterdir():  # of what was before the case
                shutil.rmtree(left) if left.is_dir() else left.unlink()
            here = work / "case"
            here.mkdir()
            os.chdir(here)
            say("case", kind=kind, number=number)
            try:
                case(made, here, Random(f"{seed}/{kind}/{number}"))
            except Exception:
                say("failed", text=traceback.format_exc(limit=-12)[-4000:])
            os.chdir(work)
            shutil.rmtree(here)
    say("end")


def _without_running_networks() -> None:
    """What port computes to verify itself is no matter of what it reads, and takes seconds."""
    from jaxnets.port import weights
    from jaxnets.port.runs import convert
    from jaxnets.port.verify import Differences

    zero = Differences(0.0, 0.0, 0.0, "not compared")
    weights.differences = convert.differences = lambda *_, **__: zero


if __name__ == "__main__":
    _seed, _folder, *_parts = sys.argv[1:]
    main(
        _seed,
        Path(_folder).absolute(),
        [Part(kind, int(a), int(b)) for kind, a, b in (part.split(":") for part in _parts)],
    )
