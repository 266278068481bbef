"""The optimizers alone: their state, dtypes, and what they refuse. Their numbers: parity_tests/."""

import copy

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from ml_collections import ConfigDict

from jaxnets.errors import UserError
from jaxnets.optim import make_optimizer, slow_weights
from jaxnets.optim.transforms import AdamState, LookaheadState, SgdState


def _config(**changes):
    """A recipe in full, `changes` by dotted key: _config(**{"optim.lr": 1})."""
    config = ConfigDict(
        {
            "optim": {
                "name": "sgd", "lr": 0.1, "momentum": 0.9, "nesterov": False, "weight_decay": 5e-4,
                "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "clip": "value", "clip_at": 0.1,
                "lookahead": {"enabled": True, "k": 5, "alpha": 0.5, "first_sync": None},
            },
            "schedule": {
                "name": "cosine", "per": "epoch", "warmup_epochs": 0.0, "warmup_factor": 0.01,
                "end_lr": 0.001, "T_max": None, "T_0": 10, "T_mult": 2, "milestones": (10, 20),
                "gamma": 0.1, "max_lr": 0.1, "pct_start": 0.3, "div_factor": 25.0,
                "final_div_factor": 1e4, "cycle_momentum": True, "base_momentum": 0.85,
                "max_momentum": 0.95,
            },
        }
    )  # fmt: skip
    with config.ignore_type():
        for key, value in changes.items():
            *path, leaf = key.split(".")
            section = config
            for name in path:
                section = section[name]
            section[leaf] = value
    return config


def _make(config, steps_per_epoch=10, num_epochs=30):
    return make_optimizer(
        config.optim, config.schedule, steps_per_epoch=steps_per_epoch, num_epochs=num_epochs
    )


def _params(dtype=jnp.float32):
    return {"kernel": jnp.linspace(-1, 1, 6, dtype=dtype).reshape(2, 3), "bias": jnp.ones(3, dtype)}


