"""Muon alone: which parameters it moves, its state, and what it refuses.  Numbers: parity_tests."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnets.config import default_config, read
from jaxnets.config.muon import check_kernels, kernels
from jaxnets.errors import UserError
from jaxnets.optim import make_optimizer
from jaxnets.optim.muon import MuonState
from jaxnets.optim.transforms import AdamState, SgdState, advance
from tests.runs import arguments, arrays, assert_same_run
from tests.test_train import CONFIG

RANKS = {"conv1.kernel": 4, "bn1.scale": 1, "layer.0.conv1.kernel": 4, "linear.kernel": 2}
PARAMS = {
    "conv1.kernel": jnp.ones((3, 3, 2, 4)),
    "bn1.scale": jnp.ones(4),
    "linear.kernel": jnp.ones((4, 2)),
}


def configured(**changes):
    c = default_config()
    c.update_from_flattened_dict({"optim.name": "muon", **changes})
    return c


def make(**changes):
    c = configured(**changes)
    return make_optimizer(c.optim, c.schedule, steps_per_epoch=10, num_epochs=30).tx


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"momentum": 1.0}, "config.optim.muon.momentum=1.0: a number in [0, 1)"),
        ({"momentum": float("nan")}, "config.optim.muon.momentum=nan: "),
        ({"weight_decay": -0.1}, "config.optim.muon.weight_decay=-0.1: a number"),
        ({"rest_lr_scale": -1.0}, "config.optim.muon.rest_lr_scale=-1.0: a number"),
        ({"rest_lr_scale": float("inf")}, "muon.rest_lr_scale=inf: a number"),
        ({"ns_steps": 0}, "config.optim.muon.ns_steps=0: a whole number, at least 1, at most 99"),
        ({"ns_dtype": "bflot16"}, "unknown config.optim.muon.ns_dtype 'bflot16'; did you mean 'bf"),
        ({"adjust_lr": "rms"}, "unknown config.optim.muon.adjust_lr 'rms'"),
        ({"rest": "adam"}, "unknown config.optim.muon.rest 'adam'; did you mean 'adamw'?"),
    ],
    ids=str,
)
def test_a_bad_value_is_named(changes, message):
    make()
    with pytest.raises(UserError) as error:
        make(**{f"optim.muon.{key}": value for key, value in changes.items()})
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["muon.exclude=conv1,residual_layers"], "no kernel of a convolution is left for it"),
        (["muon.exclude=conv2"], "config.optim.muon.exclude: no parameter's name begins with "
         "'conv2'; the nearest are conv1"),
        (["freeze=conv1,residual_layers"], "left for it (config.optim.freeze=conv1,residual"),
        (["muon.ns_dtype=half"], "unknown config.optim.muon.ns_dtype 'half'"),
        (["muon.nesterof=True"], "did you mean --config.optim.muon.nesterov?"),
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("trainer", ["jaxnets.train", "torch_ref.train"])
def test_the_trainers_refuse_it_in_one_line(trainer, flags, message, tmp_path, refused):
    flags = [f"--config.optim.{flag}" for flag in ("name=muon", *flags)]
    assert message in refused(trainer, "--config", CONFIG, "--workdir", tmp_path / "x", *flags)
    assert not (tmp_path / "x").exists()


def test_momentum_does_not_cycle():
    cycle = {"schedule.name": "one_cycle", "schedule.per": "step"}
    with pytest.raises(UserError, match=r"config\.schedule\.cycle_momentum=True: muon"):
        make(**cycle)
    make(**cycle, **{"schedule.cycle_momentum": False})


def test_kernels_of_convolutions_are_its_own():
    assert kernels(RANKS) == ["conv1.kernel", "layer.0.conv1.kernel"]
    assert kernels(RANKS, ["conv1"]) == ["layer.0.conv1.kernel"]
    assert kernels(RANKS, ["layer"]) == ["conv1.kernel"]
    with pytest.raises(UserError, match=r"the network has none"):
        check_kernels(configured().optim, {"bn1.scale": 1, "linear.kernel": 2})
    check_kernels(default_config().optim, {"bn1.scale": 1})  # of sgd nothing is asked


def test_a_prefix_is_a_whole_name_of_a_module():
    check_kernels(configured(**{"optim.muon.exclude": ("layer.0", "linear")}).optim, RANKS)
    for prefix in ("lay", "layer.0.conv", "linear.kernel"):
        with pytest.raises(UserError, match=f"exclude: no parameter's name begins with '{prefix}'"):
            check_kernels(configured(**{"optim.muon.exclude": (prefix,)}).optim, RANKS)


@pytest.mark.parametrize("rest", ["sgd", "adamw"])
def test_state_and_dtypes(rest):
    tx = make(**{"optim.muon.rest": rest})
    state = tx.init(PARAMS)
    updates, new = jax.jit(tx.update)(PARAMS, state, PARAMS)
    describe = lambda tree: jax.tree.map(lambda x: (x.shape, x.dtype), tree)  # noqa: E731
    assert describe(state) == describe(new)
    assert describe(PARAMS) == describe(updates)
    core = new[2]
    assert isinstance(core, MuonState)
    assert isinstance(core.rest, SgdState if rest == "sgd" else AdamState)
    assert core.momentum_buffer.keys() == {"conv1.kernel"}
    assert core.rest[1].keys() == PARAMS.keys() - {"conv1.kernel"}
    assert core.rest.count == 1
    assert advance(new, 4)[2].rest.count == 5


def test_the_first_step_is_as_long_as_the_learning_rate():
    """A gradient of rank one becomes that of norm 1 or so; what decays is the rest alone."""
    tx = make(**{"optim.lr": 0.5, "optim.weight_decay": 0.0, "optim.muon.rest_lr_scale": 0.1})
    updates, _ = tx.update(PARAMS, tx.init(PARAMS), PARAMS)
    assert 0.5 * 0.65 < np.linalg.norm(updates["conv1.kernel"]) < 0.5 * 1.25
    np.testing.assert_allclose(updates["bn1.scale"], -0.05, rtol=1e-6)


@pytest.mark.parametrize(
    ("flags", "decay"),
    [
        ([], 5e-4),
        (["muon.rest=adamw"], 1e-2),
        (["muon.rest=adamw", "name=sgd"], 5e-4),
        (["muon.rest=adamw", "weight_decay=0.1"], 0.1),
    ],
    ids=str,
)
def test_the_default_decay_is_that_of_the_rest(flags, decay):
    config = read("quickstart", [f"--config.optim.{f}" for f in ("name=muon", *flags)])
    assert config.optim.weight_decay == decay


def test_a_run_resumes_bit_for_bit(tmp_path, command):
    for name, minutes in (("cut", 1e-9), ("cut", 99), ("whole", 99)):
        keys = {"optim.name": "muon", "batch_size": 1437, "stop_after_minutes": minutes}
        assert command("jaxnets.train", *arguments(tmp_path / name, **keys)).code == 0
    assert_same_run(tmp_path / "cut", tmp_path / "whole")
    assert any("momentum_buffer" in name for name in arrays(tmp_path / "whole", "last"))
