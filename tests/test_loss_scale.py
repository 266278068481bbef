"""Dynamic loss scaling in jaxnets.train: what is left out, kept, logged and refused.

Against torch.amp.GradScaler: parity_tests/test_loss_scale_twin.py.
"""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxnets.config.loss_scale import LEAST, LossScaling
from jaxnets.optim import loss_scale, transforms
from tests.test_parallel import CONFIG, run_child

ON_DEVICES = """
import json, sys
import jax, numpy as np
from jaxnets import config as configs
from jaxnets.devices import runtime
runtime.setup("float16")
from jaxnets.train.stepper import Stepper
from jaxnets.train.task import build
from jaxnets.train.step import Totals

def train(kind, devices):
    config = configs.read(sys.argv[1], ["--config.dtype=float16", f"--config.parallel={kind}",
         f"--config.devices={devices}", "--config.batch_size=12", "--config.model.drop=0",
         "--config.optim.loss_scale.init_scale=2.68435456e8"])
    run = build(config)
    data = run.data._replace(train_images=run.data.train_images[:12],
                             train_labels=run.data.train_labels[:12])
    stepper = Stepper(run.task._replace(steps_per_epoch=1), data, run.state)
    state, totals = stepper.replicate(run.state, Totals.zero())
    found = []
    for step in range(14):
        state, totals = stepper.step(state, totals, 0)
        one, _ = stepper.unreplicate(state, totals)
        found.append(one.scaling["loss_scale"])
    shards = [[np.asarray(s.data).reshape(one.params[k].shape) for s in x.addressable_shards]
              for k, x in state.params.items()]
    assert len(shards[0]) == devices
    apart = max(float(np.abs(a - b[0]).max()) for b in shards for a in b)
    return found, one.scaling["overflowed_steps"], apart

print(json.dumps([train("jit", 4), train("pmap", 3)]))
"""


def make(**options):
    return loss_scale.loss_scaled(transforms.sgd(lambda _: 0.1, 0.9), LossScaling(**options))


def after(tx, state, *gradients):
    """The state after these gradients of one parameter, and the updates."""
    params, updates = {"w": jnp.zeros(2)}, []
    for g in gradients:
        found, state = jax.jit(tx.update)({"w": jnp.array([1.0, g])}, state, params)
        updates.append(found["w"].tolist())
    return state, updates


def test_a_step_that_overflows_changes_nothing_but_the_scale():
    tx = make(init_scale=8.0, growth_interval=2)
    start, _ = after(tx, tx.init({"w": jnp.zeros(2)}), 1.0)
    state, (update,) = after(tx, start, np.inf)
    assert update == [0, 0]
    assert jax.tree.all(jax.tree.map(jnp.array_equal, state.inner, start.inner))
    assert (float(state.scale), int(state.growth_tracker), int(state.overflowed)) == (4, 0, 1)
    state, updates = after(tx, state, 1.0, 1.0, 1.0)
    assert all(u[0] < 0 for u in updates)
    assert (float(state.scale), int(state.growth_tracker), int(state.overflowed)) == (8, 1, 1)
    assert int(state.inner.count) == 4


def test_the_scale_stays_finite():
    state, _ = after(
        make(growth_interval=1), make(init_scale=2.0**127).init({"w": jnp.zeros(2)}), 1
    )
    assert float(state.scale) == 2.0**127


def test_gradients_that_overflow_at_any_scale_are_not_excused():
    """Their norm stays infinite, so that the loop says that the run has diverged."""
    tx = make(init_scale=2 * LEAST)
    before = tx.init({"w": jnp.zeros(2)})
    norms = []
    for _ in range(3):
        state, _ = after(tx, before, np.inf)
        norms.append(float(loss_scale.logged_norm(before, state, jnp.float32(np.inf))))
        before = state
    assert norms == [0, 0, np.inf]
    assert int(state.overflowed) == 2


def test_it_leaves_alone_what_has_no_scale():
    state, loss = transforms.sgd(lambda _: 0.1).init({}), jnp.float32(2)
    assert loss_scale.scaled(state, loss) is loss
    assert loss_scale.unscaled(state, loss) is loss
    assert loss_scale.logged_norm(state, state, loss) is loss
    assert loss_scale.figures(state) == {}
    assert loss_scale.inner_state(optax.EmptyState()) == optax.EmptyState()


def test_all_of_several_devices_leave_out_the_same_steps():
    for scales, overflowed, apart in json.loads(run_child(ON_DEVICES, 4).splitlines()[-1]):
        assert apart == 0
        assert scales[:6] == [2.0**27 / 2**i for i in range(6)]
        assert 6 <= overflowed < 14
        assert len(set(scales)) == overflowed < len(scales)  # the others went through


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("init_scale=0.", "config.optim.loss_scale.init_scale=0.0: a number in [0.0001"),
        ("init_scale=1e39", "config.optim.loss_scale.init_scale=1e+39: a number in"),
        ("growth_factor=1.", "config.optim.loss_scale.growth_factor=1.0: a number in (1, inf)"),
        ("backoff_factor=1.", "config.optim.loss_scale.backoff_factor=1.0: a number in (0, 1)"),
        ("growth_interval=0", "config.optim.loss_scale.growth_interval=0: a whole number"),
    ],
)
@pytest.mark.parametrize("trainer", ["jaxnets.train", "torch_ref.train"])
def test_what_cannot_be_is_refused(trainer, key, said, tmp_path, refused):
    args = ("--config", CONFIG, "--workdir", tmp_path / "x", "--config.dtype=float16")
    assert said in refused(trainer, *args, f"--config.optim.loss_scale.{key}")
    assert not (tmp_path / "x").exists()
