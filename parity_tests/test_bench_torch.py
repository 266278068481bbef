"""python -m jaxnets.bench --against torch, and the twin as the bench runs it."""

import json
import time
from pathlib import Path

import jax
import pytest
import torch
from helpers import little_effort

import jaxnets
import jaxnets.bench.__main__ as bench
from jaxnets import config as configs
from jaxnets.bench import measure, rows, torch_side
from jaxnets.bench.case import Budget, synthetic
from jaxnets.bench.torch_augment import DeviceAugment
from torch_ref.augment import make_augment
from torch_ref.step import train_step

CONFIG = str(Path(__file__).parents[1] / "tests" / "tiny_config.py")
OPS = ("random_resized_crop", "rotation", "crop", "flip", "jitter", "erasing")


@pytest.fixture(autouse=True)
def quick():
    """Tiny work, quickly compiled; torch's settings stay as they are."""
    with little_effort() as patch:
        patch.setattr(torch_side, "set_up", lambda tf32: None)
        yield


def recipe(*args: str):
    return configs.read(CONFIG, args)


@pytest.mark.parametrize("hue", [0.1, 0.0])
@pytest.mark.parametrize("size", [(32, 32), (9, 14)])
def test_augmentation_that_does_not_wait_is_the_same(size, hue):
    config = recipe(f"--config.augment.ops={OPS}", f"--config.augment.jitter.hue={hue}")
    augment = make_augment(config.augment)
    queued = DeviceAugment(augment.ops, *size, torch.device("cpu"))
    random = torch.Generator().manual_seed(0)
    images = torch.randint(256, (200, *size, 3), generator=random, dtype=torch.uint8)
    params = augment.draw(torch.rand(200, augment.size, generator=random), *size)
    result = queued.apply(images, params)
    assert (result == augment.apply(images, params)).all()
    assert (result != images).flatten(1).any(1).all()


def test_it_needs_no_look_at_the_device():
    """Tensors without content: whatever waits for a value fails, as does any tensor elsewhere."""
    device = torch.device("meta")
    config = recipe(f"--config.augment.ops={OPS}", "--config.batch_size=8")
    twin = torch_side.Twin(config, synthetic(config, on_cpu=True))
    twin.device = device
    twin.images, twin._shift, twin._scale = (
        x.to(device) for x in (twin.images, twin._shift, twin._scale)
    )
    twin._queued = DeviceAugment(twin.task.augment.ops, 32, 32, device)
    order, params = twin.draw()
    inputs = twin.prepare(twin.images[order], params)
    assert inputs.device == device
    assert inputs.shape == (64, 3, 32, 32)
    assert inputs.is_contiguous(memory_format=torch.channels_last)


def test_the_twin_trains_as_its_trainer_does():
    """The same step, but for where the random numbers come from: here there are none."""
    config = recipe("--config.augment.ops=()", "--config.batch_size=8", "--config.model.drop=0")
    data = synthetic(config, on_cpu=True)
    twin, other = torch_side.Twin(config, data), torch_side.Twin(config, data)
    torch.manual_seed(0)
    side = torch_side.TorchSide(twin, None, limit=60)  # makes the first step
    side.train.run(2)
    for index in range(3):
        rows = side._order[8 * index : 8 * index + 8]
        train_step(other.task, index, other.images[rows], other.labels[rows])
    wanted = other.task.net.state_dict()
    for name, value in twin.task.net.state_dict().items():
        torch.testing.assert_close(value, wanted[name], rtol=1e-5, atol=1e-6)


