"""Why a layer differs: the usual mistakes of porting between the frameworks.

Each is tried: the layer is computed again with the mistake in it, and the mistake is named only
where that gives JAX's result.
"""

import copy
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import torch

_KERNEL_AXES = {(0, 1, 3, 2): "height and width", (1, 0, 2, 3): "input and output"}
_CLOSE = 1e-8  # relative, in float64: far above rounding, far below any mistake


class Layer(NamedTuple):
    """A layer that differs, in float64 and PyTorch's layouts."""

    module: "torch.nn.Module | None"
    """With PyTorch's weights; None for the network's input."""
    x: "torch.Tensor"
    """Its input in PyTorch."""
    in_jax: np.ndarray
    """Its output in JAX."""
    in_torch: np.ndarray
    """Its output in PyTorch."""
    weights: Mapping[str, np.ndarray]
    """Its own parameters and statistics in JAX, such as "running_var"."""
    torch_weights: Mapping[str, np.ndarray]
    """The same in PyTorch."""


def explain(layer: Layer) -> str:
    """Why the layer's output differs, as far as the tried mistakes tell."""
    from torch import nn

    if layer.module is None:
        return _normalisation(layer.in_jax, layer.in_torch)
    found = [*_weights(layer)]
    if isinstance(layer.module, nn.BatchNorm2d):
        found += _batch_norm(layer)
    else:
        found += [text for text, value in _guesses(layer) if _same(layer.in_jax, value)]
    if not found:
        return "its parameters agree: what it computes, or what lies between it and the layer above"
    return "; ".join(found)


def explain_float32(relative: float) -> str:
    """Why the layer differs in float32 and not in float64."""
    if relative < 1e-2:
        return "float64 agrees: products in TF32 (10 bits) or bfloat16 (7 bits) instead of float32"
    return "float64 agrees: an overflow, or a cancellation that float32 cannot afford"


def explain_statistics(layer: Layer, leaf: str, in_jax: np.ndarray, in_torch: np.ndarray) -> str:
    """Why a BatchNorm's statistic `leaf` differs after a training pass."""
    before, rate = layer.torch_weights[leaf], layer.module.momentum
    if not _same(layer.weights[leaf], before):
        return "it differed before"
    if leaf == "num_batches_tracked":
        return "the two count batches differently"
    batch = (in_torch - (1 - rate) * before) / rate
    n = layer.x.numel() // layer.x.shape[1]
    if leaf == "running_var" and _same(in_jax, (1 - rate) * before + rate * batch * (n - 1) / n):
        return "biased variance: JAX keeps the mean square, without n / (n - 1)"
    used = _constant((in_jax - before) / (batch - before), atol=1e-6)
    if used is not None:
        return f"momentum: JAX takes {used:.6g} of the batch's statistic, PyTorch {rate:.6g}"
    return "the two average differently"


def _normalisation(in_jax: np.ndarray, in_torch: np.ndarray) -> str:
    """For inputs (N, C, H, W): whether a factor and an offset a channel turn one into the other."""
    lines = []
    for i in range(in_jax.shape[1]):
        a, b = in_jax[:, i].ravel(), in_torch[:, i].ravel()
        centred = b - b.mean()
        with np.errstate(all="ignore"):
            factor = float(centred @ a / (centred @ centred))
        offset = float(a.mean() - factor * b.mean())
        if not np.allclose(factor * b + offset, a, rtol=0, atol=1e-6 * np.abs(a).max()):
            return "the two inputs are not the same images"
        lines.append(f"{factor:.6g} x {offset:+.6g}")
    return f"normalisation constants: JAX's channels are PyTorch's x as {', '.join(lines)}"


def _weights(layer: Layer) -> Iterator[str]:
    """The mistake behind weights that differ, or their names."""
    differing = [k for k, v in layer.torch_weights.items() if not _same(layer.weights[k], v)]
    differing = [k for k in differing if k != "num_batches_tracked"]
    if not differing:
        return
    if differing == ["running_var"]:
        ratio = _constant(layer.weights["running_var"] / layer.torch_weights["running_var"])
        if ratio is not None:
            n = 1 / (1 - min(ratio, 1 / ratio))
            side = "JAX" if ratio < 1 else "PyTorch"
            yield f"biased running variance in {side}: apart by (n - 1) / n with n = {n:.6g}"
            return
    if "weight" in differing:
        for text, value in _rearranged(layer.torch_weights["weight"]):
            if _same(layer.weights["weight"], value):
                yield text
                return
    yield f"its weights differ: {', '.join(differing)}"