BAD = [
    ({"optim.name": "sdg"}, "unknown config.optim.name 'sdg'; did you mean 'sgd'?"),
    ({"optim.lr": -0.1}, "config.optim.lr=-0.1: a number >= 0"),
    ({"optim.lr": float("nan")}, "config.optim.lr=nan: a number >= 0"),
    ({"optim.lr": "fast"}, "config.optim.lr='fast': a number >= 0"),
    ({"optim.lr": None}, "config.optim.lr is missing"),
    ({"optim.momentum": 1.0}, "config.optim.momentum=1.0: a number in [0, 1)"),
    ({"optim.momentum": 0.0, "optim.nesterov": True}, "nesterov=True needs config.optim.momentum"),
    ({"optim.nesterov": 1}, "config.optim.nesterov=1: True or False"),
    ({"optim.weight_decay": -1e-4}, "config.optim.weight_decay=-0.0001: a number >= 0"),
    ({"optim.name": "adam", "optim.beta1": 1.0}, "config.optim.beta1=1.0: a number in [0, 1)"),
    ({"optim.name": "adam", "optim.beta2": -0.1}, "config.optim.beta2=-0.1: a number in [0, 1)"),
    ({"optim.name": "adamw", "optim.eps": -1.0}, "config.optim.eps=-1.0: a number >= 0"),
    ({"optim.clip": "vlaue"}, "unknown config.optim.clip 'vlaue'; did you mean 'value'?"),
    ({"optim.clip_at": 0.0}, "config.optim.clip_at=0.0: a number > 0 for clip='value'"),
    ({"optim.clip_at": None}, "config.optim.clip_at is missing"),
    ({"optim.lookahead.k": 0}, "config.optim.lookahead.k=0: a whole number, at least 1"),
    ({"optim.lookahead.k": 2.5}, "config.optim.lookahead.k=2.5: a whole number, at least 1"),
    ({"optim.lookahead.alpha": 0.0}, "lookahead.alpha=0.0: a number in (0, 1]"),
    ({"optim.lookahead.alpha": 1.5}, "config.optim.lookahead.alpha=1.5: a number in (0, 1]"),
    ({"optim.lookahead.first_sync": 2}, "config.optim.lookahead.first_sync=2: None"),
    ({"schedule.name": "cosin"}, "unknown config.schedule.name 'cosin'; did you mean 'cosine'?"),
    ({"schedule.per": "batch"}, "unknown config.schedule.per 'batch'. Known: epoch, step"),
    ({"schedule.end_lr": 0.2}, "config.schedule.end_lr=0.2: a number from 0 to"),
    ({"schedule.T_max": 0}, "config.schedule.T_max=0: a whole number, at least 1"),
    ({"schedule.warmup_epochs": 30.0}, "shorter than the run of 30 epochs"),
    ({"schedule.warmup_epochs": -1.0}, "config.schedule.warmup_epochs=-1.0: a number"),
    ({"schedule.warmup_epochs": 1.5}, "warmup_epochs=1.5: whole, since per=epoch"),
    ({"schedule.warmup_factor": 0.0}, "config.schedule.warmup_factor=0.0: a number in (0"),
    ({"schedule.name": "warm_restarts", "schedule.T_0": 0}, "T_0=0: a whole number, at least 1"),
    ({"schedule.name": "warm_restarts", "schedule.T_mult": 1.5}, "T_mult=1.5: a whole"),
    ({"schedule.name": "warm_restarts", "schedule.T_mult": 0}, "T_mult=0: a whole"),
    ({"schedule.name": "multistep", "schedule.milestones": (20, 10)}, "strictly increasing whole"),
    ({"schedule.name": "multistep", "schedule.milestones": (10, 10)}, "strictly increasing whole"),
    ({"schedule.name": "multistep", "schedule.milestones": (0, 10)}, "strictly increasing whole"),
    ({"schedule.name": "multistep", "schedule.milestones": (1.5,)}, "strictly increasing whole"),
    ({"schedule.name": "multistep", "schedule.milestones": ()}, "strictly increasing whole"),
    ({"schedule.name": "multistep", "schedule.gamma": 0.0}, "schedule.gamma=0.0: a number > 0"),
    ({"schedule.name": "one_cycle", "schedule.max_lr": 0.0}, "max_lr=0.0: a number > 0"),
    ({"schedule.name": "one_cycle", "schedule.max_lr": None}, "config.schedule.max_lr is missing"),
    ({"schedule.name": "one_cycle", "schedule.pct_start": 1.1}, "config.schedule.pct_start=1.1"),
    ({"schedule.name": "one_cycle", "schedule.pct_start": 1 / 30}, "other than 1/30"),
    ({"schedule.name": "one_cycle", "schedule.div_factor": 0.0}, "config.schedule.div_factor=0.0"),
    ({"schedule.name": "one_cycle", "schedule.max_momentum": 1.0}, "a number in (0, 1)"),
    ({"schedule.name": "one_cycle", "schedule.total_epochs": 0}, "total_epochs=0: a whole"),
    (
        {"schedule.name": "one_cycle", "schedule.restart_every_epoch": True},
        "restart_every_epoch=True: False, unless per=step and warmup_epochs=0",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "message"), BAD, ids=[str(changes) for changes, _ in BAD])
def test_a_bad_value_is_named(changes, message):
    _make(_config())  # what is refused below is the change, and nothing else
    with pytest.raises(UserError) as error:
        _make(_config(**changes))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("key", ["steps_per_epoch", "num_epochs"])
def test_a_run_of_nothing_is_refused(key):
    with pytest.raises(UserError, match=f"{key}=0: a whole number, at least 1"):
        _make(_config(), **{key: 0})


def test_no_slow_weights_without_lookahead():
    config = _config(**{"optim.lookahead.enabled": False})
    with pytest.raises(UserError, match=r"lookahead\.enabled=True"):
        slow_weights(_make(config).tx.init(_params()))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("schedule", ["cosine", "one_cycle"])
@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_dtypes_and_structure_survive_an_update(name, schedule, dtype):
    changes = {"optim.name": name, "schedule.name": schedule, "optim.clip": "norm"}
    tx = _make(_config(**changes)).tx
    params = _params(dtype)
    state = tx.init(params)
    updates, new_state = jax.jit(tx.update)(jax.tree.map(jnp.ones_like, params), state, params)
    for before, after in [(state, new_state), (params, updates)]:
        describe = lambda tree: jax.tree.map(lambda x: (x.shape, x.dtype), tree)  # noqa: E731
        assert describe(before) == describe(after)
    assert isinstance(new_state, LookaheadState)
    core = new_state.inner[2]
    assert isinstance(core, SgdState if name == "sgd" else AdamState)
    assert core.count.dtype == new_state.count.dtype == jnp.int32
    assert core.count == new_state.count == 1


