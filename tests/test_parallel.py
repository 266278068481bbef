"""Several devices give the numbers of one; on a CPU that pretends to be eight."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxnets.checkpoints import store

CONFIG = str(Path(__file__).parent / "tiny_config.py")
CODE = """
import json, sys
import jax, numpy as np
from jaxnets import config as configs
from jaxnets.devices import runtime
runtime.setup("float64")
from jaxnets.train.evaluator import Statistics
from jaxnets.train.stepper import Stepper
from jaxnets.train.task import build
from jaxnets.train.step import Totals

def train(kind, devices, batch_size):
    config = configs.read(sys.argv[1], ["--config.dtype=float64", f"--config.parallel={kind}",
         f"--config.devices={devices}", f"--config.batch_size={batch_size}",
         "--config.model.drop=.2", "--config.augment.mix.per_image=True",
         "--config.optim.ema.decay=.9", "--config.optim.swa.from_epoch=2",
         f"--config.augment.mix.name={'either' if batch_size == 13 else 'none'}"])
    run = build(config)
    # 24 images in three batches of an epoch, the last one smaller, so that ten steps are cheap.
    few = 2 * batch_size + 3
    data = run.data._replace(train_images=run.data.train_images[:few],
                             train_labels=run.data.train_labels[:few])
    averaging = run.task.averaging._replace(steps_per_epoch=3)
    task = run.task._replace(steps_per_epoch=3, averaging=averaging)
    stepper = Stepper(task, data, run.state)
    state, totals = stepper.replicate(run.state, Totals.zero())
    for step in range(10):
        if step % 3 == 0:
            stepper.start_epoch(step // 3)
        state, totals = stepper.step(state, totals, step % 3)
    state, totals = stepper.unreplicate(state, totals)
    assert int(state.step) == 10
    assert int(state.opt_state.averages["swa"].n_averaged) == 2
    refreshed = Statistics(task, data.train_images, few, 24).refreshed("ema", state)
    return jax.device_get((refreshed, totals))

assert jax.device_count() == 8
worst = {}
for batch_size in (16, 13):  # 13: not a multiple of the devices; 3 images are fewer than they are
    one = train("jit", 1, batch_size)
    for kind, devices in (("jit", 8), ("pmap", 8), ("pmap", 3)):
        many = train(kind, devices, batch_size)
        errors = jax.tree.map(
            lambda a, b: float(np.abs(a - b).max() / (np.abs(a).max() or 1)), one, many)
        worst[f"{kind} {devices} batch {batch_size}"] = {
            "params": max(errors[0].params.values()), "stats": max(errors[0].stats.values()),
            "slow": max(jax.tree.leaves(errors[0].opt_state.inner)), "loss": errors[1].loss,
            "averages": max(jax.tree.leaves(errors[0].opt_state.averages))}
print(json.dumps(worst))
"""


# Legs of one run, each in a process of so many devices: from the last checkpoint on, three steps.
LEGS = ((2, "pmap 2"), (8, "jit 8"), (1, "jit 1"))
MORE_LEGS = ((1, "jit 1"), (8, "pmap 8,jit 2,jit 8,pmap 2"), (2, "jit 2,pmap 1"), (1, "jit 1"))
RESUME = """
import sys
from pathlib import Path
import jax
from jaxnets import config as configs
from jaxnets.devices import runtime
runtime.setup("float64")
from jaxnets.checkpoints.store import Checkpoints
from jaxnets.train.stepper import Stepper
from jaxnets.train.task import build
from jaxnets.train.step import Totals

def train(kind, devices, workdir, steps):
    config = configs.read(sys.argv[1], ["--config.dtype=float64", f"--config.parallel={kind}",
         f"--config.devices={devices}", "--config.batch_size=16", "--config.model.drop=.2"])
    run = build(config)
    data = run.data._replace(train_images=run.data.train_images[:32],
                             train_labels=run.data.train_labels[:32])
    task = run.task._replace(steps_per_epoch=2)
    checkpoints = Checkpoints(Path(workdir), 1)
    found = checkpoints.restore_last((run.state, Totals.zero()), print)
    state, totals = found[0] if found else (run.state, Totals.zero())
    assert found or not int(state.step)
    stepper = Stepper(task, data, state)
    state, totals = stepper.replicate(state, totals)
    for step in range(first := int(found[0][0].step) if found else 0, first + steps):
        stepper.start_epoch(step // 2)
        state, totals = stepper.step(state, totals, step % 2)
    state, totals = stepper.unreplicate(state, totals)
    checkpoints.save_last(first + steps, (state, totals), {})

for leg in sys.argv[3].split(","):
    kind, devices = leg.split()
    train(kind, int(devices), sys.argv[2], 3)
if len(sys.argv) > 4:
    train("jit", 1, sys.argv[4], int(sys.argv[5]))
"""


def run_child(code: str, devices: int, *args: object) -> str:
    """Runs `code` on a CPU that pretends to have so many devices; what it printed."""
    env = dict(os.environ, XLA_FLAGS=f"--xla_force_host_platform_device_count={devices}")
    command = [sys.executable, "-c", code, CONFIG, *map(str, args)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def errors() -> dict[str, dict[str, float]]:
    """The largest relative differences from one device after ten steps, by layout."""
    return json.loads(run_child(CODE, 8).splitlines()[-1])


@pytest.mark.parametrize("batch", ["batch 16", "batch 13"])
@pytest.mark.parametrize("layout", ["jit 8", "pmap 8", "pmap 3"])
def test_ten_steps_are_those_of_one_device(errors, layout, batch):
    found = errors[f"{layout} {batch}"]
    assert max(found[k] for k in ("params", "stats", "slow", "averages")) < 1e-10, found
    assert found["loss"] < 1e-6, found  # summed in float32


@pytest.mark.parametrize("legs", [LEGS, pytest.param(MORE_LEGS, marks=pytest.mark.slow)])
def test_a_checkpoint_goes_on_over_any_number_of_devices(tmp_path, legs):
    hopping, straight = tmp_path / "hopping", tmp_path / "straight"
    steps = 3 * sum(len(leg.split(",")) for _, leg in legs)
    for devices, leg in legs[:-1]:
        run_child(RESUME, devices, hopping, leg)
    devices, leg = legs[-1]
    run_child(RESUME, devices, hopping, leg, straight, steps)
    a, b = (store.read(path, "last").state for path in (straight, hopping))
    assert int(a["step"]) == int(b["step"]) == steps
    worst = jax.tree.map(lambda x, y: np.abs(x - y).max() / (np.abs(x).max() or 1), a, b)
    assert max(jax.tree.leaves(worst)) < 1e-10, worst


def test_devices_and_kind_are_checked(refused):
    args = ("jaxnets.train", "--config", CONFIG, "--workdir", "/nonexistent/x")
    for count in (99, 0, -1):
        message = refused(*args, f"--config.devices={count}")
        assert f"config.devices={count}: from 1 to" in message
    assert "did you mean 'pmap'" in refused(*args, "--config.parallel=pmapp")
