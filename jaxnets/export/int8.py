"""A network in int8: which layers it takes in float, and whether its answers are good enough."""

import re
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxnets.errors import one_line
from jaxnets.export import about as abouts
from jaxnets.export import onnx_file
from jaxnets.export.files import FORMATS, Opened, inputs, require
from jaxnets.export.images import Int8Images, Labelled, random_images
from jaxnets.export.source import Source
from jaxnets.export.write import Proof, Refused, place_if, verify_alone
from jaxnets.files.atomic import temporary_folder
from jaxnets.timing import Rates, Work, alternate

NOISE = 0.05
"""From this error of the logits on, relative to their spread, layers are left in float."""
LEAST_AGREEMENT = 0.9
"""Of the predictions: with fewer the same it is another network."""
_GROUPS, _MOST = 12, 6  # of layers, roughly: to try, and that may stay in float
_EXCITATION = re.compile(r"(^|\.)(se|seblock)\.")

Log = Callable[[str], None]


class Judged(NamedTuple):
    """The answers in int8 beside those of JAX, on images whose classes are known."""

    judged_on: str
    """For people: which images."""
    images: int
    accuracy_float32: float
    """Of the network in JAX."""
    accuracy_int8: float
    agreement: float
    """Share of the predictions that are the same."""
    max_drop: float
    """Points of accuracy that int8 may cost."""

    @property
    def holds(self) -> bool:
        """Whether int8 costs no more accuracy than it may, and predicts mostly the same."""
        worse = round((self.accuracy_float32 - self.accuracy_int8) * self.images)  # images
        return 100 * worse <= self.max_drop * self.images and self.agreement >= LEAST_AGREEMENT

    def __str__(self) -> str:
        return (
            f"accuracy {self.accuracy_float32:.2%} in float32, {self.accuracy_int8:.2%} in int8 "
            f"(allowed: {self.max_drop:g} points less); {self.agreement:.1%} of the predictions "
            f"the same (at least {LEAST_AGREEMENT:.0%}); {self.judged_on}"
        )


class Trial(NamedTuple):
    """The network in int8 with some layers left in float."""

    model: Any
    """Of onnx."""
    in_float: tuple[str, ...]
    noise: float
    """The root of the mean square error of the logits, relative to their standard deviation."""


class Exported(NamedTuple):
    """What was written."""

    about: dict[str, Any]
    size: int
    """Bytes."""
    float_size: int
    """Bytes of the same network in float32."""
    judged: Judged
    latency: dict[str, Rates]
    """Images a second, one at a time, of "float32" and "int8", measured in turn."""


def export_int8(
    source: Source,
    path: Path,
    images: Int8Images,
    *,
    kind: str = "uint8-nhwc",
    max_drop: float = 0.5,
    log: Log = lambda line: None,
) -> Exported:
    """Writes a network to one .onnx in int8, if that predicts nearly as well as JAX does.

    Args:
        path: replaced if it exists.
        images: to calibrate, try and judge on.
        kind: what the file takes, one of `jaxnets.export.about.INPUTS`.
        max_drop: points of accuracy that it may cost.
        log: takes lines that say how far it is.

    Raises:
        UserError: a package is missing, or the file cannot be written.
        Refused: it predicts worse.  There is then no file, or the older one.
    """
    packages = (*FORMATS["onnx"].writes, *FORMATS["onnx"].runs)
    require(packages, str(path))
    about = abouts.describe(source, kind, packages)
    network = onnx_file.network(source, kind)
    in_float32 = onnx_file.with_about(network, about)
    with temporary_folder("jaxnets-int8-") as folder:
        chosen, trials = _calibrated(source, network, about, images, folder)
    layers = ", ".join(chosen.in_float) or "none"
    log(f"layers left in float: {layers} ({trials} trial{'s' * (trials > 1)} on training images)")
    opened = _opened(onnx_file.with_about(chosen.model, about), about)
    probes, _ = opened.answers(random_images(abouts.PROBES, source.image_size))
    judged = judge(opened, source, images.judged, max_drop)
    about["int8"] = {
        "calibrated_on": f"{len(images.calibration)} {images.what}",
        "layers_in_float": list(chosen.in_float),
        "trials": trials,
        "noise": chosen.noise,
        "split": images.judged.split,
        **judged._asdict(),
        "probe_logits": probes.tolist(),
    }
    data = onnx_file.with_about(chosen.model, about)

    def proof(opened: Opened) -> Proof:
        same = verify_alone(opened)
        return judged if same.holds else same

    place_if(path, data, "onnx", proof)
    latency = _latency(_opened(in_float32, about), opened, images.tried[:1])
    return Exported(about, len(data), len(in_float32), judged, latency)


