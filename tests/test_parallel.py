"""Several devices give the numbers of one; on a CPU that pretends to be eight."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import json, sys
import jax, numpy as np
jax.config.update("jax_enable_x64", True)
from jaxnets import config as configs
from jaxnets.stepper import Stepper
from jaxnets.task import build
from jaxnets.train_step import Totals

def train(kind, devices, batch_size):
    config, _ = configs.parse(
        ["--config", sys.argv[1], "--config.dtype=float64", f"--config.parallel={kind}",
         f"--config.devices={devices}", f"--config.batch_size={batch_size}",
         "--config.model.drop=.2"], usage="")
    run = build(config)
    # 24 images in three batches of an epoch, the last one smaller, so that ten steps are cheap.
    few = 2 * batch_size + 3
    data = run.data._replace(train_images=run.data.train_images[:few],
                             train_labels=run.data.train_labels[:few])
    task = run.task._replace(steps_per_epoch=3)
    stepper = Stepper(task, data, run.state)
    state, totals = stepper.put(run.state, Totals.zero())
    for step in range(10):
        if step % 3 == 0:
            stepper.start_epoch(step // 3)
        state, totals = stepper.step(state, totals, step % 3)
    state, totals = stepper.take(state, totals)
    assert int(state.step) == 10
    return jax.device_get((state, totals))

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
            "slow": max(jax.tree.leaves(errors[0].opt_state)), "loss": errors[1].loss}
print(json.dumps(worst))
"""


@pytest.fixture(scope="module")
def errors() -> dict[str, dict[str, float]]:
    """The largest relative differences from one device after ten steps, by layout."""
    import os

    env = dict(os.environ, XLA_FLAGS="--xla_force_host_platform_device_count=8")
    config = str(Path(__file__).parent / "tiny_config.py")
    done = subprocess.run(
        [sys.executable, "-c", CODE, config], env=env, capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("batch", ["batch 16", "batch 13"])
@pytest.mark.parametrize("layout", ["jit 8", "pmap 8", "pmap 3"])
def test_ten_steps_are_those_of_one_device(errors, layout, batch):
    found = errors[f"{layout} {batch}"]
    assert max(found[k] for k in ("params", "stats", "slow")) < 1e-10, found
    assert found["loss"] < 1e-6, found  # summed in float32


def test_devices_and_kind_are_checked(refused):
    config = str(Path(__file__).parent / "tiny_config.py")
    args = ("jaxnets.train", "--config", config, "--workdir", "/nonexistent/x")
    assert "config.devices=99: from 1 to" in refused(*args, "--config.devices=99")
    assert "config.devices=0: from 1 to" in refused(*args, "--config.devices=0")
    assert "did you mean 'pmap'" in refused(*args, "--config.parallel=pmapp")
