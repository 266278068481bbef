"""Weight files and the command that ports them, without a twin in sight."""

import json
import os
import resource
import shutil
import sys
import zipfile

import ml_dtypes
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

import jaxnets
from jaxnets.checkpoints.store import Checkpoints
from jaxnets.config import default_config, to_json
from jaxnets.errors import UserError
from jaxnets.models.functional import split
from jaxnets.port import adapters, files, guess, load, save, to_state_dict, verify
from jaxnets.port import weights as port_weights
from jaxnets.port.guess import Model

TINY = Model("se_resnet", 10, {"num_blocks": (1,), "num_channels": 16, "se": "stem"})
PORT = "jaxnets.port.__main__"
COUNTER = "bn1.num_batches_tracked"


def draw(model: Model, seed: int = 0) -> dict[str, np.ndarray]:
    """Random weights of a model by PyTorch's names; those of one variable are one array."""
    rng = np.random.default_rng(seed)
    made = {}
    for slot in guess.describe(model):
        if slot.name.endswith("num_batches_tracked"):
            made[slot.path] = np.array(rng.integers(2**20))
        elif slot.path not in made:
            made[slot.path] = rng.uniform(0.1, 1, slot.shape).astype(np.float32)
    return {slot.name: made[slot.path] for slot in guess.describe(model)}


@pytest.fixture(scope="module")
def weights():
    return {**draw(TINY), COUNTER: np.array(2**40 + 1)}


@pytest.fixture
def source(weights, tmp_path):
    """A whole .safetensors file of the tiny model."""
    path = tmp_path / "source.safetensors"
    save(path, weights)
    return path


def assert_same(got, want):
    assert got.keys() == want.keys()
    for name, value in want.items():
        assert got[name].dtype == value.dtype, name
        assert got[name].shape == value.shape, name
        assert got[name].tobytes() == value.tobytes(), name


@pytest.mark.parametrize(
    "model",
    [
        TINY,
        Model("se_resnet", 7, {"num_blocks": (2, 1), "num_channels": 32, "se": "block"}),
        Model("se_resnet", 2, {"num_blocks": (1, 1), "num_channels": 3, "se": "none"}),
        Model(
            "se_resnet",
            10,
            {
                "num_blocks": (1, 2),
                "num_channels": 16,
                "se": "none",
                "conv_kernel_sizes": (5, 3),
                "shortcut_kernel_sizes": (1, 3),
            },
        ),
        Model(
            "mish_se_resnet18",
            10,
            {"se": True, "widths": (16, 16, 32, 48), "num_blocks": (1, 2, 1, 1)},
        ),
        Model(
            "mish_se_resnet18",
            10,
            {"se": False, "widths": (8, 16, 16, 16), "num_blocks": (1, 1, 1, 2)},
        ),
        *(
            Model("dense_se_resnet", 10, {"depth": 2, "widths": (16, 32, 32), "share": share})
            for share in ("none", "third", "second_third", "all")
        ),
        Model("resnet18", 100, {"num_blocks": (2, 2, 2, 2), "num_channels": 64}),
        *(Model(f"cifar100_v{i}", 100, {"width": 0.25}) for i in range(1, 6)),
        Model(
            "se_resnet",
            10,
            {"num_blocks": (1, 1), "num_channels": 12, "se": "stem", "se_reduction": 3},
        ),
        Model(
            "se_resnet",
            10,
            {"num_blocks": (1, 1), "num_channels": 16, "se": "none", "whiten": True},
        ),
        Model(
            "mish_se_resnet18",
            10,
            {"se": True, "widths": (8, 16, 16, 32, 32), "num_blocks": (1,) * 5, "se_reduction": 4},
        ),
        Model("mish_se_resnet18", 10, {"se": False, "widths": (8, 8), "num_blocks": (1, 2)}),
        Model(
            "dense_se_resnet",
            10,
            {"depth": 2, "widths": (16, 32, 32), "se_reduction": 4, "share": "all"},
        ),
        Model("cifar100_v5", 100, {"width": 0.25, "cell": "residual+fire+residual+fire"}),
    ],
    ids=str,
)
def test_guesses_the_model(model):
    slots = guess.describe(model)
    paths = {slot.path: float(i) for i, slot in enumerate(slots)}  # every variable its own value
    state_dict = {s.name: np.broadcast_to(np.float32(paths[s.path]), s.shape) for s in slots}
    assert guess.guess(state_dict) == model


