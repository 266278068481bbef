"""Fire modules against plain convolutions: time, parameters and memory of one layer.

A Fire module squeezes its channels by a 1x1 convolution and expands them by a 1x1 and a 3x3; the
plain layer takes the same map to the same number of channels by one 3x3 convolution.  Both have
BatchNorm and ReLU.  All is timed on one thread, where a process can be held to one.
"""

import functools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from jaxnets.bench.case import Budget
from jaxnets.bench.deploy.measure import Log, alone, outcome, row, thread_counts
from jaxnets.bench.deploy.runtimes import load_onnx, pin
from jaxnets.files.atomic import temporary_folder
from jaxnets.timing import Work, alternate

if TYPE_CHECKING:
    import jax
    import torch

KINDS = ("fire", "plain")


class Place(NamedTuple):
    """Where a network of S0 has a Fire module."""

    network: str
    channels: int
    squeeze: int
    expand: int
    """Channels of each of the two expansions."""
    size: int
    """Pixels of a side of the map."""


PLACES = (
    Place("v2.fire2", 96, 16, 32, 16),
    Place("v2.fire4", 64, 16, 64, 16),
    Place("v2.fire5", 128, 16, 128, 8),
    Place("v3.fire7", 256, 32, 128, 4),
)


def measured(
    places: Sequence[Place], batches: Sequence[int], budget: Budget, log: Log = print
) -> Iterator[tuple[dict[str, Any] | None, list[dict[str, Any]]]]:
    """Of every place the machine and its rows: one for each kind, runtime and batch."""
    for place in places:
        with temporary_folder("jaxnets-fire-") as folder:
            found = outcome(timed, place, folder, batches, budget)
            if isinstance(found, str):
                yield None, [{"config": place.network, "error": found}]
                continue
            machine, rows = found
            shape = (max(batches), place.channels, place.size, place.size)
            for kind in KINDS:
                file = folder / f"{kind}.onnx"
                held = alone("onnxruntime", file, shape, budget.compile_limit, "float32")
                for one in rows:
                    if (one["kind"], one["runtime"]) == (kind, "onnxruntime"):
                        one |= {"peak_memory_bytes": held, "file_bytes": file.stat().st_size}
        log(f"{place.network}: measured")
        yield machine, rows


def timed(
    place: Place, folder: Path, batches: Sequence[int], budget: Budget
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The machine and the rows, without memory; leaves the .onnx of both kinds in the folder.

    For a process of its own.
    """
    threads = thread_counts()[0]
    pin(threads)
    os.environ["JAX_PLATFORMS"] = "cpu"
    from jaxnets.devices import cpu_memory, machine, runtime

    runtime.setup("float32")
    import torch

    torch.set_num_threads(threads)
    calls, about = {}, {}
    for kind in KINDS:
        net = _torch(place, kind)
        about[kind] = {
            "parameters": sum(p.numel() for p in net.parameters()),
            "macs": macs(place, kind),
        }
        _write_onnx(net, place, folder / f"{kind}.onnx")
        calls[kind, "jax"] = _jitted(place, kind)
        calls[kind, "torch"] = functools.partial(_forward, net)
        calls[kind, "onnxruntime"] = load_onnx(folder / f"{kind}.onnx", threads)
    rows = []
    for batch in batches:
        shape = (batch, place.channels, place.size, place.size)
        images = np.random.default_rng(0).standard_normal(shape, np.float32)
        inputs = {"jax": np.ascontiguousarray(images.transpose(0, 2, 3, 1))}
        works = {
            key: Work(functools.partial(_repeated, call, inputs.get(key[1], images)), batch)
            for key, call in calls.items()
        }
        for (kind, name), rates in alternate(works, budget.repeats, budget.seconds).items():
            place_ = {"config": place.network, "kind": kind, "runtime": name, "batch": batch}
            rows.append({**place_, **about[kind], **row(rates, budget)})
    return machine.of_a_benchmark(None) | {"memory_kept": cpu_memory.kept()}, rows


def macs(place: Place, kind: str) -> int:
    """Multiply-accumulates of one image.

    >>> macs(PLACES[0], "plain") // 96 // 64 // 9 == 16 * 16
    True
    """
    pixels, wide = place.size**2, 2 * place.expand
    if kind == "plain":
        return pixels * place.channels * wide * 9
    return pixels * place.squeeze * (place.channels + 10 * place.expand)


def _torch(place: Place, kind: str) -> "torch.nn.Module":
    from torch import nn

    from torch_ref.models.fire import FireModule, conv_bn_relu

    if kind == "fire":
        net = FireModule(place.channels, place.squeeze, place.expand, place.expand)
    else:
        net = nn.Sequential(*conv_bn_relu(place.channels, 2 * place.expand))
    return net.eval().requires_grad_(False)


def _jitted(place: Place, kind: str) -> Any:
    import jax
    from flax import nnx

    from jaxnets.models.fire import FireModule, conv_bn_relu
    from jaxnets.models.functional import split
    from jaxnets.models.layers import Sequential

    kw = {"dtype": None, "param_dtype": np.float32, "rngs": nnx.Rngs(0)}
    if kind == "fire":
        net = FireModule(place.channels, place.squeeze, place.expand, place.expand, **kw)
    else:
        net = Sequential(conv_bn_relu(place.channels, 2 * place.expand, **kw))
    network, params, stats = split(net)

    @jax.jit
    def answer(images: "jax.Array") -> "jax.Array":
        return network.apply(params, stats, images, train=False)[0]

    return lambda images: np.asarray(answer(images))


def _write_onnx(net: "torch.nn.Module", place: Place, path: Path) -> None:
    import torch

    from jaxnets.export.onnx_file import quiet

    example = torch.zeros(2, place.channels, place.size, place.size)
    with quiet():
        made = torch.onnx.export(
            net,
            (example,),
            input_names=["images"],
            output_names=["logits"],
            dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
            dynamo=True,
            verbose=False,
        )
    path.write_bytes(made.model_proto.SerializeToString())


def _forward(net: "torch.nn.Module", images: np.ndarray) -> object:
    import torch

    with torch.no_grad():
        return net(torch.from_numpy(images))


def _repeated(call: Any, images: np.ndarray, times: int) -> None:
    for _ in range(times):
        call(images)
