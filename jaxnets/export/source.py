"""A trained network, wherever its weights come from, as everything here takes it."""

import contextlib
import dataclasses
import functools
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnets import config as configs
from jaxnets.augment.pipeline import normalize
from jaxnets.config.recipes import recipes
from jaxnets.data import load as load_data
from jaxnets.data.cifar import CIFAR10, CIFAR100
from jaxnets.errors import UserError
from jaxnets.inference.network import load_member
from jaxnets.models.functional import split
from jaxnets.port import adapters, to_state_dict
from jaxnets.port.convert import recognize, workdir_file
from jaxnets.port.files import is_run, load, read
from jaxnets.port.fit import fit
from jaxnets.port.folder import read_model
from jaxnets.port.guess import Model, describe, num_classes
from jaxnets.port.names import StateDict, parameters
from jaxnets.port.verify import build
from jaxnets.runs.log import METRICS, read_rows

_BATCH = 100
_NAMES = {data.name: data.class_names for data in (CIFAR10, CIFAR100)}


@dataclasses.dataclass(frozen=True)
class Source:
    """A trained network with what its images need: all of it in float32."""

    model: Model
    weights: StateDict
    """float32, by PyTorch's names; shared tensors are one array."""
    config: Any
    """Of the run, or the recipe that the weights are taken to come from."""
    class_names: tuple[str, ...]
    origin: dict[str, Any]
    """Where the weights come from, and what is known of them, ready for JSON."""
    notes: tuple[str, ...] = ()
    """What the user should know, a line each."""

    @property
    def mean(self) -> tuple[float, ...]:
        return tuple(self.config.data.mean)

    @property
    def std(self) -> tuple[float, ...]:
        return tuple(self.config.data.std)

    @property
    def image_size(self) -> int:
        """Pixels of a side."""
        return self.config.data.image_size

    @property
    def num_parameters(self) -> int:
        """Numbers that training changed; those of shared tensors count once."""
        return sum(self.weights[slot.name].size for slot in parameters(describe(self.model)))

    def sha256(self) -> str:
        """Of all tensors: for each, in the order of their names, "name shape" and its bytes."""
        total = hashlib.sha256()
        for name, value in sorted(self.weights.items()):
            total.update(f"{name} {'x'.join(map(str, value.shape))}\n".encode())
            total.update(value.astype(value.dtype.newbyteorder("<")).tobytes())
        return total.hexdigest()

    def network(self) -> Callable[[jax.Array], jax.Array]:
        """The network in JAX: normalised images (N, H, W, 3), float32, to logits (N, K)."""
        network, *weights = split(build(self.model, self.weights, "float32"))
        params, stats = jax.tree.map(np.asarray, weights)
        return lambda images: network.apply(params, stats, images, train=False)[0]

    def logits(self, images: np.ndarray) -> np.ndarray:
        """What JAX answers: float32 logits (N, K) of images, uint8 (N, H, W, 3)."""
        parts = []
        for start in range(0, len(images), _BATCH):
            batch = images[start : start + _BATCH]
            fill = np.zeros((_BATCH - len(batch), *batch.shape[1:]), np.uint8)
            with jax.default_matmul_precision("highest"):
                answer = self._program(np.concatenate([batch, fill]))
            parts.append(np.asarray(answer)[: len(batch)])
        return np.concatenate(parts)

    @functools.cached_property
    def _program(self) -> Callable[[np.ndarray], jax.Array]:
        network = self.network()
        return jax.jit(lambda x: network(normalize(x, self.mean, self.std, jnp.float32)))


def from_workdir(workdir: Path, checkpoint: str = "best") -> Source:
    """The network of a run of jaxnets.train.

    Args:
        checkpoint: "best", "last" or a step.

    Raises:
        UserError: no run there, no such checkpoint, damaged or unfitting weights.
    """
    member = load_member(workdir, checkpoint)
    model = read_model(workdir)._replace(num_classes=member.num_classes)
    origin = {
        "workdir": workdir.resolve().name,
        "checkpoint": "best" if member.is_best else "last",
        "step": member.step,
        "epoch": member.meta.get("epoch"),
        "selected_on": member.selected_on,
        "test_accuracy": _logged(workdir, member.step),
        "trained_in": member.config.dtype,
    }
    return Source(
        model,
        fit(to_state_dict(member.model()), describe(model), "float32"),
        member.config,
        member.class_names,
        origin,
        tuple(member.notes),
    )


def _logged(workdir: Path, step: int) -> float | None:
    """The test accuracy that the run's log gives for a step."""
    path = workdir / METRICS
    rows = read_rows(path) if path.exists() else []
    return next((row.get("eval/accuracy") for row in rows if row.get("step") == step), None)


def from_weights(path: Path, model: Model | None = None, config: Any = None) -> Source:
    """The network of a file of weights, or of anything else that `jaxnets.port.load` reads.

    Args:
        model: whose weights they are; guessed if left out.
        config: the recipe whose data and normalisation they belong to; if left out, the one
            called like the model.

    Raises:
        UserError: not weights, or those of another model; or nobody knows how to normalise.
    """
    path = workdir_file(path, "best")
    if is_run(path):
        state_dict, rest = load(path), {}
        model = model or read_model(path)
    else:
        state_dict, rest, _ = read(path)
        _, model = recognize(state_dict, rest, model)
    shapes = {name: value.shape for name, value in state_dict.items()}
    classes = num_classes(shapes)
    model = model._replace(num_classes=model.num_classes or classes)
    try:
        entries = describe(model, len(shapes))
        plan = adapters.fitting(shapes, {s.name: s.shape for s in entries})
        weights = fit(plan.apply(state_dict), entries, "float32")
    except UserError as e:
        raise UserError(f"{path}: {e}", e.details) from e
    notes = list(plan.notes(shapes))
    if config is None:
        config, note = _recipe(model)
        notes.append(note)
    names = _class_names(config, model.num_classes)
    return Source(model, weights, config, names, {"weights": path.name}, tuple(notes))


def _class_names(config: Any, count: int) -> tuple[str, ...]:
    """Those of the recipe's data; numbers where it has none, or not so many."""
    known: Sequence[str] = _NAMES.get(config.data.name, ())
    if config.data.name == "folder":
        with contextlib.suppress(UserError):
            known = load_data(config, download=False).class_names
    known = tuple(known) if len(known) <= count else ()
    return known + tuple(str(i) for i in range(len(known), count))


def _recipe(model: Model) -> tuple[Any, str]:
    """The recipe that a model's weights are taken to come from, and the note that says so."""
    family, _, version = model.name.rpartition("_")
    spec = model.name if model.name in recipes() else f"{family}:{version}"
    config = configs.read(spec)
    if len(_NAMES.get(config.data.name, ())) != model.num_classes:
        raise UserError(
            f"--weights: nobody says how images of {model.num_classes} classes are normalised; "
            "name the recipe they were trained with by --config"
        )
    said = "{:g}, {:g}, {:g}".format
    return config, (
        f"classes and normalisation are taken to be those of {spec}: {config.data.name}, mean "
        f"{said(*config.data.mean)}, deviation {said(*config.data.std)}; --config names another"
    )
