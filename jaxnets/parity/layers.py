"""One model in both frameworks, layer by layer: how far apart the outputs are.

Both sides get the same images, in float32 and in float64.  In float64 they agree to rounding, so
the first layer beyond its bound is where they differ.  float32 shows what rounding does.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

import jax
import numpy as np
from flax import nnx

from jaxnets.models.functional import flat, split
from jaxnets.models.torch_names import StateDict, check_names, from_state_dict, slots
from jaxnets.models.trace import record_calls
from jaxnets.parity.hints import Layer, explain, explain_float32, explain_statistics
from jaxnets.parity.masks import force_masks, nchw, recorded_masks
from jaxnets.port.guess import Model

if TYPE_CHECKING:
    import torch

BOUNDS = {"float32": 1e-4, "float64": 1e-10}
"""Relative errors allowed to a layer.  Float32 rounds to 6e-8, and deep networks magnify that."""

INPUT = "(input)"
"""The name of the images' row, above all layers."""

WHOLE = "(model)"
"""The name of the row of the whole network."""


class Error(NamedTuple):
    """How far JAX's values a are from PyTorch's b; infinite where their shapes differ."""

    max_abs: float
    """max |a - b|"""
    relative: float
    """max |a - b| / max |b|, or max |a - b| where b is 0."""
    cosine: float
    """a b / (|a| |b|)"""


class Row(NamedTuple):
    """A layer's output, a statistic or a parameter, compared."""

    name: str
    type: str
    """The class of PyTorch's module; "" for a parameter."""
    shape: tuple[int, ...]
    """In PyTorch's layout."""
    float32: Error | None
    """None for parameters, which are compared as they are stored."""
    float64: Error


class Comparison(NamedTuple):
    """The result of a comparison."""

    parameters: list[Row]
    """Of the state_dict, those whose values differ."""
    layers: list[Row]
    """The input and every layer that both sides call, in order of execution."""
    statistics: list[Row]
    """BatchNorm's, after the pass; empty without training."""
    first: Row | None
    """The first of the layers, else of the statistics, beyond its bound."""
    hint: str

    @property
    def ok(self) -> bool:
        """Whether all parameters are equal and everything else is within BOUNDS."""
        return self.first is None and not self.parameters


class _Side(NamedTuple):
    """What one framework computed, in PyTorch's layouts."""

    outputs: dict[str, np.ndarray]
    statistics: StateDict


def compare(
    model: Model,
    in_jax: Mapping[str, np.ndarray],
    in_torch: Mapping[str, np.ndarray],
    images: np.ndarray,
    torch_images: np.ndarray | None = None,
    *,
    train: bool = False,
) -> Comparison:
    """Runs JAX with the weights `in_jax` and PyTorch with `in_torch`, and compares every layer.

    Args:
        in_jax, in_torch: state_dicts by PyTorch's names.
        images: (N, H, W, 3), of any float dtype.
        torch_images: what PyTorch gets instead, in the same layout.
        train: batch statistics, and dropout with JAX's masks on both sides.

    Raises:
        UserError: weights that do not fit the model.
    """
    import torch

    import torch_ref.models

    # JAX first: it names the wrong option.
    check_names(
        {slot.name: slot.shape for slot in slots(model.build("float32"))},
        {name: np.shape(value) for name, value in in_torch.items()},
    )
    twin = torch_ref.models.create_model(model.name, model.num_classes, **model.options)
    in_jax, in_torch = ({k: _wide(v) for k, v in weights.items()} for weights in (in_jax, in_torch))
    tensors = {name: torch.tensor(value) for name, value in in_torch.items()}
    torch_images = images if torch_images is None else torch_images
    results = {}
    for dtype in BOUNDS:
        twin.to(getattr(torch, dtype)).load_state_dict(tensors)
        jax_side, masks = _run_jax(model, in_jax, images.astype(dtype), train)
        force_masks(twin, masks)
        torch_side, inputs = _run_torch(twin, nchw(torch_images.astype(dtype)), train)
        results[dtype] = jax_side, torch_side
    parameters = [r for r in _rows([(in_jax, in_torch)] * 2) if r.float64.max_abs != 0]
    parameters = [row._replace(float32=None) for row in parameters]
    types = {name or WHOLE: type(module).__name__ for name, module in twin.named_modules()}
    layers = list(_rows([(a.outputs, b.outputs) for a, b in results.values()], types))
    statistics = list(_rows([(a.statistics, b.statistics) for a, b in results.values()]))
    first = next((row for row in (*layers, *statistics) if beyond(row)), None)
    hint = ""
    if first is not None and not beyond(first, "float64"):
        hint = explain_float32(first.float32.relative)
    elif first is not None:
        # The twin and `inputs` are now of the float64 pass, which changed the statistics.
        twin.load_state_dict(tensors)
        hint = _hint(first.name, twin, inputs, *results["float64"], in_jax, in_torch)
    return Comparison(parameters, layers, statistics, first, hint)