def _rearranged(weight: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Ways in which a kernel (out, in, H, W) or (out, in) is written wrongly."""
    if weight.ndim == 4:
        for axes, names in _KERNEL_AXES.items():
            yield f"transposed kernel: {names} are swapped", weight.transpose(axes)
        yield "transposed kernel: all axes are reversed", weight.transpose(1, 0, 3, 2)
    if weight.ndim == 2:
        yield "transposed kernel: input and output are swapped", weight.T
        out, features = weight.shape
        for side in range(2, int(features**0.5) + 1):
            if features % side**2 == 0:
                maps = weight.reshape(out, -1, side, side).transpose(0, 2, 3, 1)
                text = (
                    f"flatten order: columns of {side}x{side} maps channel-minor instead of -major"
                )
                yield text, maps.reshape(out, -1)
                back = weight.reshape(out, side, side, -1).transpose(0, 3, 1, 2)
                yield (
                    text.replace("minor instead of -major", "major instead of -minor"),
                    (back.reshape(out, -1)),
                )


def _guesses(layer: Layer) -> Iterator[tuple[str, np.ndarray]]:
    """Mistakes in what a layer computes, and its output with JAX's weights and that mistake."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    x = layer.x
    module = copy.deepcopy(layer.module)
    if isinstance(module, nn.Flatten):
        yield (
            "flatten order: channel-minor instead of channel-major",
            (x.permute(0, 2, 3, 1).flatten(1).numpy()),
        )
    if not isinstance(module, nn.Conv2d | nn.Linear):
        return
    with torch.no_grad():
        module.load_state_dict({k: torch.tensor(v) for k, v in layer.weights.items()})
        if isinstance(module, nn.Conv2d) and max(module.stride) > 1:
            padded = F.pad(x, (*_same_pads(module, x, 1), *_same_pads(module, x, 0)))
            same = F.conv2d(padded, module.weight, module.bias, module.stride)
            yield (
                "SAME padding at stride 2: only right and bottom, PyTorch pads all sides",
                (same.numpy()),
            )
        weight = module.weight.numpy().copy()
        for text, value in _rearranged(weight):
            if value.shape == weight.shape and not _same(value, weight):
                module.weight.copy_(torch.tensor(value))
                yield text, module(x).numpy()


def _same_pads(conv: "torch.nn.Conv2d", x: "torch.Tensor", axis: int) -> tuple[int, int]:
    """XLA's "SAME" along height (0) or width (1)."""
    size, kernel, stride = x.shape[2 + axis], conv.kernel_size[axis], conv.stride[axis]
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def _batch_norm(layer: Layer) -> Iterator[str]:
    """The wrong variance or epsilon that gives JAX's result, if one does."""
    module, weights = layer.module, layer.weights
    x = layer.x.numpy()
    axes = (0, 2, 3)
    if module.training:
        mean, var = x.mean(axes), x.var(axes)
    else:
        mean, var = weights["running_mean"], weights["running_var"]
    shape = (1, -1, 1, 1)
    centred = (x - mean.reshape(shape)) * weights["weight"].reshape(shape)
    scaled = layer.in_jax - weights["bias"].reshape(shape)
    with np.errstate(all="ignore"):
        inverse = (centred * scaled).sum(axes) / (centred**2).sum(axes)
        total = inverse**-2.0
    if not _same(scaled, centred * inverse.reshape(shape), 1e-6):
        return
    epsilon = _constant(total - var, 1e-6 * float(total.max()))
    if epsilon is not None and not np.isclose(epsilon, module.eps, rtol=1e-4, atol=0):
        yield f"epsilon: {epsilon:.4g} in JAX, {module.eps:.4g} in PyTorch"
        return
    n = x.size // x.shape[1]
    ratio = _constant((total - module.eps) / var)
    if module.training and ratio is not None and np.isclose(ratio, n / (n - 1), rtol=1e-9):
        yield "unbiased variance: JAX divides by it, PyTorch by the biased one"


def _constant(values: np.ndarray, atol: float | None = None) -> float | None:
    """The number that all values equal, within `atol` or 2 % of its distance from 1; else None."""
    middle = float(np.median(values))
    bound = 0.02 * abs(middle - 1) if atol is None else atol
    close = np.isfinite(values).all() and middle != 1 and (np.abs(values - middle) <= bound).all()
    return middle if close else None


def _same(a: np.ndarray, b: np.ndarray, rtol: float = _CLOSE) -> bool:
    if a.shape != b.shape:
        return False
    return bool(np.abs(a - b).max(initial=0) <= rtol * np.abs(b).max(initial=0))
