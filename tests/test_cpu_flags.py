"""XLA's flags on a CPU: by commands alone, for a jaxlib that knows them; a user's are kept."""

import os
import subprocess
import sys

import jax.numpy as jnp
import pytest

from jaxnets.devices import cpu_flags
from jaxnets.train import task
from jaxnets.train.task import build
from tests.test_train import CONFIG

IMPORTED = """
import os, jaxnets
import jax, jax.numpy as jnp
from jaxnets.devices import runtime
jaxnets.create_model
assert "XLA_FLAGS" not in os.environ
{setup}
print(bool(jnp.isnan(jax.nn.relu(jnp.full(100_000, jnp.nan))).any()), os.environ.get("XLA_FLAGS"))
"""
# Device 0 is kept from the sum that the other waits for.
STUCK = """
import time
import jax, jax.numpy as jnp
from jaxnets.devices import runtime
from jaxnets.devices import rendezvous
runtime.setup()
rendezvous.expect_late_devices()

def wait(x):
    time.sleep(60)
    return x

def step(x):
    late = lambda x: jax.pure_callback(wait, x, x)
    x = jax.lax.cond(jax.lax.axis_index("i") == 0, late, lambda x: x, x)
    return jax.lax.psum(x, "i")

print(jax.pmap(step, "i")(jnp.ones((2, 4))))
"""
DEVICES = "--xla_force_host_platform_device_count=2"


def child(code: str, **env: str) -> subprocess.CompletedProcess:
    kept = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    return subprocess.run(
        [sys.executable, "-c", code],
        env=kept | {"JAX_PLATFORMS": "cpu"} | env,
        capture_output=True,
        text=True,
    )


def test_an_import_leaves_the_arithmetic_of_the_process_alone():
    done = child(IMPORTED.format(setup=""))
    assert done.stdout.split() == ["True", "None"], done.stderr


@pytest.mark.skipif(not cpu_flags._known(), reason="not tried with this jaxlib")
def test_a_command_sets_the_flag_also_after_an_import_of_jax():
    done = child(IMPORTED.format(setup="runtime.setup()"))
    assert cpu_flags.FLAG in done.stdout, done.stderr


@pytest.fixture
def fresh(monkeypatch):
    """A process before its first array, with a jaxlib that the flags were tried with."""
    monkeypatch.setattr(cpu_flags, "_started", lambda: False)
    monkeypatch.setattr(cpu_flags, "MEASURED", (cpu_flags.metadata.version("jaxlib"),))
    return monkeypatch


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, cpu_flags.FLAG),
        ("", ""),
        ("--xla_dump_to=x", "--xla_dump_to=x"),
        (DEVICES, f"{DEVICES} {cpu_flags.PATIENCE}={cpu_flags.PATIENCE_SECONDS}"),
        (f"{DEVICES} {cpu_flags.PATIENCE}=1", f"{DEVICES} {cpu_flags.PATIENCE}=1"),
    ],
)
def test_what_the_user_set_is_kept(fresh, given, expected):
    fresh.delenv("XLA_FLAGS", raising=False)
    if given is not None:
        fresh.setenv("XLA_FLAGS", given)
    assert cpu_flags.apply() == (given is None)
    assert os.environ["XLA_FLAGS"] == expected
    assert cpu_flags.apply() == (given is None)  # again: nothing is added twice
    assert os.environ["XLA_FLAGS"] == expected


def test_an_unknown_jaxlib_and_a_started_one_are_left_alone(fresh):
    fresh.setenv("XLA_FLAGS", DEVICES)
    fresh.setattr(cpu_flags, "MEASURED", ())
    cpu_flags.apply()
    fresh.undo()
    fresh.setenv("XLA_FLAGS", DEVICES)
    fresh.setattr(cpu_flags, "_started", lambda: True)
    cpu_flags.apply()
    assert os.environ["XLA_FLAGS"] == DEVICES


def test_devices_that_come_too_late_end_in_a_line():
    done = child(STUCK, XLA_FLAGS=f"{DEVICES} {cpu_flags.PATIENCE}=2")
    assert done.returncode == 1, done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: XLA ended this process")
    assert cpu_flags.PATIENCE in last


def test_a_weight_of_nan_stops_training(tmp_path, refused, monkeypatch):
    """Where ReLU loses NaN, loss and gradients stay finite: the channel is dead, unseen."""

    def poisoned(config, fill=None):
        run = build(config, fill=fill)
        kernel = run.state.params["conv1.kernel"].at[0, 0, 0, 0].set(jnp.nan)
        params = run.state.params | {"conv1.kernel": kernel}
        return run._replace(state=run.state._replace(params=params))

    monkeypatch.setattr(task, "build", poisoned)
    args = ("--config", CONFIG, "--workdir", tmp_path / "x", "--config.num_epochs=1")
    assert "not finite: seen at step" in refused("jaxnets.train", *args)
