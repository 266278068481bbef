"""Checkpoints written behind training: what it gave, in its order, and nothing after a failure."""

import threading
import time

import jax.numpy as jnp
import numpy as np
import pytest

from jaxnets.checkpoints import store as checkpoints
from jaxnets.checkpoints.store import Checkpoints
from jaxnets.errors import UserError
from jaxnets.runs.log import read_rows
from jaxnets.train import loop
from tests.stopping import stop_after
from tests.test_train import CONFIG, STEPS
from tests.test_train_loop import poison


class Store(Checkpoints):
    """Checkpoints that take as long as `may_write` says, and fail where `full` says."""

    def __init__(self, workdir, full: str = ""):
        super().__init__(workdir, 2, in_background=True)
        self.full, self.may_write, self.written = full, threading.Event(), []

    def _write_best(self, *args):
        self._write("best", *args)

    def _write_last(self, *args):
        self._write("last", *args)

    def _write(self, which, step, state, meta):
        assert self.may_write.wait(60)
        if which == self.full:
            raise UserError("no space")
        self.written.append((which, step, state, meta))


def test_what_was_given_is_written_though_its_buffers_are_gone(tmp_path):
    state = {"w": jnp.arange(3.0)}
    with Store(tmp_path) as store:
        store.save_best(4, state, {"epoch": 1})
        store.save_last(4, state, {"epoch": 1})
        state["w"].delete()
        assert not store.written
        store.may_write.set()
        store.wait()
    assert [(which, step, meta) for which, step, _, meta in store.written] == [
        ("best", 4, {"epoch": 1}),
        ("last", 4, {"epoch": 1}),
    ]
    for _, _, copy, _ in store.written:
        np.testing.assert_array_equal(copy["w"], [0, 1, 2])


def test_after_a_failure_nothing_is_written(tmp_path):
    with Store(tmp_path, full="best") as store:
        store.may_write.set()
        store.save_last(4, {}, {})
        store.save_best(8, {}, {})
        store.save_last(8, {}, {})
        for _ in range(2):
            with pytest.raises(UserError, match="no space"):
                store.wait()
    assert [(which, step) for which, step, _, _ in store.written] == [("last", 4)]


def test_training_does_not_wait_for_the_disk(tmp_path, command, monkeypatch):
    """The first epoch's checkpoint is held back until the second epoch has begun."""
    begun = threading.Event()

    class Slow(Checkpoints):
        def _write_last(self, step, state, meta):
            assert begun.wait(60)
            super()._write_last(step, state, meta)

    class Telling(loop.Stepper):
        def start_epoch(self, epoch):
            if epoch == 1:
                begun.set()
            super().start_epoch(epoch)

    monkeypatch.setattr(loop, "Checkpoints", Slow)
    monkeypatch.setattr(loop, "Stepper", Telling)
    args = ("--config", CONFIG, "--workdir", tmp_path / "x", "--config.num_epochs=2")
    assert command("jaxnets.train", *args).code == 0
    assert checkpoints.find(tmp_path / "x", "last")[1] == 2 * STEPS


def full_at(wanted: int, which: str) -> type:
    """Checkpoints that find no space for one of them."""

    class Full(Checkpoints):
        def _write_best(self, step, state, meta):
            self._check(step, "best")
            super()._write_best(step, state, meta)

        def _write_last(self, step, state, meta):
            self._check(step, "last")
            super()._write_last(step, state, meta)

        def _check(self, *found):
            if found == (wanted, which):
                raise UserError(f"{which}/{wanted}: cannot be written")

    return Full


def test_a_checkpoint_that_cannot_be_written_ends_training(tmp_path, refused, monkeypatch):
    """After the epoch that was being trained; none after it counts on it."""
    monkeypatch.setattr(loop, "Checkpoints", full_at(STEPS, "best"))
    args = ("--config", CONFIG, "--workdir", tmp_path / "x", "--config.num_epochs=3")
    assert f"best/{STEPS}" in refused("jaxnets.train", *args)
    assert not list((tmp_path / "x").glob("*/[0-9]*"))
    assert len(read_rows(tmp_path / "x" / "metrics.jsonl")) == 1


@pytest.mark.parametrize("stopped_at", [None, 2])
def test_the_end_is_not_told_before_all_is_written(stopped_at, tmp_path, command, monkeypatch):
    last = stopped_at or STEPS
    monkeypatch.setattr(loop, "Checkpoints", full_at(last, "last"))
    if stopped_at:
        monkeypatch.setattr(loop, "StopSignal", stop_after(stopped_at))
    args = ("--config", CONFIG, "--workdir", tmp_path / "x", "--config.num_epochs=1")
    code, out, err = command("jaxnets.train", *args)
    assert (code, err) == (2, f"error: last/{last}: cannot be written\n")
    assert "done" not in out
    assert "saved" not in out


def test_a_restore_waits_for_what_is_being_written(tmp_path, command, monkeypatch):
    class Slow(Checkpoints):
        def _write_last(self, *args):
            time.sleep(0.5)
            super()._write_last(*args)

    monkeypatch.setattr(loop, "Checkpoints", Slow)
    monkeypatch.setattr(loop, "Stepper", poison(at=STEPS))
    args = ("--config.on_nan=restore", "--config.progress.every_steps=1", "--config.num_epochs=2")
    result = command("jaxnets.train", "--config", CONFIG, "--workdir", tmp_path / "x", *args)
    assert result.code == 0, result.err
    assert f"back to step {STEPS}," in result.out