def _hint(
    first: str,
    twin: "torch.nn.Module",
    inputs: "Mapping[str, torch.Tensor]",
    in_jax: _Side,
    in_torch: _Side,
    weights: StateDict,
    torch_weights: StateDict,
) -> str:
    """Why the layer or statistic `first` differs, in float64."""
    is_layer = first in in_jax.outputs
    call, leaf = (first, "") if is_layer else first.rsplit(".", 1)
    name = call.partition("#")[0]
    own = [
        {k.rpartition(".")[2]: v for k, v in values.items() if k.rpartition(".")[0] == name}
        for values in (weights, torch_weights)
    ]
    module = {name or WHOLE: module for name, module in twin.named_modules()}.get(name)
    layer = Layer(module, inputs[call], in_jax.outputs[call], in_torch.outputs[call], *own)
    if is_layer:
        return explain(layer)
    return explain_statistics(layer, leaf, in_jax.statistics[first], in_torch.statistics[first])


def beyond(row: Row, *dtypes: str) -> bool:
    """Whether a row is beyond its bound in any of `dtypes`, or in either if none is given."""
    errors = ((getattr(row, dtype), BOUNDS[dtype]) for dtype in dtypes or BOUNDS)
    return any(error is not None and not error.relative <= bound for error, bound in errors)


def _run_jax(
    model: Model, weights: Mapping[str, np.ndarray], images: np.ndarray, train: bool
) -> tuple[_Side, dict[str, np.ndarray]]:
    """What JAX computes in the images' dtype, and the dropout masks it drew."""
    names: list[str] = []

    with jax.enable_x64(True), jax.default_matmul_precision("highest"):
        built = model.build(images.dtype.name)
        from_state_dict(built, weights)
        entries = slots(built)
        network, params, stats = split(built)

        def run(params, stats, images):
            copy = network.merge(params, stats)
            copy.train() if train else copy.eval()
            with recorded_masks(copy) as masks:
                calls = record_calls(copy, images, keep=True)
            names.extend(_numbered(call.name for call in calls))
            return [call.value for call in calls], dict(masks), flat(copy, nnx.BatchStat)

        # The program runs once: compiling quickly is worth more than running fast.
        run = jax.jit(run, compiler_options={"xla_backend_optimization_level": 0})
        values, masks, after = jax.device_get(run(params, stats, images))
    outputs = dict(zip(names, (_channels_first(value) for value in values), strict=True))
    moved = {s.name: _wide(after[s.path]) for s in entries if train and s.path in after}
    return _Side({INPUT: _channels_first(images), **outputs}, moved), masks


def _run_torch(
    twin: "torch.nn.Module", images: "torch.Tensor", train: bool
) -> tuple[_Side, dict[str, "torch.Tensor"]]:
    """What PyTorch computes, and the first argument of each call."""
    import torch

    called: list[tuple[str, torch.Tensor, torch.Tensor]] = []

    def hook(name: str):
        return lambda module, args, out: called.append((name, args[0].clone(), out.clone()))

    handles = [m.register_forward_hook(hook(name)) for name, m in twin.named_modules()]
    try:
        with torch.no_grad():
            twin.train(train)(images)
    finally:
        for handle in handles:
            handle.remove()
    names = _numbered(name for name, *_ in called)
    outputs = {name: out.numpy() for name, (_, _, out) in zip(names, called, strict=True)}
    inputs = {name: x for name, (_, x, _) in zip(names, called, strict=True)}
    moved = _numpy(dict(twin.named_buffers())) if train else {}
    return _Side({INPUT: images.numpy(), **outputs}, moved), {INPUT: images, **inputs}


def _numbered(names: Iterable[str]) -> list[str]:
    """The names, with #2, #3 behind those of a module's further calls."""
    counts: dict[str, int] = {}
    out = []
    for name in names:
        counts[name] = counts.get(name, 0) + 1
        out.append((name or WHOLE) + (f"#{counts[name]}" if counts[name] > 1 else ""))
    return out


def _rows(
    pairs: list[tuple[Mapping[str, np.ndarray], Mapping[str, np.ndarray]]],
    types: Mapping[str, str] | None = None,
) -> Iterator[Row]:
    """A row for each name on both sides, in JAX's order; pairs are of float32 and of float64."""
    (jax32, torch32), (in_jax, in_torch) = pairs
    for name, value in in_torch.items():
        if name in in_jax:
            kind = (types or {}).get(name.partition("#")[0], "")
            errors = error(jax32[name], torch32[name]), error(in_jax[name], value)
            yield Row(name, kind, tuple(value.shape), *errors)


def error(in_jax: np.ndarray, in_torch: np.ndarray) -> Error:
    """The distance of two arrays, computed in float64."""
    if in_jax.shape != in_torch.shape:
        return Error(math.inf, math.inf, 0.0)
    if not in_jax.size:
        return Error(0.0, 0.0, 1.0)
    a, b = in_jax.astype(np.float64).ravel(), in_torch.astype(np.float64).ravel()
    apart, size = float(np.abs(a - b).max()), float(np.abs(b).max())
    norms = math.sqrt(float(a @ a)) * math.sqrt(float(b @ b))
    cosine = float(a @ b) / norms if norms else float(apart == 0)
    return Error(apart, apart / (size or 1.0), cosine)


def _channels_first(value: np.ndarray) -> np.ndarray:
    return value.transpose(0, 3, 1, 2) if value.ndim == 4 else value


def _numpy(tensors: "Mapping[str, torch.Tensor]") -> StateDict:
    return {name: tensor.detach().numpy().copy() for name, tensor in tensors.items()}


def _wide(value: np.ndarray) -> np.ndarray:
    """Floats, bfloat16 too, as float64; counts as they are."""
    value = np.asarray(value)
    return value if value.dtype.kind in "iu" else value.astype(np.float64)
