"""One case, measured: JAX and PyTorch in one process, in turn."""

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from jaxnets import config as configs
from jaxnets.bench.case import Budget, Case, synthetic
from jaxnets.bench.jax_side import JaxSide, product
from jaxnets.bench.memory import PeakMemory
from jaxnets.devices import cpu_memory, machine, runtime
from jaxnets.models.audit import audit_model
from jaxnets.timing import Clock, Rates, alternate
from jaxnets.train.task import build_model

if TYPE_CHECKING:
    from jaxnets.bench.torch_side import TorchSide

# A multiply-accumulate is two operations; the backward pass computes a gradient of the input and
# one of the kernel, each as costly as the forward pass.
OPERATIONS_PER_MAC, PASSES = 2, 3
JAX, PRODUCT = "jaxnets", "product"

Log = Callable[[str], None]


def measure(
    case: Case, budget: Budget, against_torch: bool, log: Log, clock: Clock = time.perf_counter
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The machine, and the case's row."""
    config = configs.from_json(case.config)
    if against_torch:  # JAX would take three quarters of a GPU for itself
        os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.45")
    runtime.setup(config.dtype, one_heap=True)
    with _without_compilation_cache():
        found = machine.of_a_benchmark(machine.tf32_allowed())
        row = _row(config, case.spec, budget, against_torch, log, clock)
        # Decided by the memory that the compiled step needs.
        return found | {"memory_kept": cpu_memory.kept()}, row


def _row(
    config: Any, spec: str, budget: Budget, against_torch: bool, log: Log, clock: Clock
) -> dict[str, Any]:
    on_cpu = jax.default_backend() == "cpu"
    data = synthetic(config, on_cpu)
    shape = data.train_images.shape[1:]
    macs = audit_model(build_model(config, len(data.class_names)), shape).macs
    log(f"{spec}, batch {config.batch_size}, {config.dtype}")

    memory = PeakMemory(jax.local_devices()[0])
    jax_side = JaxSide(config, data, clock)
    peak = memory.read()
    log(f"  jaxnets: compiled in {jax_side.compile_seconds:.1f} s")
    sides, notes, torch_peak = {}, {}, None
    if against_torch:
        sides, notes, torch_peak = torch_sides(config, data, budget, log, clock)

    def rates(name: str, what: str, others: dict | None = None) -> dict[str, Rates]:
        works = {JAX: getattr(jax_side, what)}
        works |= {variant: getattr(side, what) for variant, side in sides.items()}
        found = alternate(works | (others or {}), budget.repeats, budget.seconds, clock)
        unit = "images/s"
        log(f"  {name}: " + ", ".join(f"{k} {found[k].median:,.1f}" for k in works) + f" {unit}")
        return found

    multiply, size = product(config.dtype, on_cpu)
    train = rates("training", "train", {PRODUCT: multiply})
    evaluate = rates("evaluation", "evaluate")
    latency = rates("one image at a time", "latency")

    used = OPERATIONS_PER_MAC * PASSES * macs * train[JAX].median
    row = {
        "model": config.model.name,
        "config": spec,
        "batch": config.batch_size,
        "dtype": config.dtype,
        "parameters": jax_side.parameters,
        "macs": macs,
        "n": budget.repeats,
        "steps_per_call": jax_side.steps_per_call,
        "steps_per_repeat": train[JAX].units * jax_side.steps_per_call,
        "train_images_per_second": train[JAX].median,
        "train_spread": train[JAX].spread,
        "eval_images_per_second": evaluate[JAX].median,
        "eval_spread": evaluate[JAX].spread,
        "latency_ms": 1e3 / latency[JAX].median,
        "latency_spread_ms": _spread_ms(latency[JAX]),
        "compile_seconds": jax_side.compile_seconds,
        "first_step_seconds": jax_side.first_step_seconds,
        "peak_memory_bytes": peak,
        "peak_memory_is": memory.kind,
        "train_flops_per_second": used,
        "product_flops_per_second": train[PRODUCT].median,
        "product_size": size,
        "share_of_product": used / train[PRODUCT].median,
    }
    if against_torch:
        row |= against(train, evaluate, latency, sides)
        row |= {"torch_peak_memory_bytes": torch_peak, "torch_notes": notes}
    return row


def torch_sides(
    config: Any, data: Any, budget: Budget, log: Log, clock: Clock
) -> tuple[dict[str, "TorchSide"], dict[str, str], int]:
    """The variants that work, why the others do not, and the memory of the eager one."""
    from jaxnets.bench import torch_side

    torch_side.set_up(bool(machine.tf32_allowed()))
    memory = PeakMemory(jax.local_devices()[0])
    twin = torch_side.Twin(config, data)
    sides, notes, peak = {}, {}, 0
    for name, mode in torch_side.modes(twin.device).items():
        try:
            side = torch_side.TorchSide(twin, mode, budget.compile_limit, clock)
        except Exception as e:
            if mode is None:
                raise
            notes[name] = f"not measured: {torch_side.one_line(e)}"
            log(f"  torch {name}: {notes[name]}")
            continue
        sides[name] = side
        if side.note:
            notes[name] = side.note
        log(f"  torch {name}: first step in {side.first_step_seconds:.1f} s")
        if mode is None:
            peak = torch_side.peak_memory(twin.device) or memory.read()
    return sides, notes, peak


def against(
    train: dict[str, Rates],
    evaluate: dict[str, Rates],
    latency: dict[str, Rates],
    sides: dict[str, "TorchSide"],
) -> dict[str, Any]:
    """PyTorch's part of a row: each variant, the best of them, and how JAX compares with that."""
    row: dict[str, Any] = {}
    for name in sides:
        row |= {
            f"torch_{name}_images_per_second": train[name].median,
            f"torch_{name}_spread": train[name].spread,
            f"torch_{name}_eval_images_per_second": evaluate[name].median,
            f"torch_{name}_latency_ms": 1e3 / latency[name].median,
            f"torch_{name}_first_step_seconds": sides[name].first_step_seconds,
        }
    best = best_of(train, sides)
    ratios = np.divide(train[JAX].each, train[best].each)
    eval_best, latency_best = best_of(evaluate, sides), best_of(latency, sides)
    return row | {
        "torch_best": best,
        "torch_best_images_per_second": train[best].median,
        "torch_best_eval_images_per_second": evaluate[eval_best].median,
        "torch_best_latency_ms": 1e3 / latency[latency_best].median,
        "speedup": train[JAX].median / train[best].median,
        "speedup_quartiles": [float(q) for q in np.quantile(ratios, (0.25, 0.75))],
        "eval_speedup": evaluate[JAX].median / evaluate[eval_best].median,
        "latency_speedup": latency[JAX].median / latency[latency_best].median,
    }


def best_of(rates: dict[str, Rates], names: dict[str, Any]) -> str:
    """The one with the highest median."""
    return max(names, key=lambda name: rates[name].median)


def _spread_ms(rates: Rates) -> float:
    low, high = np.quantile(1e3 / np.asarray(rates.each), (0.25, 0.75))
    return float(high - low)


@contextlib.contextmanager
def _without_compilation_cache() -> Iterator[None]:
    """Without jax's cache of compiled programs: compile times are those of compiling."""
    from jax.experimental.compilation_cache import compilation_cache

    before = jax.config.jax_enable_compilation_cache
    try:
        jax.config.update("jax_enable_compilation_cache", False)
        compilation_cache.reset_cache()
        yield
    finally:
        jax.config.update("jax_enable_compilation_cache", before)
        compilation_cache.reset_cache()
