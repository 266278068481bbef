"""Every network as a file: what its own runtime answers, and how large it is."""

import numpy as np
import pytest

from jaxnets.config import default_config
from jaxnets.export import Source, compare, export, open_export
from jaxnets.export.files import FORMATS
from jaxnets.export.images import Images, random_images
from jaxnets.models import list_models
from jaxnets.port.adapters import fit
from jaxnets.port.guess import Model, describe
from jaxnets.port.verify import run_torch
from parity_tests.helpers import NARROW, make_pair

for package in ("flatbuffers", "onnx", "onnxruntime", "onnxscript"):
    pytest.importorskip(package)

IMAGES = Images(random_images(12, 32, seed=1), "random images")


def source_of(name: str, **options) -> Source:
    """A network with random weights and statistics."""
    pair = make_pair(name, "float32", **options)
    model = Model(name, len([*pair.twin.parameters()][-1]), options)
    weights = fit({k: v.numpy() for k, v in pair.twin.state_dict().items()}, describe(model))
    names = tuple(f"class {i}" for i in range(model.num_classes))
    return Source(model, weights, default_config(), names, {"weights": "random"})


def formats(name: str) -> tuple[str, ...]:
    """All of them takes long: for two networks only; tests/test_export.py looks closer."""
    return tuple(FORMATS) if name in ("se_resnet", "dense_se_resnet") else ("onnx",)


@pytest.mark.parametrize("name", list_models())
def test_a_network_answers_the_same_in_its_own_runtime(name, tmp_path):
    source = source_of(name, **NARROW[name])
    config = source.config.data
    images = (IMAGES.images / 255 - config.mean) / config.std
    twin = run_torch(source.model, source.weights, images, "float32")
    for form in formats(name):
        path = tmp_path / f"net.{form}"
        done = export(source, path, form, IMAGES)
        assert done.comparison.holds
        assert done.comparison.largest < 1e-5
        opened = open_export(path, form)
        logits, probabilities = opened.answers(IMAGES.images, 7)
        assert compare(twin, logits, probabilities).holds
        assert logits.dtype == probabilities.dtype == np.float32
        assert opened.about == done.about
        assert str(tmp_path.parent).encode() not in path.read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("name", list_models())
def test_at_full_size(name, tmp_path):
    source = source_of(name)
    for form in FORMATS:
        done = export(source, tmp_path / f"net.{form}", form, IMAGES)
        assert done.comparison.holds
        assert done.size < 1.02 * 4 * source.num_parameters + 8e5  # each shared kernel once
