"""What the training loop promises: budgets, recovery, one call an epoch, no transfers."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnets import config as configs
from jaxnets.checkpoints import store
from jaxnets.devices import distributed
from jaxnets.errors import UserError
from jaxnets.runs.log import read_rows
from jaxnets.train import loop
from jaxnets.train.step import Totals
from jaxnets.train.stepper import Stepper
from jaxnets.train.task import build
from tests.runs import assert_same_run
from tests.runs import rows as rows_of
from tests.stopping import stop_after
from tests.test_train import CONFIG, STEPS, trained  # noqa: F401


def restored(workdir: Path, which: str = "last"):
    stored = store.read(workdir, which)
    return stored[:2], stored.meta


def build_tiny(*overrides: str):
    config = configs.read(CONFIG, overrides)
    return config, build(config)


def meta_of(workdir: Path, which: str) -> dict:
    return restored(workdir, which)[1]


# Time budgets


class Clock:
    """A budget that is spent once it was asked `times` times."""

    def __init__(self, times: int):
        self.asked, self.times = 0, times

    def __call__(self, minutes):
        assert minutes == 9
        return self

    def spent(self) -> bool:
        self.asked += 1
        return self.asked > self.times


def test_a_time_budget_ends_a_run_that_goes_on_bit_for_bit(trained, tmp_path, command, monkeypatch):  # noqa: F811
    workdir = tmp_path / "tiny"
    args = ("jaxnets.train", "--config", CONFIG, "--workdir", workdir)
    for steps in (2, STEPS + 1):
        with monkeypatch.context() as patch:
            patch.setattr(distributed, "TimeBudget", Clock(steps))
            result = command(*args, "--config.stop_after_minutes=9")
        assert result.code == 0
        assert "stopped and saved at step" in result.out
        assert "the same command resumes" in result.out
    assert command(*args).code == 0
    assert_same_run(trained, workdir)


def test_a_real_budget_ends_within_a_step(tmp_path, command):
    args = ("--config", CONFIG, "--workdir", tmp_path / "x", "--config.num_epochs=1000")
    result = command("jaxnets.train", *args, "--config.stop_after_minutes=0.0001")
    assert result.code == 0
    assert "stopped and saved at step 1 of 4000" in result.out


@pytest.mark.parametrize("minutes", ["0", "-1", "nan"])
def test_a_budget_must_be_a_time(refused, minutes):
    args = ("--config", CONFIG, f"--config.stop_after_minutes={minutes}")
    assert "config.stop_after_minutes" in refused("jaxnets.train", *args)


# Losses that are not finite


def poison(at: int, times: int = 1) -> type:
    """A Stepper whose step `at` of the run, from 0, ruins the weights, the first `times` times."""

    class Poisoned(Stepper):
        left = times

        def start_epoch(self, epoch):
            self.epoch_index = epoch
            super().start_epoch(epoch)

        def step(self, state, totals, index):
            state, totals = super().step(state, totals, index)
            if self.epoch_index * STEPS + index == at and Poisoned.left:
                Poisoned.left -= 1
                bad = {name: value * jnp.nan for name, value in state.params.items()}
                state = state._replace(params=bad)
                totals = totals._replace(loss=totals.loss * jnp.nan)
            return state, totals

    return Poisoned


def test_restoring_goes_back_and_skips_the_batches(tmp_path, command, monkeypatch):
    workdir = tmp_path / "x"
    args = ("jaxnets.train", "--config", CONFIG, "--workdir", workdir, "--config.on_nan=restore")
    monkeypatch.setattr(loop, "Stepper", poison(at=STEPS + 1))
    result = command(*args, "--config.progress.every_steps=2", "--config.num_epochs=2")
    assert result.code == 0, result.err
    assert f"not finite in steps {STEPS + 1} to {STEPS + 2}: back to step {STEPS}" in result.out
    assert "2 steps skipped" in result.out
    rows = read_rows(workdir / "metrics.jsonl")
    assert [(row["epoch"], row["skipped_steps"]) for row in rows] == [(1, 0), (2, 2)]
    assert meta_of(workdir, "last")["progress"]["skipped"] == 2

    # The same by hand: four steps, two left out, two more.
    _, run = build_tiny("--config.on_nan=restore", "--config.num_epochs=2")
    stepper = Stepper(run.task, run.data, run.state)
    state, totals = stepper.replicate(run.state, Totals.zero())
    for step in range(2 * STEPS):
        if step % STEPS == 0:
            stepper.start_epoch(step // STEPS)
        if step in (STEPS, STEPS + 1):
            state = stepper.skip(state)
        else:
            state, totals = stepper.step(state, totals, step % STEPS)
    got, _ = restored(workdir)[0]
    assert int(got["step"]) == int(state.step) == 2 * STEPS
    for name, value in state.params.items():
        np.testing.assert_array_equal(got["params"][name], value)
    assert int(got["opt_state"]["count"]) == 2 * STEPS  # Lookahead's phase and the schedule too


def test_restoring_before_the_first_epoch_ends(tmp_path, command, monkeypatch):
    """There is nothing to go back to but the start."""
    workdir = tmp_path / "x"
    args = ("jaxnets.train", "--config", CONFIG, "--workdir", workdir, "--config.on_nan=restore")
    monkeypatch.setattr(loop, "Stepper", poison(at=0))
    result = command(*args, "--config.progress.every_steps=1", "--config.num_epochs=1")
    assert result.code == 0, result.err
    assert "back to step 0" in result.out


def test_an_epoch_without_a_finite_batch_ends_the_run(tmp_path, refused, monkeypatch):
    args = ("--config", CONFIG, "--workdir", tmp_path / "x", "--config.on_nan=restore")
    assert "no batch of epoch 1" in refused("jaxnets.train", *args, "--config.optim.lr=1e30")


def test_a_run_that_diverged_is_not_saved_by_a_signal(tmp_path, command, monkeypatch):
    workdir = tmp_path / "x"
    monkeypatch.setattr(loop, "Stepper", poison(at=1))
    monkeypatch.setattr(loop, "StopSignal", stop_after(2))
    result = command("jaxnets.train", "--config", CONFIG, "--workdir", workdir)
    assert result.code == 2
    assert "not finite: seen at step 2" in result.err
    assert store._steps(workdir / "checkpoints") == []


# One call an epoch


def test_an_epoch_in_one_call_gives_the_same_run(trained, tmp_path, command):  # noqa: F811
    """To rounding: the compiler fuses a loop's body in another way."""
    workdir = tmp_path / "tiny"
    args = ("jaxnets.train", "--config", CONFIG, "--workdir", workdir)
    result = command(*args, "--config.epoch_in_one_call=True")
    assert result.code == 0, result.err
    assert "compiled the steps for batches of 400" in result.out
    assert "compiled the step for batches of 400" not in result.out
    for ours, theirs in zip(rows_of(workdir), rows_of(trained), strict=True):
        assert ours["step"] == theirs["step"]
        assert ours["train/loss"] == pytest.approx(theirs["train/loss"], rel=1e-4)
        assert ours["lr"] == theirs["lr"]


