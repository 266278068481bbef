"""Orbax checkpoints that jaxnets did not write, whatever tree they hold, and where a port goes."""

import os
import re

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from flax import nnx

import jaxnets
from jaxnets import UserError
from jaxnets.port import from_state_dict, guess, load, orbax, to_state_dict, weights
from jaxnets.port.guess import Model
from jaxnets.port.verify import Differences

TINY = Model("se_resnet", 10, {"num_blocks": (1,), "num_channels": 16, "se": "stem"})
DENSE = Model("dense_se_resnet", 10, {"depth": 2, "widths": (16, 16, 16), "share": "all"})
PORT = "jaxnets.port.__main__"


def filled(model: Model) -> nnx.Module:
    """A model with other values everywhere."""
    rng, made, values = np.random.default_rng(0), model.build("float32"), {}
    for slot in guess.describe(model):
        value = rng.uniform(0.5, 1.5, slot.shape).astype("f4")
        value = np.int64(7) if slot.name.endswith("tracked") else value
        values[slot.name] = values.get(slot.path, value)
        values[slot.path] = values[slot.name]
    from_state_dict(made, {s.name: values[s.name] for s in guess.describe(model)})

    def draw(x):
        is_key = jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)
        return jax.random.key(0) if is_key else jnp.zeros(x.shape, x.dtype)

    nnx.update(made, jax.tree.map(draw, nnx.state(made, nnx.RngState)))
    return made


@pytest.fixture(scope="module")
def model() -> nnx.Module:
    return filled(TINY)


def collections(model: nnx.Module) -> dict:
    _, params, stats, _ = nnx.split(model, nnx.Param, nnx.BatchStat, ...)
    return {"params": nnx.to_pure_dict(params), "batch_stats": nnx.to_pure_dict(stats)}


def linen(tree):
    """As Linen has it: lists of layers by names with numbers, no counters."""
    flat = nnx.traversals.flatten_mapping(tree)
    out = {}
    for path, value in flat.items():
        if path[-1] != "num_batches_tracked":
            name = "_".join(map(str, path[:4])) if path[1] == "residual_layers" else None
            parts = (path[0], name.removeprefix(f"{path[0]}_"), *path[4:]) if name else path
            out[parts] = value
    return nnx.traversals.unflatten_mapping(out)


def standard(path, tree):
    with ocp.StandardCheckpointer() as writer:
        writer.save(path, tree)


def pytree(path, tree):
    with ocp.PyTreeCheckpointer() as writer:
        writer.save(path, tree)


def manager(path, tree):
    with ocp.CheckpointManager(path) as writer:
        for step in (3, 10):
            scaled = jax.tree.map(lambda x, n=step: x if n == 10 else 2 * x, tree)
            writer.save(step, args=ocp.args.StandardSave(scaled))


def items(path, tree):
    with ocp.CheckpointManager(path) as writer:
        args = {name: ocp.args.StandardSave(value) for name, value in tree.items()}
        writer.save(5, args=ocp.args.Composite(**args, meta=ocp.args.JsonSave({"a": 1})))


def train_state(model):
    made = collections(model)
    moments = {"mu": made["params"], "nu": made["params"]}
    return {**made, "opt_state": [moments, None], "step": np.int32(3), "ema_params": made["params"]}


FORMS = {
    "standard": (standard, collections),
    "pytree": (pytree, collections),
    "manager": (manager, collections),
    "items": (items, collections),
    "nnx.State": (standard, nnx.state),
    "pure dictionary": (pytree, lambda model: nnx.to_pure_dict(nnx.state(model, nnx.Variable))),
    "states": (
        standard,
        lambda model: dict(
            zip(("params", "stats"), nnx.state(model, nnx.Param, nnx.BatchStat), strict=True)
        ),
    ),
    "within": (standard, lambda model: {"model": nnx.state(model), "step": np.int32(3)}),
    "train state": (standard, train_state),
    "variables as params": (pytree, lambda model: {"params": collections(model), "step": 3}),
    "linen": (standard, lambda model: linen(collections(model))),
}


def without_keys(tree):
    """Orbax's PyTreeCheckpointer takes no random keys."""
    flat = nnx.traversals.flatten_mapping(tree)
    flat = {path: value for path, value in flat.items() if "rngs" not in path}
    return nnx.traversals.unflatten_mapping(flat)


@pytest.mark.parametrize("form", FORMS)
def test_forms(model, tmp_path, form):
    write, tree = FORMS[form]
    made = tree(model)
    write(tmp_path / "x", without_keys(made) if form == "pure dictionary" else made)
    got, want = load(tmp_path / "x"), to_state_dict(model)
    assert got.keys() == want.keys()
    for name, value in want.items():
        counter = name.endswith("num_batches_tracked")
        expected = 0 * value if form == "linen" and counter else value
        np.testing.assert_array_equal(got[name], expected, name)
        assert got[name].dtype == value.dtype or counter
    assert guess.guess(got).options == TINY.options
    loaded = jaxnets.load_weights(TINY.build("float32"), tmp_path / "x")
    np.testing.assert_array_equal(loaded.conv1.kernel[...], model.conv1.kernel[...])


