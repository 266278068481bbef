"""ONNX, for onnxruntime and whatever else reads it; what it says of itself is a property of it."""

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

import jaxnets
from jaxnets.export import about as abouts
from jaxnets.export.source import Source

if TYPE_CHECKING:
    import onnx

OUTPUTS = ("logits", "probabilities")


def write(source: Source, kind: str, about: dict[str, Any]) -> bytes:
    """The file: BatchNorm folded into the convolutions, a shared kernel there once."""
    return with_about(network(source, kind), about)


def network(source: Source, kind: str) -> "onnx.ModelProto":
    """The network in float32, as `write` takes it."""
    import torch

    from jaxnets.export.twin import program

    made = program(source, kind)
    with quiet():
        exported = torch.onnx.export(
            made, (), input_names=["images"], output_names=OUTPUTS, dynamo=True, verbose=False
        )
    model = exported.model_proto
    tidy(model)
    return model


def with_about(model: "onnx.ModelProto", about: dict[str, Any]) -> bytes:
    """The bytes of a model that says this of itself."""
    import onnx

    del model.metadata_props[:]
    model.metadata_props.add(key=abouts.KEY, value=abouts.to_json(about))
    model.producer_name, model.producer_version = "jaxnets", jaxnets.__version__
    model.graph.name = about["model"]
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString(deterministic=True)


def tidy(model: "onnx.ModelProto") -> None:
    """Takes out what tells of the machine that it was made on, and names the batch."""
    graph = model.graph
    for part in (graph, *graph.node, *graph.initializer, *graph.value_info):
        del part.metadata_props[:]
    free = graph.input[0].type.tensor_type.shape.dim[0].dim_param
    for value in (*graph.input, *graph.output, *graph.value_info):
        del value.metadata_props[:]
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param == free:
                dim.dim_param = "batch"


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """torch's exporter prints its progress, and warns that there is no torchvision."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with (
            warnings.catch_warnings(action="ignore"),
            contextlib.redirect_stdout(io.StringIO()),
        ):
            yield
    finally:
        logger.setLevel(before)


def about_of(data: bytes) -> str | None:
    """What a file says of itself."""
    session = _session(data)
    return session.get_modelmeta().custom_metadata_map.get(abouts.KEY)


def runtime(data: bytes) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """The file in onnxruntime, on the CPU."""
    session = _session(data)
    return lambda images: tuple(session.run(OUTPUTS, {"images": images}))


def _session(data: bytes):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