def judge(opened: Opened, source: Source, judged: Labelled, max_drop: float) -> Judged:
    """An export in int8 against its network in JAX."""
    logits, _ = opened.answers(judged.images)
    ours, theirs = source.logits(judged.images).argmax(1), logits.argmax(1)
    theirs[~np.isfinite(logits).all(1)] = -1
    return Judged(
        f"{len(ours):,} {judged.what}",
        len(ours),
        float((ours == judged.labels).mean()),
        float((theirs == judged.labels).mean()),
        float((ours == theirs).mean()),
        max_drop,
    )


def choose(trial: Callable[[Collection[str]], Trial], layers: Sequence[str]) -> tuple[Trial, int]:
    """The layers to leave in float: none if that will do, else as few as are tried.

    Groups of layers are left in float, each alone, and then together, those first that made the
    error of the logits smallest, until it is below NOISE.  At least half of the layers are in int8.

    Returns:
        The best trial, which is the last one if any will do, and the number of trials.
    """
    tried: dict[tuple[str, ...], Trial] = {}

    def attempt(in_float: Collection[str]) -> float:
        key = tuple(name for name in layers if name in in_float)
        if key not in tried:
            tried[key] = trial(key)
        noise = tried[key].noise
        return noise if np.isfinite(noise) else np.inf

    if attempt(()) > NOISE:
        groups = [group for group in candidates(layers) if 2 * len(group) <= len(layers)]
        in_float: set[str] = set()
        for group in sorted(groups, key=attempt)[:_MOST]:
            together = in_float | {*group}
            if 2 * len(together) <= len(layers):
                in_float = together
                if attempt(in_float) <= NOISE:
                    break
    return tried[min(tried, key=attempt)], len(tried)


def candidates(layers: Sequence[str]) -> list[tuple[str, ...]]:
    """Groups of layers to try in float: the first, squeeze-and-excitation, the last, neighbours.

    Two neighbours are together in some group: what lies between them is in float only if both are.

    >>> candidates(["conv1", "se.0", "conv2", "se.1", "fc"])
    [('conv1',), ('se.0', 'se.1'), ('fc',), ('conv1', 'conv2'), ('conv2', 'fc')]
    """
    excitation = tuple(name for name in layers if _EXCITATION.search(name))
    others = [name for name in layers if name not in excitation]
    step = -(-len(others) // _GROUPS)
    parts = [tuple(others[i : i + 2 * step]) for i in range(0, len(others) - 1, step or 1)]
    found = [tuple(others[:1]), excitation, tuple(others[-1:]), *parts]
    return [*dict.fromkeys(group for group in found if group)]


def _calibrated(
    source: Source, network: Any, about: dict[str, Any], images: Int8Images, folder: Path
) -> tuple[Trial, int]:
    from jaxnets.export.quantize import Quantizer

    right = source.logits(images.tried)
    quantizer = Quantizer(network, inputs(about, images.calibration), folder)

    def trial(in_float: Collection[str]) -> Trial:
        model = quantizer.quantized(in_float)
        opened = _opened(onnx_file.with_about(model, about), about)
        error = opened.answers(images.tried)[0] - right
        noise = float(np.sqrt(np.square(error).mean()) / (right.std() or 1))
        return Trial(model, tuple(in_float), noise)

    return choose(trial, quantizer.layers)


def _opened(data: bytes, about: dict[str, Any]) -> Opened:
    try:
        return Opened(about, onnx_file.runtime(data))
    except Exception as e:
        raise Refused(f"onnxruntime cannot run it ({one_line(e)})") from e


def _latency(in_float32: Opened, in_int8: Opened, image: np.ndarray) -> dict[str, Rates]:
    def one_by_one(opened: Opened) -> Work:
        ready = inputs(opened.about, image)
        return Work(lambda times: [opened.run(ready) for _ in range(times)])

    works = {"float32": one_by_one(in_float32), "int8": one_by_one(in_int8)}
    return alternate(works, repeats=5, seconds=0.1)
