"""A trained network, wherever its weights come from, as everything here takes it."""

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnets.augment.pipeline import normalize
from jaxnets.data import load as load_data
from jaxnets.data.cifar import CIFAR10, CIFAR100
from jaxnets.devices import runtime
from jaxnets.errors import UserError
from jaxnets.inference.network import Member, load_member, of_weights
from jaxnets.models.functional import split
from jaxnets.models.torch_names import StateDict, parameters, to_state_dict
from jaxnets.port.adapters import fit
from jaxnets.port.guess import Model, describe
from jaxnets.port.verify import build
from jaxnets.port.weights import read_weights
from jaxnets.pretrained import Weights
from jaxnets.pretrained.weights import Preprocessing, options_of
from jaxnets.runs.log import METRICS, read_rows

_BATCH = 100
_NAMES = {data.name: data.class_names for data in (CIFAR10, CIFAR100)}


@dataclasses.dataclass(frozen=True)
class Source(Preprocessing):
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
    said = {
        "workdir": workdir.resolve().name,
        "checkpoint": "best" if member.is_best else "last",
        "step": member.step,
        "test_accuracy": _logged(workdir, member.step),
    }
    return _of_member(member, said)


def from_weights(source: str, model: Model | None = None, config: Any = None) -> Source:
    """The network of weights that come with the project, by name, or of a file or folder of them.

    Args:
        source: as for `jaxnets.port.weights.read_weights`.
        model: whose weights they are, if the file does not say it; guessed if left out.
        config: the recipe whose classes and normalisation go with them, if the file says none.

    Raises:
        UserError: no weights, or those of another model.
    """
    weights = read_weights(source, model=model)
    said: dict[str, Any] = {"weights": Path(source).name}
    if weights.entry is not None:
        said["test_accuracy"] = weights.entry.record.get("test", {}).get("accuracy")
    if config is not None:
        weights = _with_recipe(weights, config)
    if weights.config.dtype == "float64":
        runtime.setup("float64")
    return _of_member(of_weights(weights), said)


def _of_member(member: Member, said: dict[str, Any]) -> Source:
    model = Model(member.config.model.name, member.num_classes, options_of(member.config))
    known = {"epoch": member.meta.get("epoch"), "selected_on": member.selected_on}
    return Source(
        model,
        fit(to_state_dict(member.model()), describe(model), "float32"),
        member.config,
        member.class_names,
        {**said, **known, "trained_in": member.config.dtype},
        tuple(member.notes),
    )


def _logged(workdir: Path, step: int) -> float | None:
    """The test accuracy that the run's log gives for a step."""
    path = workdir / METRICS
    rows = read_rows(path) if path.exists() else []
    return next((row.get("eval/accuracy") for row in rows if row["step"] == step), None)


def _with_recipe(weights: Weights, config: Any) -> Weights:
    """The weights with the classes and the normalisation of a recipe, which they must lack."""
    if weights.class_names is not None:
        raise UserError(f"--config: {weights.source} says itself what it was trained with")
    found = weights.config.copy_and_resolve_references()
    found.data = config.data
    names = _class_names(config)
    if len(names) > weights.num_classes:
        raise UserError(
            f"--config: its data, {config.data.name}, has {len(names)} classes, and "
            f"{weights.source} tells {weights.num_classes} apart"
        )
    meta = {**weights.meta, "class_names": list(names)} if names else weights.meta
    return dataclasses.replace(weights, config=found, meta=meta, notes=())


def _class_names(config: Any) -> Sequence[str]:
    """Those of a recipe's data, as far as they are known here."""
    if config.data.name in _NAMES:
        return _NAMES[config.data.name]
    try:
        return load_data(config, download=False).class_names
    except UserError:
        return ()
