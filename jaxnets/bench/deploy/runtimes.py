"""The files of a network, each opened by its own runtime as users without jaxnets do.

Imports a runtime where it opens a file, and nothing else that takes memory.
"""

import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

Call = Callable[[np.ndarray], object]
"""Answers images, uint8 (N, size, size, 3), and waits for the answer."""


class Runtime(NamedTuple):
    """How a network may be run."""

    file: str
    """Its name in a folder of exports."""
    load: Callable[[Path, int], Call]
    """From a file and a number of threads."""


def threads_at_most() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def pin(threads: int) -> None:
    """Leaves this process so many cores; before a runtime is imported, as JAX asks only then.

    Raises:
        AttributeError: the system knows no such thing, and fewer are asked for than there are.
    """
    if threads < threads_at_most():
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


def _jax(path: Path, threads: int) -> Call:
    os.environ["JAX_PLATFORMS"] = "cpu"
    import jax
    from jax import export

    with zipfile.ZipFile(path) as archive:
        program = export.deserialize(bytearray(archive.read("program.bin")))
    call = jax.jit(program.call)
    return lambda images: np.asarray(call(images)["logits"])


def _torch(path: Path, threads: int) -> Call:
    import torch

    torch.set_num_threads(threads)
    return _without_gradients(torch.export.load(path).module())


def _compiled(path: Path, threads: int) -> Call:
    import torch

    torch.set_num_threads(threads)
    return _without_gradients(torch.compile(torch.export.load(path).module(), dynamic=False))


def _without_gradients(net: Callable) -> Call:
    import torch

    def call(images: np.ndarray) -> object:
        with torch.no_grad():
            return net(torch.from_numpy(images))

    return call


def load_onnx(path: Path, threads: int) -> Call:
    """An .onnx in onnxruntime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda images: session.run(["logits"], {"images": images})


RUNTIMES = {
    "jax": Runtime("net.stablehlo", _jax),
    "torch": Runtime("net.pt2", _torch),
    "torch compiled": Runtime("net.pt2", _compiled),
    "onnxruntime": Runtime("net.onnx", load_onnx),
    "onnxruntime int8": Runtime("net.int8.onnx", load_onnx),
}
