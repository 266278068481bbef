"""A recipe's network with its initial weights, exported in every form that is measured.

How long an answer takes does not depend on the weights, nor on what the images show.
"""

from pathlib import Path
from typing import Any

from jaxnets import config as configs
from jaxnets.bench.case import classes
from jaxnets.bench.deploy.runtimes import RUNTIMES
from jaxnets.export import about as abouts
from jaxnets.export import onnx_file
from jaxnets.export.files import FORMATS
from jaxnets.export.images import random_images
from jaxnets.export.quantize import Quantizer
from jaxnets.export.source import Source
from jaxnets.models.audit import audit_model
from jaxnets.models.torch_names import to_state_dict
from jaxnets.port.adapters import fit
from jaxnets.port.guess import Model, describe
from jaxnets.pretrained.weights import options_of
from jaxnets.train.task import build_model

_CALIBRATION = 16  # images: the ranges matter to the answers, not to the time


def prepare(config: str, folder: Path) -> dict[str, Any]:
    """Writes the files of RUNTIMES; what is known of the network, and the files' bytes.

    Args:
        config: of the recipe, as JSON.
    """
    found = configs.from_json(config)
    found.dtype = "float32"
    count = classes(found)
    network = build_model(found, count)
    size = found.data.image_size
    macs = audit_model(network, (size, size, 3)).macs
    model = Model(found.model.name, count, options_of(found))
    weights = fit(to_state_dict(network), describe(model), "float32")
    names = tuple(map(str, range(count)))
    source = Source(model, weights, found, names, {"weights": "initial"})
    kind = "uint8-nhwc"
    about = abouts.describe(source, kind, ())
    for form in ("stablehlo", "pt2"):
        (folder / f"net.{form}").write_bytes(FORMATS[form].load().write(source, kind, about))
    in_float32 = onnx_file.network(source, kind)
    (folder / "net.onnx").write_bytes(onnx_file.with_about(in_float32, about))
    aside = folder / "int8"
    aside.mkdir()
    in_int8 = Quantizer(in_float32, random_images(_CALIBRATION, size), aside).quantized()
    (folder / "net.int8.onnx").write_bytes(onnx_file.with_about(in_int8, about))
    return {
        "model": found.model.name,
        "parameters": source.num_parameters,
        "macs": macs,
        "image_size": size,
        "file_bytes": {
            name: (folder / runtime.file).stat().st_size for name, runtime in RUNTIMES.items()
        },
    }
