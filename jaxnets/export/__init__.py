"""Trained networks as files that run without jaxnets: .onnx, .stablehlo and .pt2, each proved.

Imports port, inference, data, config and models, and torch, onnx and onnxruntime lazily; python -m
jaxnets.export and bench call it.
"""

from jaxnets import lazily
from jaxnets.export.compare import Comparison, compare

__getattr__, _NAMES = lazily(
    __name__,
    {
        "files": "Opened open_export",
        "int8": "export_int8",
        "source": "Source from_weights from_workdir",
        "write": "Refused export verify verify_alone",
    },
)
__all__ = ["Comparison", "compare", *_NAMES]