def test_state_structure_is_the_same_for_every_clip_and_decay():
    states = [
        _make(_config(**{"optim.clip": clip, "optim.weight_decay": decay})).tx.init(_params())
        for clip in ("none", "value", "norm")
        for decay in (0.0, 1e-3)
    ]
    assert len({jax.tree.structure(state) for state in states}) == 1


def test_a_donated_train_state_holds_no_buffer_twice():
    tx = _make(_config()).tx
    params = _params()

    def step(params, state):
        updates, state = tx.update(jax.tree.map(jnp.ones_like, params), state, params)
        return optax.apply_updates(params, updates), state

    state = tx.init(params)
    step = jax.jit(step, donate_argnums=(0, 1))
    for _ in range(6):  # over a sync, after which slow and fast weights are equal
        params, state = step(params, state)
    np.testing.assert_allclose(slow_weights(state)["bias"], params["bias"], atol=0.05)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_orbax_saves_and_restores_the_state(tmp_path, momentum):
    tx = _make(_config(**{"optim.momentum": momentum})).tx
    params = _params()
    _, state = tx.update(jax.tree.map(jnp.ones_like, params), tx.init(params), params)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "state", state)
        checkpointer.wait_until_finished()
        restored = checkpointer.restore(tmp_path / "state", tx.init(params))
    assert jax.tree.structure(restored) == jax.tree.structure(state)
    jax.tree.map(np.testing.assert_array_equal, restored, state)


def test_nesterov_and_a_coupled_decay_change_the_update():
    grads, params = jax.tree.map(jnp.ones_like, _params()), _params()

    def update(**changes):
        tx = _make(_config(**{"optim.lookahead.enabled": False}, **changes)).tx
        return tx.update(grads, tx.init(params), params)[0]["kernel"]

    # Step 1: clip 1 to .1, decay 5e-4 p, lr .1; Nesterov looks .9 further.
    expected = -0.1 * (0.1 + 5e-4 * params["kernel"])
    np.testing.assert_allclose(update(), expected, rtol=1e-6)
    np.testing.assert_allclose(update(**{"optim.nesterov": True}), 1.9 * expected, rtol=1e-6)


def test_weight_decay_none_is_torchs_default():
    def decays(name):
        tx = _make(_config(**{"optim.name": name, "optim.weight_decay": None})).tx
        params = _params()
        updates, _ = tx.update(jax.tree.map(jnp.zeros_like, params), tx.init(params), params)
        return updates["bias"]

    np.testing.assert_array_equal(decays("sgd"), 0)
    np.testing.assert_array_equal(decays("adam"), 0)
    np.testing.assert_allclose(decays("adamw"), -0.1 * 1e-2, rtol=1e-6)


def test_float32_bias_correction_is_accurate():
    """Step 1 of Adam is lr * sign(g); computed as 1 - beta2^t in float32 it would be 7e-6 off."""
    config = _config(**{"optim.name": "adam", "optim.weight_decay": 0.0, "optim.clip": "none"})
    tx = _make(config).tx
    with jax.enable_x64(False):
        grads = jax.tree.map(lambda p: jnp.full_like(p, 3.0), _params())
        updates, _ = jax.jit(tx.update)(grads, tx.init(_params()), _params())
    np.testing.assert_allclose(updates["kernel"], -0.1, rtol=5e-7)


def test_curves_for_the_log():
    optimizer = _make(_config())
    assert optimizer.momentum is None
    steps = np.array([0, 9, 10, 150, 299])
    expected = 0.001 + 0.099 * (1 + np.cos(np.pi * (steps // 10) / 30)) / 2
    np.testing.assert_allclose(optimizer.lr(jnp.asarray(steps)), expected, rtol=1e-6)
    cycle = _make(_config(**{"schedule.name": "one_cycle", "schedule.per": "step"}))
    np.testing.assert_allclose(cycle.lr(89), 0.1, rtol=1e-6)
    np.testing.assert_allclose(cycle.momentum(jnp.array([0, 89, 299])), [0.95, 0.85, 0.95], 1e-6)


def test_the_configuration_is_left_as_it_was():
    config = _config()
    before = copy.deepcopy(config.to_dict())
    _make(config)
    assert config.to_dict() == before