def test_steps_and_what_is_left_out(model, tmp_path):
    manager(tmp_path / "x", collections(model))
    conv = to_state_dict(model)["conv1.weight"]
    for checkpoint, factor in (("3", 2), ("10", 1), ("last", 1), ("best", 1)):
        got = load(tmp_path / "x", checkpoint)["conv1.weight"]
        np.testing.assert_array_equal(got, factor * conv)
    np.testing.assert_array_equal(load(tmp_path / "x" / "3")["conv1.weight"], 2 * conv)
    assert orbax.read_foreign(tmp_path / "x", "last").notes == []
    assert "of steps 3, 10 the newest" in orbax.read_foreign(tmp_path / "x", "best").notes[0]
    with pytest.raises(UserError, match="no checkpoint 4; there are steps 3, 10"):
        load(tmp_path / "x", "4")
    standard(tmp_path / "y", train_state(model))
    (note,) = orbax.read_foreign(tmp_path / "y", "best").notes
    assert {*note.removeprefix("left out: ").split(", ")} == {"ema_params", "opt_state", "step"}


@pytest.mark.parametrize("tree", [collections, nnx.state])
def test_shared_kernels_are_stored_once(tmp_path, tree):
    model = filled(DENSE)
    standard(tmp_path / "x", tree(model))
    got, want = load(tmp_path / "x"), to_state_dict(model)
    assert got.keys() == want.keys()
    for name, value in want.items():
        np.testing.assert_array_equal(got[name], value, name)
    assert guess.guess(got).options == DENSE.options


def test_the_command(model, tmp_path, command, refused, monkeypatch):
    """Also: a destination of any name that says no other kind of file is a folder."""
    standard(tmp_path / "x", linen(collections(model)))
    done = command(PORT, tmp_path / "x", tmp_path / "model.v2")
    assert done.code == 0, done.err
    assert "from names and shapes" in done.out
    assert "adapted: 3 counters of BatchNorm that are not there: 0" in done.out
    none = Differences(0, 0, 1, "not computed")  # once is enough
    monkeypatch.setattr(weights, "differences", lambda *_, **__: none)
    for source, name in (("model.v2", "x.orbax"), ("x.orbax", "y.safetensors")):
        weights.port(tmp_path / source, tmp_path / name)
    weights.port(tmp_path / "x", tmp_path / "x.orbax", force=True)
    want = to_state_dict(model)["conv1.weight"]
    for name in ("model.v2", "x.orbax", "y.safetensors"):
        np.testing.assert_array_equal(load(tmp_path / name)["conv1.weight"], want)
    before = sorted(os.listdir(tmp_path))
    for name in ("a.onnx", "a.safetensor", "a.H5", "a.pt2"):
        assert "names no format" in refused(PORT, tmp_path / "x.orbax", tmp_path / name)
    assert "no run" in refused(PORT, tmp_path / "x", tmp_path / "run", "--with-optimizer")
    assert sorted(os.listdir(tmp_path)) == before


def cut(path):
    for file in path.rglob("*"):
        if file.is_file() and file.parent.name == "d":
            file.write_bytes(file.read_bytes()[:-20])


def garbage(path):
    (path / "_METADATA").write_text("{")


@pytest.mark.parametrize("damage", [cut, garbage])
def test_damaged(model, tmp_path, refused, damage):
    standard(tmp_path / "x", collections(model))
    damage(tmp_path / "x")
    error = refused(PORT, tmp_path / "x", tmp_path / "out")
    assert re.search(r"x: an orbax checkpoint that cannot be read \(", error)
    assert "NoneType" not in error
    assert os.listdir(tmp_path) == ["x"]


def test_far_more_than_its_files_can_hold(tmp_path, refused, monkeypatch):
    """Zeros that are stored in a few bytes are not asked for by the terabyte."""
    standard(tmp_path / "x", {"params": {"kernel": np.zeros((3, 3, 300, 300), "f4")}})
    assert load(tmp_path / "x")["weight"].shape == (300, 300, 3, 3)
    monkeypatch.setattr(orbax, "_SMALL", 2**16)
    monkeypatch.setattr(orbax, "_RATIO", 10)
    error = refused(PORT, tmp_path / "x", tmp_path / "out")
    assert "3,240,000 bytes of arrays in" in error


def test_no_weights(tmp_path, refused):
    standard(tmp_path / "x", {"rngs": {"key": np.zeros(2)}})
    assert "no weights" in refused(PORT, tmp_path / "x", tmp_path / "out")
    standard(tmp_path / "y", {"params": {"Conv_0": {"kernel": np.zeros((3, 3, 3, 8), "f4")}}})
    assert "these are the tensors of no model here" in refused(PORT, tmp_path / "y", "out")
