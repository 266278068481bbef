"""StableHLO as jax.export writes it, in a zip beside what it says of itself.

    jax.export.deserialize(zipfile.ZipFile("net.stablehlo").read("program.bin")).call(images)

A program is promised to run in the versions of jax of the next six months: it is no archive.
"""

import contextlib
import io
import re
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from jaxnets.augment.pipeline import normalize
from jaxnets.export import about as abouts
from jaxnets.export.source import Source
from jaxnets.files.regular import check_zip

PROGRAM, ABOUT = "program.bin", "jaxnets.json"
PLATFORMS = ("cpu", "cuda", "tpu")
_LONG_AGO = (1980, 1, 1, 0, 0, 0)  # the same file of the same weights, whenever it is written
# Checks of the number of images; another call would be of code outside of the file.
_CALLS = {"shape_assertion"}


def write(source: Source, kind: str, about: dict[str, Any]) -> bytes:
    """The file: {"logits", "probabilities"} of `images`, in full precision on every platform."""
    network, size = source.network(), source.image_size

    def answer(images: jax.Array) -> dict[str, jax.Array]:
        if kind == "uint8-nhwc":
            images = normalize(images, source.mean, source.std, jnp.float32)
        else:
            images = images.transpose(0, 2, 3, 1)
        logits = network(images)
        return {"logits": logits, "probabilities": jax.nn.softmax(logits)}

    (batch,) = export.symbolic_shape("batch")
    shape, dtype = (batch, size, size, 3), np.uint8
    if kind != "uint8-nhwc":
        shape, dtype = (batch, 3, size, size), np.float32
    with jax.default_matmul_precision("highest"), _no_locations():
        made = export.export(jax.jit(answer), platforms=PLATFORMS)(
            jax.ShapeDtypeStruct(shape, dtype)
        )
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(zipfile.ZipInfo(ABOUT, _LONG_AGO), abouts.to_json(about))
        archive.writestr(zipfile.ZipInfo(PROGRAM, _LONG_AGO), bytes(made.serialize()))
    return file.getvalue()


@contextlib.contextmanager
def _no_locations() -> Iterator[None]:
    """Leaves out which line of which file each operation comes from."""
    name = "jax_traceback_in_locations_limit"
    before = getattr(jax.config, name)
    jax.config.update(name, 0)
    try:
        yield
    finally:
        jax.config.update(name, before)


def about_of(data: bytes) -> bytes:
    """What a file says of itself."""
    return _member(data, ABOUT)


def runtime(data: bytes) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """The file in jax.

    Raises:
        ValueError: it calls what is not in it.
    """
    made = export.deserialize(bytearray(_member(data, PROGRAM)))
    calls = set(re.findall(r"custom_call @(\w+)", made.mlir_module()))
    if not calls <= _CALLS:
        raise ValueError(f"it calls {', '.join(sorted(calls - _CALLS))}, which no network needs")
    call = jax.jit(made.call)

    def run(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        answer = call(images)
        return np.asarray(answer["logits"]), np.asarray(answer["probabilities"])

    return run


def _member(data: bytes, name: str) -> bytes:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        check_zip(archive, len(data))
        return archive.read(name)