def test_guess_says_what_is_missing_from_the_nearest_model(weights):
    without = {k: v for k, v in weights.items() if k != "seblock.conv1.bias"}
    with pytest.raises(UserError, match=r"nearest is se_resnet.*- seblock\.conv1\.bias"):
        guess.guess(without)
    with pytest.raises(UserError, match="no model here"):
        guess.guess({"encoder.weight": np.zeros(3)})


@pytest.mark.parametrize("dtype", adapters.DTYPES)
@pytest.mark.parametrize("name", ["a.safetensors", "folder"])
def test_files_keep_every_bit(weights, tmp_path, dtype, name):
    want = adapters.fit(weights, guess.describe(TINY), dtype)
    assert want["linear.weight"].dtype.name == dtype
    save(tmp_path / name, want)
    assert_same(load(tmp_path / name), want)
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_a_shared_kernel_is_stored_once(tmp_path):
    model = Model("dense_se_resnet", 10, {"depth": 3, "widths": (16, 16, 16), "share": "all"})
    weights, path = draw(model), tmp_path / "a.safetensors"
    save(path, weights)
    with safe_open(path, "np") as file:
        stored, said = file.keys(), file.metadata()
    kernels = [f"layer1.{b}.conv{i}.weight" for b in range(3) for i in (1, 2)][1:]
    assert [name for name in kernels if name in stored] == kernels[:1]
    assert {said[name] for name in kernels[1:]} == {kernels[0]}
    assert len(stored) == len({slot.path for slot in guess.describe(model)})
    found = load(path)
    assert_same(found, weights)
    assert [*found] == sorted(weights)
    assert guess.guess(found) == model
    save(tmp_path / "again.safetensors", found)
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()
    save_file(weights, tmp_path / "old.safetensors", {"format": "pt"})  # each name an array
    assert (tmp_path / "old.safetensors").stat().st_size > 1.5 * path.stat().st_size
    assert_same(load(tmp_path / "old.safetensors"), weights)
    save(tmp_path / "model.safetensors", to_state_dict(verify.build(model, weights, "float32")))
    assert (tmp_path / "model.safetensors").read_bytes() == path.read_bytes()


def test_equal_arrays_are_not_shared_ones(weights, tmp_path):
    """What training may change apart stays apart."""
    same = {name: np.array(value) for name, value in weights.items()}
    same["bn1.weight"] = same["bn1.bias"].copy()
    same["a"], same["b"] = np.zeros((0, 2)), np.zeros((0, 2))
    save(tmp_path / "a.safetensors", same)
    with safe_open(tmp_path / "a.safetensors", "np") as file:
        assert sorted(file.keys()) == sorted(same)
        assert file.metadata() == {"format": "pt"}


def test_ports_a_training_run_and_back(command, refused, tmp_path):
    weights = draw(TINY)
    _, params, stats = split(verify.build(TINY, weights, "float32"))
    run = tmp_path / "run"
    run.mkdir()
    config = default_config()
    config.model.update({"name": TINY.name, **TINY.options})
    (run / "config.json").write_text(to_json(config))
    state = {"params": params, "stats": stats, "step": np.int32(7)}
    store = Checkpoints(run, keep=1)
    store.save_last(7, (state, {"steps": np.int32(0)}), {"epoch": 1})

    out, back = tmp_path / "out.safetensors", tmp_path / "back"
    assert "no checkpoint best" in refused(PORT, run, out)
    done = command(PORT, run, out, "--checkpoint", "last")
    assert done.code == 0, done.err
    assert "config.json" in done.out
    assert "every bit read back" in done.out
    assert_same(load(out), weights)

    assert_same(load(run / "checkpoints" / "7"), weights)

    done = command(PORT, out, back)
    assert done.code == 0, done.err
    assert "se_resnet, num_classes=10" in done.out
    assert "from names and shapes" in done.out
    assert_same(load(back), weights)
    other = verify.build(TINY, draw(TINY, seed=1), "float32")
    assert_same(to_state_dict(jaxnets.load_weights(other, back)), weights)


