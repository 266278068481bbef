"""The formats by name and suffix, and exports opened in their own runtimes."""

import importlib
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from jaxnets.errors import UserError, one_line, unknown
from jaxnets.export import about as abouts
from jaxnets.files.regular import read_file

Answer = tuple[np.ndarray, np.ndarray]
"""Logits and probabilities, float32 (N, K)."""


class Format(NamedTuple):
    """A kind of file.

    Its module has `write(source, kind, about)`, which gives bytes, `about_of(data)`, which runs
    nothing of a file, and `runtime(data)`, the function from inputs to an Answer.
    """

    module: str
    writes: tuple[str, ...]
    """Packages that it takes to write one, besides those to run it."""
    runs: tuple[str, ...]

    def load(self) -> ModuleType:
        return importlib.import_module(f"jaxnets.export.{self.module}")


FORMATS = {
    "onnx": Format("onnx_file", ("torch", "onnx", "onnxscript"), ("onnxruntime",)),
    "stablehlo": Format("stablehlo_file", (), ("flatbuffers",)),
    "pt2": Format("pt2_file", (), ("torch",)),
}


def format_of(path: Path, given: str | None, flag: str) -> str:
    """The name of a file's format: given, or by its suffix.

    Raises:
        UserError: neither says it, or both do and differ.
    """
    if given is not None and given not in FORMATS:
        raise unknown("--format", given, FORMATS)
    suffix = path.suffix.removeprefix(".")
    if given is not None and suffix in FORMATS and suffix != given:
        raise UserError(f"{flag} {path}: has the suffix of another format than --format {given}")
    if given is None and suffix not in FORMATS:
        raise UserError(
            f"{flag} {path}: end it with {', '.join(f'.{name}' for name in FORMATS)}, or name the "
            "format by --format"
        )
    return given or suffix


def require(packages: Sequence[str], what: str) -> None:
    """Raises a UserError with the command that installs what is missing of these packages."""
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(
            f"{what}: needs {', '.join(missing)}, not installed here; pip install 'jaxnets[export]'"
        )


class Opened(NamedTuple):
    """An export in its own runtime."""

    about: dict[str, Any]
    """What it says of itself, see `jaxnets.export.about`."""
    run: Callable[[np.ndarray], Answer]
    """The answer to inputs as the file takes them."""

    def answers(self, images: np.ndarray, batch_size: int = 100) -> Answer:
        """Logits and probabilities of images, uint8 (N, size, size, 3).

        The first one goes alone: a file that took batches of one size only would not pass.
        """
        starts = [0, *range(1, len(images), batch_size)]
        parts = [self.run(inputs(self.about, images[a:b])) for a, b in _pairs(starts, len(images))]
        logits, probabilities = map(np.concatenate, zip(*parts, strict=True))
        return logits, probabilities


def inputs(about: Mapping[str, Any], images: np.ndarray) -> np.ndarray:
    """Images, uint8 (N, size, size, 3), as a file that says this of itself takes them."""
    if about["input"] == "uint8-nhwc":
        return images
    mean, std = (np.array(about[key], np.float64) for key in ("mean", "std"))
    normalised = (images / 255 - mean) / std
    return np.ascontiguousarray(normalised.transpose(0, 3, 1, 2), np.float32)


def _pairs(starts: Sequence[int], end: int) -> list[tuple[int, int]]:
    return list(zip(starts, [*starts[1:], end], strict=True))


def open_export(path: Path, form: str) -> Opened:
    """Opens a file that `jaxnets.export` wrote.

    Args:
        form: a key of FORMATS.

    Raises:
        UserError: no such file, none of ours, damaged, or its runtime is missing.
    """
    require(FORMATS[form].runs, str(path))
    data = read_file(path)
    module = FORMATS[form].load()
    try:
        said = module.about_of(data)
    except Exception as e:  # damaged files raise nearly anything
        raise UserError(f"{path}: no .{form} file, or damaged ({one_line(e)})") from e
    found = abouts.from_json(said, path)
    try:
        return Opened(found, module.runtime(data))
    except Exception as e:
        raise UserError(f"{path}: cannot be opened ({one_line(e)})") from e
