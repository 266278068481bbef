"""Trained networks as files that run without jaxnets: .onnx, .stablehlo and .pt2, each proved.

Imports port, inference, data, config and models, and torch, onnx and onnxruntime lazily; python -m
jaxnets.export and bench call it.
"""

from jaxnets.export.compare import Comparison, compare
from jaxnets.export.files import Opened, open_export
from jaxnets.export.source import Source, from_weights, from_workdir
from jaxnets.export.write import Refused, export, verify, verify_alone

__all__ = [
    "Comparison",
    "Opened",
    "Refused",
    "Source",
    "compare",
    "export",
    "from_weights",
    "from_workdir",
    "open_export",
    "verify",
    "verify_alone",
]