def test_an_epoch_in_one_call_goes_on_from_its_middle(tmp_path, command, monkeypatch):
    workdir = tmp_path / "tiny"
    args = ("jaxnets.train", "--config", CONFIG, "--workdir", workdir, "--config.num_epochs=2")
    with monkeypatch.context() as patch:
        patch.setattr(loop, "StopSignal", stop_after(2))
        assert command(*args).code == 128 + signal.SIGTERM
    result = command(*args, "--config.epoch_in_one_call=True")
    assert result.code == 0, result.err
    assert [row["step"] for row in read_rows(workdir / "metrics.jsonl")] == [STEPS, 2 * STEPS]


def test_an_epoch_in_one_call_names_the_step_that_diverged(tmp_path, refused, monkeypatch):
    class Sick(Stepper):
        done = 0

        def steps(self, state, totals, count):
            state, totals, health = super().steps(state, totals, count)
            self.done += count
            if self.done >= 3:
                health = health.at[count - self.done + 2 :].set(jnp.nan)
            return state, totals, health

    monkeypatch.setattr(loop, "Stepper", Sick)
    args = ("--config", CONFIG, "--workdir", tmp_path / "x", "--config.epoch_in_one_call=True")
    assert "seen at step 3" in refused("jaxnets.train", *args)


# What the hot loop does not do


