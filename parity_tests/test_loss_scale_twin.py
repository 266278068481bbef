"""Dynamic loss scaling against torch.amp.GradScaler: the same scales, the same steps left out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from helpers import few_digits, little_effort

import jaxnets.port.runs.write
import jaxnets.train.__main__
import jaxnets.train.task
import torch_ref.optim
import torch_ref.train
from jaxnets import config as configs
from jaxnets.config.loss_scale import read_loss_scaling
from jaxnets.errors import UserError
from jaxnets.optim import make_optimizer
from jaxnets.optim.loss_scale import unscaled
from jaxnets.parity import trainings as parity
from jaxnets.port.runs.convert import port_run
from jaxnets.port.runs.read import read
from jaxnets.runs.log import read_rows
from tests.runs import arrays, assert_same_run

CONFIG = "tests/tiny_config.py"
HUGE = 2.0**30
HALF = ("--config.dtype=float16", f"--config.optim.loss_scale.init_scale={HUGE}")
TINY = ("--config.model.drop=0", "--config.batch_size=20")
# Beside Lookahead.
AROUND = ("--config.optim.ema.decay=.9", "--config.eval_weights=slow", "--config.schedule.per=step")


@pytest.fixture(scope="module", autouse=True)
def quick():
    with little_effort() as patch:
        few = few_digits(60, 10)
        for module in (jaxnets.train.task, torch_ref.train, jaxnets.port.runs.write):
            patch.setattr(module, "load", lambda *_, **__: few)
        yield few


OPTIMIZERS = {
    "sgd with Lookahead": {
        "optim.nesterov": True, "optim.lookahead.enabled": True, "optim.lookahead.k": 2,
        "schedule.name": "one_cycle", "schedule.per": "step",
    },
    "clipped adamw": {
        "optim.name": "adamw", "optim.clip": "norm", "schedule.name": "cosine",
    },
}  # fmt: skip


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_forty_updates_are_those_of_grad_scaler(name):
    """In float64, whatever the gradients: which overflow is given, here and there, and at ends."""
    config = configs.default_config()
    config.update_from_flattened_dict(
        {"dtype": "float16", "optim.loss_scale.growth_interval": 3, **OPTIMIZERS[name]}
    )
    scaling = read_loss_scaling(config)
    plan = {"steps_per_epoch": 4, "num_epochs": 10}
    tx = make_optimizer(config.optim, config.schedule, **plan, loss_scaling=scaling).tx
    rng = np.random.default_rng(0)
    start = rng.standard_normal((5, 3))
    params = {"w": jnp.asarray(start)}
    state, update = tx.init(params), jax.jit(tx.update)

    weight = torch.nn.Parameter(torch.tensor(start))
    theirs = torch_ref.optim.make_optimizer([weight], config.optim, config.schedule, **plan)
    scaler = torch.amp.GradScaler("cpu", **scaling._asdict())
    scaler.scale(torch.zeros(()))  # begins with the first loss
    bad = {0, 1, 5, 9, 10, 11, 20, 39}
    for step in range(40):
        grad = rng.standard_normal((5, 3)) * scaler.get_scale()
        grad[1, 2] = {0: np.inf, 1: np.nan}.get(step % 2) if step in bad else grad[1, 2]
        updates, state = update(unscaled(state, {"w": jnp.asarray(grad)}), state, params)
        params = jax.tree.map(jnp.add, params, updates)
        weight.grad = torch.tensor(grad)
        scaler.unscale_(theirs)
        scaler.step(theirs)
        scaler.update()
        assert float(state.scale) == scaler.get_scale()
        assert int(state.growth_tracker) == scaler.state_dict()["_growth_tracker"]
        assert step + 1 - int(state.overflowed) == theirs.count
        np.testing.assert_allclose(params["w"], weight.detach(), rtol=0, atol=1e-12)
    assert int(state.overflowed) == len(bad)


def test_the_same_steps_of_a_training_are_left_out(quick, monkeypatch):
    """Scales too large at first, and again where it grows: the parameters go along."""
    options = ("--config.optim.loss_scale.growth_interval=5", "--config.optim.lr=.01")
    config = configs.read(CONFIG, [*HALF, *TINY, *options, "--config.num_epochs=14"])
    build = jaxnets.train.task.build
    monkeypatch.setattr(parity, "build", lambda config: build(config, quick))
    rows = parity.compare(config, 40)
    left_out = [[s.grad_norm == 0 for s in (row.jax, row.torch)] for row in rows]
    assert all(ours == theirs for ours, theirs in left_out)
    assert [ours for ours, _ in left_out[:8]] == [True] * 8
    assert 8 < sum(ours for ours, _ in left_out) < 30
    assert not all(ours for ours, _ in left_out[-10:])
    assert [row.jax.lr for row in rows] == pytest.approx([row.torch.lr for row in rows])
    assert max(row.parameters for row in rows) < 1e-3
    assert rows[7].parameters == 0  # nothing moves while all overflow
    assert rows[7].statistics < 1e-3  # but BatchNorm's statistics do
    for row in rows:
        assert row.jax.grad_norm == pytest.approx(row.torch.grad_norm, rel=0.02)


def train(trainer, workdir, *args):
    assert (
        trainer.main(["--config", CONFIG, f"--workdir={workdir}", *HALF, *TINY, *AROUND, *args])
        == 0
    )


def test_a_run_resumes_bit_for_bit_and_changes_the_framework(tmp_path):
    """Its scale and what was left out go along, both ways; each logs the same as the other."""
    ours, theirs = jaxnets.train.__main__, torch_ref.train
    long = "--config.num_epochs=8"
    train(ours, tmp_path / "jax", long, "--config.stop_after_minutes=0.00001")
    begun = read(tmp_path / "jax").run
    assert begun.step == begun.loss_scale.overflowed == 1
    assert begun.loss_scale.scale == HUGE / 2
    port_run(tmp_path / "jax", tmp_path / "torch" / "last.pt")
    content = torch.load(tmp_path / "torch" / "last.pt", weights_only=True)
    assert content["scaler"]["scale"] == HUGE / 2
    assert (content["step"], content["optimizer"]["count"]) == (1, 0)
    for trainer, name in ((ours, "jax"), (ours, "whole"), (theirs, "torch")):
        train(trainer, tmp_path / name, long)
    assert_same_run(tmp_path / "jax", tmp_path / "whole")
    assert any("growth_tracker" in name for name in arrays(tmp_path / "whole", "last"))
    rows = [read_rows(tmp_path / name / "metrics.jsonl") for name in ("jax", "torch")]
    for mine, other in zip(*rows, strict=True):
        for key in ("step", "loss_scale", "overflowed_steps"):
            assert mine[key] == other[key], key
        assert mine["lr"] == pytest.approx(other["lr"], rel=1e-12)
    assert (rows[0][0]["loss_scale"], rows[0][0]["grad_norm"]) == (HUGE / 8, 0)
    assert 3 < rows[0][-1]["overflowed_steps"] < 24
    port_run(tmp_path / "torch" / "last.pt", tmp_path / "back")
    back, there = read(tmp_path / "back").run, read(tmp_path / "torch" / "last.pt").run
    assert back.loss_scale == there.loss_scale == read(tmp_path / "jax").run.loss_scale
    assert back.step == 24 > back.optimizer.count > 0


def test_the_twin_resumes_with_its_scale(tmp_path):
    train(torch_ref.train, tmp_path / "cut", "--config.stop_after_minutes=0.00001")
    for name in ("cut", "whole"):
        train(torch_ref.train, tmp_path / name, "--config.num_epochs=3")
    cut, whole = (
        torch.load(tmp_path / name / "last.pt", weights_only=True) for name in ("cut", "whole")
    )
    assert cut["scaler"] == whole["scaler"]
    assert cut["scaler"]["scale"] < HUGE
    for name, value in whole["net"].items():
        assert torch.equal(cut["net"][name], value), name


def test_a_scaler_that_does_not_fit_is_one_line(tmp_path):
    train(
        torch_ref.train, tmp_path / "x", "--config.optim.loss_scale.init_scale=16",
        "--config.num_epochs=1",
    )  # fmt: skip
    content = torch.load(tmp_path / "x" / "last.pt", weights_only=True)
    scaler = content["scaler"]
    for changed, said in (
        ({}, "it has no loss scale, but its configuration is config.dtype=float16"),
        ({"a": 1}, "its scaler is not a state_dict of torch.amp.GradScaler"),
        (scaler | {"scale": float("nan")}, "its loss scale cannot be: nan"),
        (scaler | {"_growth_tracker": 2000}, "its loss scale cannot be"),
    ):
        torch.save(content | {"scaler": changed}, tmp_path / "x.pt")
        with pytest.raises(UserError) as refusal:
            read(tmp_path / "x.pt")
        assert said in str(refusal.value)
