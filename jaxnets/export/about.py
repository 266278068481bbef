"""What an export says of itself: one JSON object, kept inside the file."""

import importlib.metadata
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

import jaxnets
from jaxnets.errors import UserError
from jaxnets.export.images import random_images
from jaxnets.export.source import Source
from jaxnets.files.regular import parse_json
from jaxnets.models import model_options

KEY = "jaxnets"
VERSION = 1
INPUTS = ("uint8-nhwc", "float32-nchw")
_LARGEST = 4096  # pixels of a side
PROBES = 4  # images whose answers a file keeps, so that it can be checked without the weights


def describe(source: Source, kind: str, packages: tuple[str, ...]) -> dict[str, Any]:
    """The object for a network.

    Args:
        kind: one of INPUTS.
        packages: that the file is made with, besides jax.
    """
    answers = source.logits(random_images(PROBES, source.image_size))
    about = {
        "version": VERSION,
        "model": source.model.name,
        "options": {**model_options(source.model.name), **source.model.options},
        "parameters": source.num_parameters,
        "input": kind,
        "image_size": source.image_size,
        "mean": source.mean,
        "std": source.std,
        "class_names": source.class_names,
        "origin": source.origin,
        "weights_sha256": source.sha256(),
        "versions": {"jaxnets": jaxnets.__version__, **_versions(("jax", *packages))},
        "probe_logits": answers.tolist(),
    }
    return parse_json(to_json(about))  # as it will be read: lists in the place of tuples


def _versions(packages: tuple[str, ...]) -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in packages}


def to_json(about: Mapping[str, Any]) -> str:
    return json.dumps(about)


def from_json(text: str | bytes | None, where: object) -> dict[str, Any]:
    """The object that a file holds.

    Raises:
        UserError: it holds none, or one of another version.
    """
    try:
        about = parse_json(text)
        if about["version"] != VERSION:
            raise UserError(f"{where}: an export of another version of jaxnets; export it again")
        whole = (
            about["input"] in INPUTS
            and isinstance(about["origin"], dict)
            and 1 <= int(about["image_size"]) <= _LARGEST
            and np.array([about["mean"], about["std"]], np.float64).shape == (2, 3)
            and np.array(about["probe_logits"], np.float64).ndim == 2
            and isinstance(about["weights_sha256"], str)
        )
        if not (whole and ("int8" not in about or _is_int8(about["int8"], about))):
            raise ValueError
    except (LookupError, TypeError, ValueError) as e:
        raise UserError(f"{where}: no export of jaxnets, or damaged") from e
    return about


def _is_int8(said: Any, about: Mapping[str, Any]) -> bool:
    """Whether a file says of its int8 what it takes to check it again."""
    probes = np.array(said["probe_logits"], np.float64)
    right = np.array(about["probe_logits"], np.float64)
    return (
        probes.shape == right.shape
        and 0 <= float(said["max_drop"]) <= 100
        and isinstance(said["layers_in_float"], list)
    )
