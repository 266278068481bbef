"""One case, measured: both sides in one process, in turn."""

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from jaxnets import config as configs
from jaxnets.bench.case import Case, Effort, synthetic
from jaxnets.bench.memory import PeakMemory
from jaxnets.bench.ours import Ours, product
from jaxnets.bench.timing import Clock, Rates, alternate
from jaxnets.devices import cpu_memory, machine, runtime
from jaxnets.models.audit import audit_model
from jaxnets.train.task import build_model

if TYPE_CHECKING:
    from jaxnets.bench.theirs import Side

# A multiply-accumulate is two operations; the backward pass computes a gradient of the input and
# one of the kernel, each as costly as the forward pass.
OPERATIONS_PER_MAC, PASSES = 2, 3
OURS, PRODUCT = "jaxnets", "product"

Say = Callable[[str], None]


def measure(
    case: Case, effort: Effort, against_torch: bool, say: Say, clock: Clock = time.perf_counter
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the measurements were made on, and the case's row."""
    config = configs.from_json(case.config)
    if against_torch:  # JAX would take three quarters of a GPU for itself
        os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.45")
    runtime.setup(config.dtype, one_heap=True)
    with _without_compilation_cache():
        found = machine.of_a_benchmark(machine.tf32_allowed())
        row = _row(config, case.spec, effort, against_torch, say, clock)
        # Decided by what the compiled step takes.
        return found | {"memory_kept": cpu_memory.kept()}, row


def _row(
    config: Any, spec: str, effort: Effort, against_torch: bool, say: Say, clock: Clock
) -> dict[str, Any]:
    on_cpu = jax.default_backend() == "cpu"
    data = synthetic(config, on_cpu)
    shape = data.train_images.shape[1:]
    macs = audit_model(build_model(config, len(data.class_names)), shape).macs
    say(f"{spec}, batch {config.batch_size}, {config.dtype}")

    memory = PeakMemory(jax.local_devices()[0])
    ours = Ours(config, data, clock)
    peak = memory.read()
    say(f"  jaxnets: compiled in {ours.compile_seconds:.1f} s")
    sides, notes, torch_peak = {}, {}, None
    if against_torch:
        sides, notes, torch_peak = torch_sides(config, data, effort, say, clock)

    def rates(name: str, what: str, others: dict | None = None) -> dict[str, Rates]:
        works = {OURS: getattr(ours, what)}
        works |= {variant: getattr(side, what) for variant, side in sides.items()}
        found = alternate(works | (others or {}), effort.repeats, effort.seconds, clock)
        unit = "images/s"
        say(f"  {name}: " + ", ".join(f"{k} {found[k].median:,.1f}" for k in works) + f" {unit}")
        return found

    multiply, size = product(config.dtype, on_cpu)
    train = rates("training", "train", {PRODUCT: multiply})
    evaluate = rates("evaluation", "evaluate")
    answer = rates("one image at a time", "answer")

    used = OPERATIONS_PER_MAC * PASSES * macs * train[OURS].median
    row = {
        "model": config.model.name,
        "config": spec,
        "batch": config.batch_size,
        "dtype": config.dtype,
        "parameters": ours.parameters,
        "macs": macs,
        "n": effort.repeats,
        "steps_per_call": ours.steps_per_call,
        "steps_per_repeat": train[OURS].units * ours.steps_per_call,
        "train_images_per_second": train[OURS].median,
        "train_spread": train[OURS].spread,
        "eval_images_per_second": evaluate[OURS].median,
        "eval_spread": evaluate[OURS].spread,
        "latency_ms": 1e3 / answer[OURS].median,
        "latency_spread_ms": _spread_ms(answer[OURS]),
        "compile_seconds": ours.compile_seconds,
        "first_step_seconds": ours.first_step_seconds,
        "peak_memory_bytes": peak,
        "peak_memory_is": memory.kind,
        "train_flops_per_second": used,
        "product_flops_per_second": train[PRODUCT].median,
        "product_size": size,
        "share_of_product": used / train[PRODUCT].median,
    }
    if against_torch:
        row |= against(train, evaluate, answer, sides)
        row |= {"torch_peak_memory_bytes": torch_peak, "torch_notes": notes}
    return row


def torch_sides(
    config: Any, data: Any, effort: Effort, say: Say, clock: Clock
) -> tuple[dict[str, "Side"], dict[str, str], int]:
    """The variants that work, why the others do not, and the memory of the eager one."""
    from jaxnets.bench import theirs

    theirs.set_up(bool(machine.tf32_allowed()))
    memory = PeakMemory(jax.local_devices()[0])
    twin = theirs.Twin(config, data)
    sides, notes, peak = {}, {}, 0
    for name, mode in theirs.modes(twin.device).items():
        try:
            side = theirs.Side(twin, mode, effort.compile_limit, clock)
        except Exception as e:
            if mode is None:
                raise
            notes[name] = f"not measured: {theirs.one_line(e)}"
            say(f"  torch {name}: {notes[name]}")
            continue
        sides[name] = side
        if side.note:
            notes[name] = side.note
        say(f"  torch {name}: first step in {side.first_step_seconds:.1f} s")
        if mode is None:
            peak = theirs.peak_memory(twin.device) or memory.read()
    return sides, notes, peak


def against(
    train: dict[str, Rates],
    evaluate: dict[str, Rates],
    answer: dict[str, Rates],
    sides: dict[str, "Side"],
) -> dict[str, Any]:
    """PyTorch's part of a row: each variant, the best of them, and how we compare with that."""
    row: dict[str, Any] = {}
    for name in sides:
        row |= {
            f"torch_{name}_images_per_second": train[name].median,
            f"torch_{name}_spread": train[name].spread,
            f"torch_{name}_eval_images_per_second": evaluate[name].median,
            f"torch_{name}_latency_ms": 1e3 / answer[name].median,
            f"torch_{name}_first_step_seconds": sides[name].first_step_seconds,
        }
    best = best_of(train, sides)
    ratios = np.divide(train[OURS].each, train[best].each)
    eval_best, answer_best = best_of(evaluate, sides), best_of(answer, sides)
    return row | {
        "torch_best": best,
        "torch_best_images_per_second": train[best].median,
        "torch_best_eval_images_per_second": evaluate[eval_best].median,
        "torch_best_latency_ms": 1e3 / answer[answer_best].median,
        "speedup": train[OURS].median / train[best].median,
        "speedup_quartiles": [float(q) for q in np.quantile(ratios, (0.25, 0.75))],
        "eval_speedup": evaluate[OURS].median / evaluate[eval_best].median,
        "latency_speedup": answer[OURS].median / answer[answer_best].median,
    }


def best_of(rates: dict[str, Rates], names: dict[str, Any]) -> str:
    """The one with the highest median."""
    return max(names, key=lambda name: rates[name].median)


def _spread_ms(rates: Rates) -> float:
    low, high = np.quantile(1e3 / np.asarray(rates.each), (0.25, 0.75))
    return float(high - low)


@contextlib.contextmanager
def _without_compilation_cache() -> Iterator[None]:
    """What is compiled meanwhile is compiled indeed."""
    from jax.experimental.compilation_cache import compilation_cache

    before = jax.config.jax_enable_compilation_cache
    try:
        jax.config.update("jax_enable_compilation_cache", False)
        compilation_cache.reset_cache()
        yield
    finally:
        jax.config.update("jax_enable_compilation_cache", before)
        compilation_cache.reset_cache()
