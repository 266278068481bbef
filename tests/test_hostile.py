"""What is no file, and small files that ask for much, in the place of every file that is read."""

import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import data_fakes as fakes
import numpy as np
import pickles
import pytest

from jaxnets.checkpoints import store
from jaxnets.config import default_config, to_json
from jaxnets.data import load_dataset, tfds_source
from jaxnets.data.cifar import CIFAR10
from jaxnets.data.images import read_image
from jaxnets.errors import UserError
from jaxnets.export import open_export
from jaxnets.files import pt_file, regular
from jaxnets.inference.network import load_member
from jaxnets.models.torch_names import check_names
from jaxnets.parity import layers_command
from jaxnets.port import load, save
from jaxnets.port.guess import Model
from jaxnets.port.orbax import read_model
from jaxnets.runs import workdir
from jaxnets.runs.log import STARTS, RunLog, first_start, read_rows, record_start
from tests.test_port import draw

pytestmark = pytest.mark.timeout(120)  # seconds; on the old code most of these never ended
TINY = Model("se_resnet", 10, {"num_blocks": (1,), "num_channels": 16, "se": "none"})
DEEP = {"num_blocks": (1000,) * 6, "num_channels": 16, "se": "none"}


def _twin_weights(path: Path) -> object:
    pytest.importorskip("torch")
    from torch_ref.start import read

    return read(path)


def _twin_checkpoint(path: Path) -> object:
    pytest.importorskip("torch")
    from torch_ref.checkpoint import restore

    return restore(path, None)


READERS: dict[str, Callable[[Path], object]] = {
    "config.json": lambda path: workdir.read_config(path.parent),
    "config.json ": lambda path: workdir.check_workdir(path.parent, None, "jaxnets.train"),
    "config.json  ": lambda path: read_model(path.parent),
    "metrics.jsonl": read_rows,
    "metrics.jsonl ": lambda path: RunLog(path.parent),
    "starts.jsonl": lambda path: record_start(path.parent, "jaxnets.train", [], {}),
    ".lock": lambda path: workdir.claim(path.parent),
    "a.png": lambda path: read_image(path, 32),
    "a.npy": layers_command._images,
    "a.safetensors": load,
    "a.safetensors ": _twin_weights,
    "a.pt": load,
    "a.pth": load,
    "b.pt": _twin_weights,
    "last.pt": _twin_checkpoint,
    "net.stablehlo": lambda path: open_export(path, "stablehlo"),
}


@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
@pytest.mark.parametrize("name", READERS)
def test_what_is_no_file_is_refused_at_once(name, kind, tmp_path):
    path = tmp_path / name.strip()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    with pytest.raises((UserError, OSError)) as error:
        READERS[name](path)
    assert str(tmp_path) in str(error.value)


def test_a_list_of_starts_may_be_anything(tmp_path):
    os.mkfifo(tmp_path / STARTS)
    assert first_start(tmp_path) == {}


@pytest.mark.parametrize("cifar", fakes.BOTH, ids=lambda c: c.name)
@pytest.mark.parametrize("packing", ["python", "binary"])
def test_a_pipe_among_the_files_of_cifar(cifar, packing, tmp_path, monkeypatch):
    monkeypatch.setattr(tfds_source, "_unreachable", lambda url: "no network")
    layout = getattr(cifar, packing)
    files = getattr(fakes, f"{packing}_files")(fakes.fake(cifar))
    folder = fakes.write_folder(tmp_path, layout.folder, files)
    for name in files:
        blob = (folder / name).read_bytes()
        (folder / name).unlink()
        os.mkfifo(folder / name)
        with pytest.raises(UserError, match="is no regular file"):
            load_dataset(cifar.name, tmp_path)
        (folder / name).unlink()
        (folder / name).write_bytes(blob)


def test_a_pipe_in_the_place_of_a_copy(tmp_path):
    fakes.write_folder(tmp_path, CIFAR10.python.folder, fakes.python_files(fakes.fake(CIFAR10)))
    (tmp_path / ".jaxnets-cache").mkdir()
    copy = tmp_path / ".jaxnets-cache" / "cifar10.npz"
    os.mkfifo(copy)
    load_dataset("cifar10", tmp_path)
    assert copy.is_file()  # made anew


def test_a_pipe_in_a_checkpoint(tmp_path):
    folder = tmp_path / "ported"
    save(folder, draw(TINY), model=TINY)
    for path in sorted((folder / "best" / "0").rglob("*")):
        if path.is_file():
            blob = path.read_bytes()
            path.unlink()
            os.mkfifo(path)
            try:
                with pytest.raises(UserError, match=r"is damaged \("):
                    store.read(folder, "best")
            finally:
                path.unlink()
                path.write_bytes(blob)


def torch_file(path: Path, opcodes: bytes) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", b"\x80\x02" + opcodes + b".")
        archive.writestr("a/version", "3\n")


