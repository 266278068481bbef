"""int8 by onnxruntime: static, per channel, the activations' ranges from images.

Of the network's operations those run in int8 that onnxruntime's CPU kernels know; Mish and Softmax,
the mean over an image and what comes before the first layer stay in float.
"""

import contextlib
import logging
import re
import tempfile
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxnets.files.atomic import writing

if TYPE_CHECKING:
    import onnx

# Those with weights, and those that pass int8 on from one of them to the next.
_WEIGHTED = ("Conv", "Gemm", "MatMul")
_OTHERS = (
    "Add", "AveragePool", "Concat", "Flatten", "GlobalAveragePool", "MaxPool", "Mul", "Relu",
    "Reshape", "Sigmoid",
)  # fmt: skip
_BATCH = 64  # of calibration


class Quantizer:
    """A network in float32, to be had in int8 with some of its layers left in float.

    Calibrated once, when it is made.
    """

    layers: tuple[str, ...]
    """The layers with weights, by PyTorch's names, in the order of the computation."""

    def __init__(self, model: "onnx.ModelProto", inputs: np.ndarray, folder: Path):
        """
        Args:
            inputs: images as the file takes them, to calibrate on.
            folder: an empty one, for what onnxruntime hands from one step to the next.
        """
        from onnxruntime.quantization.quant_utils import add_pre_process_metadata

        self._before, self._parts = _parts(model.graph)
        self.layers = tuple(self._parts)
        self._folder, self._model = folder, folder / "float32.onnx"
        add_pre_process_metadata(model)  # BatchNorm is folded: there is nothing left to do
        self._model.write_bytes(model.SerializeToString())
        self._quantize(inputs, ())

    def quantized(self, in_float: Collection[str] = ()) -> "onnx.ModelProto":
        """The network in int8, all but these layers."""
        return self._quantize(None, in_float)

    def _quantize(self, inputs: np.ndarray | None, in_float: Collection[str]) -> "onnx.ModelProto":
        import onnx
        from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

        excluded = [name for layer in in_float for name in self._parts[layer]]
        path = self._folder / "int8.onnx"
        with _aside(self._folder), writing(self._folder):
            quantize_static(
                self._model,
                path,
                None if inputs is None else _reader(inputs),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=[*_WEIGHTED, *_OTHERS],
                per_channel=True,
                # Without VNNI two products of 8 bits overflow the 16 of their sum: 7 for weights.
                reduce_range=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                nodes_to_exclude=[*self._before, *excluded],
                # Logits in 256 steps would tie.
                extra_options={"OpTypesToExcludeOutputQuantization": ["Gemm", "MatMul"]},
                calibration_cache_path=self._folder / "ranges.json",
            )
            return onnx.load(path)


def _parts(graph: "onnx.GraphProto") -> tuple[list[str], dict[str, list[str]]]:
    """The nodes before the first layer with weights, and those of each layer.

    A layer's are one with weights and those after it, up to the next; nodes that share a kernel are
    one layer.
    """
    weights = {value.name for value in graph.initializer}
    before: list[str] = []
    parts: dict[str, list[str]] = {}
    part = before
    for node in graph.node:
        if node.op_type in _WEIGHTED and node.input[1] in weights:
            part = parts.setdefault(_layer(node.input[1]), [])
        part.append(node.name)
    return before, parts


def _layer(weight: str) -> str:
    """The layer of a weight, as the twin names it: net.conv1.weight is conv1's.

    >>> _layer("net.layer1.0.conv1.weight")
    'layer1.0.conv1'
    """
    return re.sub(r"^net\.|\.weight$", "", weight)


def _reader(inputs: np.ndarray) -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):
        def __init__(self, batches: Sequence[np.ndarray]):
            self._batches = iter(batches)

        def get_next(self) -> dict[str, np.ndarray] | None:
            batch = next(self._batches, None)
            return None if batch is None else {"images": batch}

    return Reader([inputs[i : i + _BATCH] for i in range(0, len(inputs), _BATCH)])


@contextlib.contextmanager
def _aside(folder: Path) -> Iterator[None]:
    """onnxruntime's own files lie in the folder; its log, at the root, gets no handler to stay."""
    root, nothing, before = logging.getLogger(), logging.NullHandler(), tempfile.tempdir
    root.addHandler(nothing)
    tempfile.tempdir = str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = before
        root.removeHandler(nothing)