def test_dtype_and_prefixes(weights, tmp_path):
    wrapped = {
        f"_orig_mod.module.{k}".replace("bn1.", "bn1._orig_mod."): v for k, v in weights.items()
    }
    save(tmp_path / "a.safetensors", wrapped)
    done = port_weights.port(
        tmp_path / "a.safetensors", tmp_path / "b.safetensors", dtype="bfloat16"
    )
    got = load(tmp_path / "b.safetensors")
    assert_same(got, done.state_dict)
    want = weights["conv1.weight"].astype(ml_dtypes.bfloat16)
    assert got["conv1.weight"].tobytes() == want.tobytes()
    assert got[COUNTER] == 2**40 + 1


def test_without_torch(command, refused, source, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    done = command(PORT, source, tmp_path / "folder")
    assert done.code == 0, done.err
    assert "destination in JAX, source in JAX" in done.out
    assert "needs torch" in refused(PORT, source, tmp_path / "a.pt")
    (tmp_path / "b.pt").write_bytes(b"x")
    assert "needs torch" in refused(PORT, tmp_path / "b.pt", tmp_path / "c")


def test_verification_finds_a_wrong_port(source, tmp_path, monkeypatch):
    run = verify.run_jax

    def wrong(model, weights, *rest):
        return run(model, {**weights, "bn1.bias": 1 + weights["bn1.bias"]}, *rest)

    monkeypatch.setattr("jaxnets.port.verify.run_jax", wrong)
    monkeypatch.setattr("jaxnets.port.verify.run_torch", run)
    with pytest.raises(UserError, match="the port is wrong"):
        port_weights.port(source, tmp_path / "b.safetensors")
    good = load(source)
    with pytest.raises(UserError, match=r"another bn1\.bias"):
        adapters.compare({**good, "bn1.bias": -good["bn1.bias"] + 1}, good)
    assert os.listdir(tmp_path) == [source.name]


def changed(**values):
    return lambda path, weights: save(
        path, {**weights, **{k.replace("__", "."): v for k, v in values.items()}}
    )


def header(path, edit):
    """Rewrites the JSON header of a safetensors file."""
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    text = edit(data[8 : 8 + size].decode())
    path.write_bytes(len(text).to_bytes(8, "little") + text.encode() + data[8 + size :])


def lie(path, weights):
    save(path, weights)
    header(path, lambda text: text.replace("[16,3,3,3]", "[16,3,3,9]", 1))


def unknown_dtype(path, weights):
    save(path, weights)
    header(path, lambda text: text.replace('"F32"', '"U32"', 1))


def truncated(path, weights):
    save(path, weights)
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize(
    ("write", "args", "message"),
    [
        (lambda path, weights: None, (), "no such file"),
        (lambda path, weights: path.mkdir(), (), "no such file"),
        (lambda path, weights: path.write_bytes(b""), (), "not a safetensors file"),
        (lambda path, weights: path.write_text("{}" * 99), (), "not a safetensors file"),
        (lambda path, weights: path.write_bytes(b"\xff" * 8), (), "not a safetensors file"),
        (truncated, (), "not a safetensors file"),
        (lie, (), "not a safetensors file"),
        (unknown_dtype, (), "dtype 'U32'"),
        (lambda path, weights: save(path, {}), (), "no tensors"),
        (changed(bn1__bias=np.full(16, np.nan, "f4")), (), "bn1.bias: 16 of 16 values are NaN"),
        (changed(bn1__bias=np.zeros(16, "i8")), (), "bn1.bias: of dtype int64"),
        (changed(bn1__bias=np.full(16, 1e5, "f4")), ("--dtype", "float16"), "beyond the range"),
        (changed(module__bn1__bias=np.zeros(16, "f4")), (), "names that differ only in"),
        (changed(), ("--model", "resnet"), "unknown model"),
        (changed(), ("--model", "se_resnet", "--option", "depth=2"), "unknown option"),
        (changed(), ("--num-classes", "9"), "--model"),
        (changed(), ("--dtype", "float3"), "float32"),
    ],
)
def test_bad_input_is_one_line_and_no_output(refused, weights, tmp_path, write, args, message):
    path = tmp_path / "source.safetensors"
    write(path, weights)
    before = sorted(os.listdir(tmp_path))
    for name in ("out.safetensors", "out"):
        assert message in refused(PORT, path, tmp_path / name, *args)
    assert sorted(os.listdir(tmp_path)) == before


TELL = (
    *("--model", "se_resnet", "--num-classes", "9"),
    *("--option", "num_blocks=1,", "--option", "num_channels=16"),
)


@pytest.mark.parametrize(
    ("write", "args", "lines"),
    [
        (changed(other=np.zeros(16, "f4")), (), ["+ other"]),
        (changed(), TELL, ["~ linear.weight 10x16 vs 9x16", "~ linear.bias 10 vs 9"]),
    ],
)
def test_what_does_not_fit_is_listed(command, weights, tmp_path, write, args, lines):
    path = tmp_path / "source.safetensors"
    write(path, weights)
    done = command(PORT, path, tmp_path / "out", *args)
    first, *details = done.err.splitlines()
    assert done.code == 2
    assert first.startswith(f"error: {path}: " if args else "error: no model fits")
    assert lines[0] in first
    assert details == lines
    assert os.listdir(tmp_path) == [path.name]


def test_both_lists_are_whole(command, source, tmp_path):
    """Every name of either side, once, however many there are."""
    done = command(PORT, source, tmp_path / "out", "--model", "resnet18")
    first, *details = done.err.splitlines()
    wanted = {s.name: s.shape for s in guess.describe(Model("resnet18", 10, {}))}
    given = {name: value.shape for name, value in load(source).items()}
    assert len(wanted) > 100
    listed = {mark: [d[2:].split()[0] for d in details if d[0] == mark] for mark in "-+~"}
    assert listed["-"] == [name for name in wanted if name not in given]
    assert listed["+"] == [name for name in given if name not in wanted]
    assert listed["~"] == [k for k in wanted if k in given and given[k] != wanted[k]]
    assert sum(map(len, listed.values())) == len(details)
    assert "- layer1.0.conv1.weight (nearest: residual_layers.0.0.conv1.weight)" in details
    for mark, kind in (("-", "missing"), ("~", "of another shape"), ("+", "unexpected")):
        assert f"{len(listed[mark])} {kind} ({mark})" in first
    assert os.listdir(tmp_path) == [source.name]


def test_disagreeing_copies(tmp_path):
    model = Model("dense_se_resnet", 10, {"depth": 2, "widths": (16, 16, 16), "share": "third"})
    weights = draw(model)
    weights["layer3.1.conv1.weight"] = weights["layer3.1.conv1.weight"] + 1
    save(tmp_path / "a.safetensors", weights)
    with pytest.raises(UserError, match=r"layer3\.1\.conv1\.weight and layer3\.0\.conv2.* differ"):
        port_weights.port(tmp_path / "a.safetensors", tmp_path / "b.safetensors", model=model)
    assert guess.guess(weights).options["share"] == "none"


def test_destinations_are_safe(refused, source, weights, tmp_path):
    kept = {"a.safetensors": b"mine", "a.pt": b"mine"}
    for name, data in kept.items():
        (tmp_path / name).write_bytes(data)
        assert "--force" in refused(PORT, source, tmp_path / name)
        assert (tmp_path / name).read_bytes() == data
    run = tmp_path / "run"
    save(run, weights, model=TINY)
    (run / "metrics.jsonl").write_text("{}")
    assert "--force" in refused(PORT, source, run)
    assert "holds more" in refused(PORT, source, run, "--force")
    assert (run / "metrics.jsonl").exists()
    assert "names no format" in refused(PORT, source, tmp_path / "a.onnx")
    assert "no folder" in refused(PORT, source, tmp_path / "none" / "a.pt")
    (tmp_path / "plain").write_text("mine")
    assert "no folder" in refused(PORT, source, tmp_path / "plain", "--force")
    (tmp_path / "dir.pt").mkdir()
    assert "a folder" in refused(PORT, source, tmp_path / "dir.pt", "--force")


@pytest.mark.parametrize("name", ["a.safetensors", "folder"])
def test_force_replaces(weights, tmp_path, name):
    other = {**weights, "bn1.bias": weights["bn1.bias"] + 1}
    save(tmp_path / name, weights)
    save(tmp_path / name, other, force=True)
    assert_same(load(tmp_path / name), other)


@pytest.mark.parametrize("name", ["a.safetensors", "a.pt", "folder"])
def test_a_full_disk_leaves_the_destination(weights, tmp_path, name):
    if name.endswith(".pt"):
        pytest.importorskip("torch")
    save(tmp_path / name, weights)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8000, limits[1]))
    try:
        with pytest.raises(UserError, match="cannot be written"):
            save(tmp_path / name, weights, force=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert os.listdir(tmp_path) == [name]
    assert_same(load(tmp_path / name), weights)


@pytest.mark.parametrize("damage", ["config", "model", "data", "missing"])
def test_bad_folders(command, weights, tmp_path, damage):
    run = tmp_path / "run"
    save(run, weights)
    config = run / "config.json"
    if damage == "config":
        config.write_text("{")
    elif damage == "model":
        config.write_text(json.dumps({"model": {"name": "resnet18"}}))
    elif damage == "data":
        for path in (run / "best" / "0" / "state").rglob("*"):
            if path.is_file():
                path.write_bytes(path.read_bytes()[:-20])
    else:
        shutil.rmtree(run / "best")
    done = command(PORT, run, tmp_path / "out.safetensors")
    assert done.code == 2
    assert (done.err.count("\n") > 100) == (damage == "model")
    assert os.listdir(tmp_path) == ["run"]


class Bomb:
    """Unpickled by a reader that runs code, it makes a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


def test_a_pt_file_never_runs_code(refused, tmp_path):
    torch = pytest.importorskip("torch")
    mark, path = tmp_path / "mark", tmp_path / "a.pt"
    for old in (False, True):
        content = {"net": {"conv1.weight": torch.zeros(1)}, "config": Bomb(mark)}
        torch.save(content, path, _use_new_zipfile_serialization=not old)
        assert "more than weights" in refused(PORT, path, tmp_path / "out")
    assert sorted(os.listdir(tmp_path)) == ["a.pt"]


def test_bad_pt_files(refused, weights, tmp_path):
    torch = pytest.importorskip("torch")
    path = tmp_path / "a.pt"

    def refuse(content) -> str:
        torch.save(content, path)
        return refused(PORT, path, tmp_path / "out")

    assert "no state_dict" in refuse([1, 2])
    assert "no state_dict" in refuse({"epoch": 3})
    assert "no tensors" in refuse({"net": {}})
    assert "overlap" in refuse({"conv1.weight": torch.zeros(1).expand(10**6, 10**6)})
    assert "cannot be read" in refuse({"conv1.weight": torch.zeros(3).to_sparse()})
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "x")
    assert "not a PyTorch weight file" in refused(PORT, path, tmp_path / "out")
    assert os.listdir(tmp_path) == ["a.pt"]


def test_suffixes_are_what_the_errors_say():
    with pytest.raises(UserError, match=r"\.pt, \.pth, \.safetensors"):
        files.load("weights.bin")