TUPLES = b")q\x00" + b"h\x00\x86q\x00" * 60  # without POP, which torch does not know


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize(
    ("opcodes", "says"),
    [
        (b"}(" + TUPLES + b"K\x01u", "too often"),
        (b"}(" + pickles.text("net") + pickles.shared_lists(60) + b"u", "too often"),
        (b"]q\x00h\x00a", "too often"),
        # To hash it overflows the stack of C.
        (b"}()" + b"\x85" * 100_000 + b"K\x01u", "too deep"),
    ],
)
def test_what_torch_would_choke_on_is_not_given_to_it(opcodes, says, old, tmp_path):
    pytest.importorskip("torch")
    path = tmp_path / "a.pt"
    if old:
        path.write_bytes(b"\x80\x02" + opcodes + b".")
    else:
        torch_file(path, opcodes)
    with pytest.raises(UserError, match=says):
        load(path)
    with regular.open_file(path) as file, pytest.raises(ValueError, match=says):
        pt_file.check(file)


@pytest.mark.parametrize("old", [False, True])
def test_what_torch_writes_is_given_to_it(old, tmp_path):
    torch = pytest.importorskip("torch")
    weights = {name: torch.from_numpy(np.array(value)) for name, value in draw(TINY).items()}
    layer = torch.nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(layer.parameters())
    layer(torch.ones(2)).sum().backward()
    optimizer.step()
    shared = {"lr": 0.1, "shape": torch.Size([1, 2]), "layer": layer.weight, "kind": torch.float16}
    content = {"net": weights, "optimizer": optimizer.state_dict(), "a": shared, "b": [shared] * 9}
    torch.save(content, tmp_path / "a.pt", _use_new_zipfile_serialization=not old)
    with regular.open_file(tmp_path / "a.pt") as file:
        pt_file.check(file)
        assert file.tell() == 0
    assert load(tmp_path / "a.pt").keys() == weights.keys()


def test_a_file_that_says_it_has_thousands_of_blocks(command, tmp_path):
    """What a file says is bounded by the tensors that it holds."""
    torch = pytest.importorskip("torch")
    weights = draw(TINY)
    tensors = {name: torch.from_numpy(np.array(value)) for name, value in weights.items()}
    config = default_config()
    config.model.update({"name": TINY.name, "num_classes": 10, **DEEP})
    path = tmp_path / "a.pt"
    torch.save({"net": tensors, "config": config.to_dict(), "optimizer": {}}, path)
    for flags in ((), ("--with-optimizer",)):
        done = command("jaxnets.port.__main__", path, tmp_path / "out", *flags)
        assert done.code == 2
        assert "far more blocks than" in done.err
    save(tmp_path / "ported", weights, model=TINY)
    (tmp_path / "ported" / "config.json").write_text(to_json(config))
    with pytest.raises(UserError, match="far more blocks than"):
        load(tmp_path / "ported")
    with pytest.raises(UserError, match="far more blocks than"):
        load_member(tmp_path / "ported")
    assert sorted(os.listdir(tmp_path)) == ["a.pt", "ported"]


def test_thousands_of_names_cost_little():
    """Each missing name is compared with the unexpected ones, to name the nearest."""
    names = [f"residual_layer.{i}.bn1.running_mean" for i in range(3000)]
    wanted = {name.replace("layer", "layers"): () for name in names}
    with pytest.raises(UserError, match="3000 missing") as error:
        check_names(wanted, dict.fromkeys(names, ()))
    assert len(error.value.details) == 6000
    assert "(nearest: residual_layer.0.bn1.running_mean)" in error.value.details[0]


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"model": 3}',
        '{"model": {"name": 3}}',
        '{"model": {"name": "se_resnet"}, "optim": 5}',
        '{"model": {"name": "se_resnet"}, "data": {"mean": 1}}',
        '{"model": {"name": "se_resnet"}, "num_epochs": "x"}',
        '{"model": {"name": "se_resnet"}, "seed": ' + "9" * 5000 + "}",
    ],
)
def test_a_configuration_of_anything_else(text, tmp_path):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UserError, match=r"config\.json: cannot be read"):
        workdir.read_config(tmp_path)


def test_a_log_of_anything_else(tmp_path):
    log = tmp_path / "metrics.jsonl"
    lines = ('{"step": ' + "9" * 5000 + "}", "[" * 100_000, '{"step": 3}')
    log.write_text("\n".join(lines))
    assert read_rows(log) == [{"step": 3}]


@pytest.mark.parametrize(
    "change",
    [
        {"step": None},
        {"step": -1},
        {"step": 2**63},
        {"totals": [0.0]},
        {"totals": ["a"] * 5},
        {"progress": {"best": 1}},
        {"progress": {"seconds": "x"}},
        {"acc": "x"},
    ],
    ids=str,
)
def test_a_checkpoint_of_the_twin_with_anything_else_in_it(change, tmp_path):
    torch = pytest.importorskip("torch")
    from torch_ref import checkpoint as twins

    class Task:
        net, device = torch.nn.Linear(1, 1), "cpu"
        optimizer = torch.optim.SGD(net.parameters())
        averages: ClassVar = {}
        scaler = torch.amp.GradScaler("cpu", enabled=False)

    rest = {"step": 3, "acc": None, "totals": [0.0] * 5, "progress": {"best_step": 2}}
    twins.save(tmp_path / "last.pt", Task, rest)
    assert twins.restore(tmp_path / "last.pt", Task) == rest
    twins.save(tmp_path / "last.pt", Task, rest | change)
    with pytest.raises(UserError, match="the checkpoint cannot be read"):
        twins.restore(tmp_path / "last.pt", Task)