@pytest.mark.parametrize("whole", [False, True])
def test_steps_move_nothing_between_host_and_devices(whole):
    _, run = build_tiny()
    stepper = Stepper(run.task, run.data, run.state, whole_epochs=whole)
    state, totals = stepper.replicate(run.state, Totals.zero())
    given = state.params
    with jax.transfer_guard("disallow"):
        state, totals = stepper.epoch(state, totals)
    assert stepper.read(totals).images == 1438
    assert all(value.is_deleted() for value in given.values()), "the state is not donated"
    with jax.transfer_guard("disallow"), pytest.raises(Exception, match=r"[Dd]isallowed"):
        jnp.zeros(3) + np.ones(3)  # the guard works here


def dtypes(arrays: dict) -> set[str]:
    return {str(v.dtype) for v in arrays.values() if jnp.issubdtype(v.dtype, jnp.floating)}


def test_bfloat16_computes_in_it_and_keeps_the_rest_in_float32():
    _, run = build_tiny("--config.dtype=bfloat16")
    task, (_, params, stats, _) = run.task, run.state
    assert dtypes(params) == dtypes(stats) == {"float32"}

    def forward(images):
        return task.network.apply(params, stats, images, train=True, key=jax.random.key(0))

    images = jnp.zeros((4, 32, 32, 3), jnp.bfloat16)
    logits, after = forward(images)
    assert logits.dtype == jnp.float32
    assert dtypes(after) == {"float32"}
    text = str(jax.make_jaxpr(forward)(images))
    lines = [line for line in text.splitlines() if "conv_general_dilated[" in line]
    assert lines
    assert all(":bf16[" in line for line in lines)


def test_bfloat16_learns_as_float32_does(trained, tmp_path, command):  # noqa: F811
    workdir = tmp_path / "tiny"
    args = ("--config", CONFIG, "--workdir", workdir, "--config.dtype=bfloat16")
    assert command("jaxnets.train", *args).code == 0
    for half, single in zip(rows_of(workdir), rows_of(trained), strict=True):
        assert half["train/loss"] == pytest.approx(single["train/loss"], rel=0.02)
        assert half["train/loss"] != single["train/loss"]


# The validation split


def test_the_validation_split_chooses_the_best_checkpoint(tmp_path, command):
    workdir = tmp_path / "x"
    args = ("--config", CONFIG, "--workdir", workdir, "--config.data.val_fraction=0.25")
    result = command("jaxnets.train", *args)
    assert result.code == 0, result.err
    assert "val loss" in result.out
    assert "best validation accuracy" in result.out
    rows = read_rows(workdir / "metrics.jsonl")
    best = max(rows, key=lambda row: row["val/accuracy"])
    meta = meta_of(workdir, "best")
    assert meta["selected_on"] == "val"
    assert meta["progress"]["best_step"] == best["step"]
    assert meta["progress"]["best_accuracy"] == best["val/accuracy"]
    assert json.loads((workdir / "config.json").read_text())["data"]["val_fraction"] == 0.25


def test_without_one_the_test_set_does_and_the_checkpoint_says_so(trained):  # noqa: F811
    assert meta_of(trained, "best")["selected_on"] == "test"
    assert "val/loss" not in rows_of(trained)[0]


# The compilation cache

COUNT_MISSES = """
import sys
from jaxnets.train import __main__ as train
import jax
misses = []
jax.monitoring.register_event_listener(lambda name, **_: misses.append(name))
assert train.main(sys.argv[1:]) == 0
print("misses:", sum(name == "/jax/compilation_cache/cache_misses" for name in misses))
"""


@pytest.mark.slow
def test_a_second_start_compiles_nothing(tmp_path):
    def misses(workdir: str) -> int:
        args = ["--config", CONFIG, "--workdir", str(tmp_path / workdir), "--config.num_epochs=1"]
        done = subprocess.run(
            [sys.executable, "-c", COUNT_MISSES, *args],
            env=os.environ | {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache")},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return int(done.stdout.rpartition("misses: ")[2])

    assert misses("first") > 10
    assert misses("second") == 0


@pytest.mark.parametrize("progress", [[1], {"best": 1.0}, {"seconds": "1"}, None])
def test_metadata_that_is_not_of_a_run_is_one_line(progress, tmp_path):
    _, run = build_tiny()
    checkpoints = store.Checkpoints(tmp_path, keep=1)
    checkpoints.save_last(4, (run.state, Totals.zero()), {"progress": progress})
    with pytest.raises(UserError, match="checkpoints/4: its metadata does not say how far"):
        loop._resume(run, checkpoints, print)