def test_both_sides_in_one_row(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    path = tmp_path / "bench.json"
    quick = ("--batch=8", "--repeats=2", "--seconds=0.02", "--against=torch")
    assert bench.main(["--config", CONFIG, *quick, f"--json={path}"]) == 0
    (row,) = json.loads(path.read_text())["rows"]
    rates = {name: row[f"torch_{name}_images_per_second"] for name in ("eager", "compiled")}
    assert row["torch_best"] == max(rates, key=rates.get)
    assert row["torch_best_images_per_second"] == max(rates.values())
    assert row["speedup"] == pytest.approx(row["train_images_per_second"] / max(rates.values()))
    assert row["torch_notes"] == {}
    assert row["torch_peak_memory_bytes"] >= 0
    out = capsys.readouterr().out
    assert "against torch" in out
    assert f"{row['speedup']:.2f}" in out


def no_compiler(*_, **__):
    raise RuntimeError("no C++ compiler\nfound")


def slow_compiler(*_, **__):
    try:
        time.sleep(30)
    except Exception:  # as compilers do, which make something else of it
        return None


@pytest.mark.parametrize(
    ("compiler", "why"),
    [
        (no_compiler, "not measured: RuntimeError: no C++ compiler found"),
        (slow_compiler, "not measured: TimeoutError: took more than 0.2 s"),
    ],
)
def test_a_compiler_that_fails_is_said(monkeypatch, compiler, why):
    monkeypatch.setattr(torch, "compile", compiler)
    config, said = recipe("--config.batch_size=8"), []
    budget = Budget(repeats=1, seconds=0.01, compile_limit=0.2)
    data, started = synthetic(config, on_cpu=True), time.monotonic()
    sides, notes, _ = measure.torch_sides(config, data, budget, said.append, time.perf_counter)
    assert list(sides) == ["eager"]
    assert notes == {"compiled": why}
    assert f"  torch compiled: {why}" in said
    assert time.monotonic() - started < 30
    time.sleep(0.3)  # no alarm is left over


def test_without_torch_it_is_one_line(monkeypatch):
    monkeypatch.setattr(bench, "find_spec", lambda name: None)
    with pytest.raises(jaxnets.UserError, match="--against torch: torch is not installed"):
        bench.main(["--config", CONFIG, "--against=torch"])


def test_tf32_is_allowed_on_both_sides_or_on_neither(monkeypatch):
    from jaxnets.devices import machine

    assert machine.tf32_allowed() is None or jax.default_backend() != "cpu"
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert machine.tf32_allowed()
    with jax.default_matmul_precision("highest"):
        assert not machine.tf32_allowed()


MACHINE = {
    "device": "x", "platform": "gpu", "cores": 1, "versions": {}, "load": [0.0], "tf32": True,
    "cpu_flag": {"in_force": False}, "memory_kept": False,
}  # fmt: skip
NUMBERS = dict.fromkeys(
    ("train_images_per_second", "train_spread", "eval_images_per_second", "latency_ms",
     "compile_seconds", "first_step_seconds", "peak_memory_bytes", "share_of_product"), 1.0,
)  # fmt: skip


@pytest.fixture
def bench_memory(tmp_path, monkeypatch, capsys):
    """The row of --memory, its rates made up, and what is printed."""
    row = {"config": "x", "batch": 8, "dtype": "float32", "peak_memory_is": "x", **NUMBERS}
    monkeypatch.setattr(rows, "measure_here", lambda *_: (MACHINE, dict(row)))

    def call() -> tuple[dict, str]:
        path = tmp_path / "bench.json"
        args = ["--config", CONFIG, "--batch=8", "--against=torch", "--memory", f"--json={path}"]
        assert bench.main(args) == 0
        (found,) = json.loads(path.read_text())["rows"]
        return found, capsys.readouterr().out

    return call


def test_memory_is_in_row_and_table(bench_memory, monkeypatch):
    held = {"jax": 300_000_000, "torch": 200_000_000}
    monkeypatch.setattr(rows, "apart", lambda work, case, side: held[side])
    row, out = bench_memory()
    assert (row["resident_bytes"], row["torch_resident_bytes"]) == tuple(held.values())
    assert out.splitlines()[-1].split()[-3:] == ["300", "200", "1.50"]


def test_memory_that_could_not_be_measured_says_why(bench_memory, monkeypatch):
    monkeypatch.setattr(rows, "apart", lambda work, case, side: "its process ended early")
    row, out = bench_memory()
    assert row["resident_bytes"] == "its process ended early"
    assert out.splitlines()[-1].split()[-1] == "float32"  # no figures


@pytest.mark.slow
def test_what_a_training_of_each_side_holds(bench_memory):
    row, _ = bench_memory()
    data = 50_000 * 32 * 32 * 3
    assert row["resident_bytes"] > data
    assert row["torch_resident_bytes"] > data
