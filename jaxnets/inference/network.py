"""Trained networks as functions from images to class probabilities, alone or averaged."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxnets import checks
from jaxnets.augment.pipeline import normalize
from jaxnets.checkpoints import store
from jaxnets.config import PARAM_DTYPES, model_options
from jaxnets.data.identity import differing_classes
from jaxnets.devices.layout import AXIS, make_layout
from jaxnets.errors import UserError
from jaxnets.files.regular import parse_json, read_text
from jaxnets.inference.scores import log_mean, log_softmax
from jaxnets.inference.tta import mean_logits
from jaxnets.models import create_abstract, create_empty
from jaxnets.models.functional import Arrays, Network, split
from jaxnets.models.torch_names import check_names, from_state_dict
from jaxnets.optim import evaluated
from jaxnets.pretrained.weights import Preprocessing, Weights
from jaxnets.runs.workdir import CONFIG, read_config


class Member(Preprocessing):
    """A trained network with its weights and normalisation, on all devices of this machine.

    workdir, step: where its checkpoint lies.
    meta: what the checkpoint says besides its arrays.
    is_best: whether it is the run's best one, not one of the last.
    known_classes: the class names in the checkpoint; None where it has none, as a ported one.
    num_classes: outputs of the network, at least as many as known classes.
    notes: what the user should know of it, a line each.
    """

    def __init__(
        self,
        workdir: Path,
        step: int,
        *,
        is_best: bool,
        config: Any,
        meta: dict[str, Any],
        network: Network,
        params: Arrays,
        stats: Arrays,
        num_classes: int,
        notes: Sequence[str] = (),
    ):
        self.workdir, self.step, self.is_best = workdir, step, is_best
        self.config, self.meta, self.notes = config, meta, notes
        names = meta.get("class_names")
        self.known_classes = None if names is None else tuple(map(str, names))
        self.num_classes = num_classes
        self._layout = make_layout()
        self._weights = self._layout.replicate((params, stats))
        self._network = network
        self._programs: dict[tuple[int, ...], Any] = {}

    @property
    def class_names(self) -> tuple[str, ...]:
        """A name for each output; its number where the checkpoint has none."""
        known = self.known_classes or ()
        return known + tuple(str(i) for i in range(len(known), self.num_classes))

    @property
    def selected_on(self) -> str | None:
        """The split that chose it as the best; None if none did, or nobody knows, as of a port."""
        if not self.is_best or "epoch" not in self.meta:
            return None
        return self.meta.get("selected_on", "test")  # older runs had no other and do not say it

    def normalize(self, images: np.ndarray | jax.Array) -> jax.Array:
        """uint8 images (N, H, W, 3) as the network's floats, by the run's mean and deviation."""
        return normalize(images, self.mean, self.std, jnp.dtype(self.config.dtype))

    def model(self) -> nnx.Module:
        """The network as a module with the trained weights, in evaluation mode."""
        model = self._network.merge(*self._weights)
        model.eval()
        return model

    @property
    def num_parameters(self) -> int:
        """Numbers that training changed."""
        return sum(array.size for array in self._weights[0].values())

    def compile(self, batch_size: int) -> None:
        """Compiles ahead what `logits` will need for this batch size."""
        self._program((self._padded(batch_size), self.image_size, self.image_size, 3))

    def logits(self, images: np.ndarray, batch_size: int = 500) -> np.ndarray:
        """Logits, float64 (N, K), of images, uint8 (N, H, W, 3).

        One program for every batch: the last one is filled up with black images.

        Raises:
            UserError: logits that are not finite.
        """
        size = self._padded(batch_size)
        program = self._program((size, *images.shape[1:]))
        parts = []
        for start in range(0, len(images), size):
            batch = images[start : start + size]
            count = len(batch)
            fill = np.zeros((size - count, *batch.shape[1:]), np.uint8)
            batch = jax.device_put(np.concatenate([batch, fill]), self._layout.sharding(AXIS))
            parts.append(np.asarray(program(*self._weights, batch))[:count].astype(np.float64))
        logits = np.concatenate(parts) if parts else np.zeros((0, self.num_classes))
        if bad := int((~np.isfinite(logits)).any(1).sum()):
            raise UserError(
                f"{self.workdir}: the network's output is not finite for {bad} of {len(images)} "
                "images; take another --checkpoint"
            )
        return logits

    def _padded(self, batch_size: int) -> int:
        return batch_size + -batch_size % self._layout.size

    def _program(self, shape: tuple[int, ...]):
        if shape not in self._programs:
            images = jax.ShapeDtypeStruct(shape, np.uint8, sharding=self._layout.sharding(AXIS))
            self._programs[shape] = jax.jit(self._forward).lower(*self._weights, images).compile()
        return self._programs[shape]

    def _forward(self, params: Arrays, stats: Arrays, images: jax.Array) -> jax.Array:
        logits, _ = self._network.apply(params, stats, self.normalize(images), train=False)
        return logits.astype(jnp.promote_types(logits.dtype, jnp.float32))


def load_member(workdir: Path, which: str = "best") -> Member:
    """The network of a run, without its data.

    Args:
        which: "best", "last" or a step.

    Raises:
        UserError: no run there, no such store, or weights that do not fit or are not finite.

    >>> load_member(Path("runs/quickstart")).logits(images).shape  # doctest: +SKIP
    (359, 10)
    """
    config = read_config(workdir)
    state, _, meta, folder, step = store.read(workdir, which)
    where = folder / str(step)
    params, stats = _weights(config, state, where)
    network, num_classes = _network(config, meta, params, stats, where)
    notes = []
    if "data" not in parse_json(read_text(workdir / CONFIG)):  # as a port from a .pth
        notes.append(
            f"{workdir / CONFIG} names no data: CIFAR-10 and its normalisation are assumed"
        )
    return Member(
        workdir,
        step,
        is_best=folder.name == store.BEST,
        config=config,
        meta=meta,
        network=network,
        params=params,
        stats=stats,
        num_classes=num_classes,
        notes=notes,
    )


def of_weights(weights: Weights) -> Member:
    """The network of weights that were read by name or from a file.

    Raises:
        UserError: weights that do not fit their network or are not finite.
    """
    config, where = weights.config, Path(weights.source)
    try:
        checks.held(weights.options, len(weights.tensors))
        model = create_empty(
            weights.model,
            weights.num_classes,
            dtype=jnp.dtype(config.dtype),
            param_dtype=jnp.dtype(PARAM_DTYPES[config.dtype]),
            **weights.options,
        )
        from_state_dict(model, weights.tensors)
    except UserError as e:
        raise UserError(f"{where}: {e}", e.details) from e
    network, params, stats = split(model)
    _check_finite(params | stats, where)
    return Member(
        where,
        int(weights.meta.get("step", 0)),
        is_best=weights.meta.get("selected_on") is not None,
        config=config,
        meta=dict(weights.meta),
        network=network,
        params=params,
        stats=stats,
        num_classes=weights.num_classes,
        notes=weights.notes,
    )


def load_members(workdirs: Sequence[Path], which: str = "best") -> list[Member]:
    """The networks of several runs, which may differ in all but their classes and image size.

    Raises:
        UserError: as `load_member`; networks that do not go together, or a run that is named twice.
    """
    for i, workdir in enumerate(workdirs):
        if workdir.resolve() in [other.resolve() for other in workdirs[:i]]:
            raise UserError(f"--workdir {workdir}: the same run twice is no ensemble; leave it out")
    members = [load_member(workdir, which) for workdir in workdirs]
    check_together(members)
    return members


def check_together(members: Sequence[Member]) -> None:
    """Raises a UserError unless the networks have the same classes and image size."""
    for other in members[1:]:
        first = members[0]
        both = f"{first.workdir} and {other.workdir}"
        if other.class_names != first.class_names:
            difference = differing_classes(first.class_names, other.class_names)
            raise UserError(f"{both} tell different classes apart: {difference}")
        if other.image_size != first.image_size:
            raise UserError(
                f"{both} take images of different sizes: {first.image_size} and {other.image_size}"
            )


def log_probabilities(
    members: Sequence[Member], images: np.ndarray, batch_size: int = 500, *, tta: str = "none"
) -> np.ndarray:
    """log of the mean over members of softmax(logits), float64 (N, K).

    Args:
        images: uint8 (N, H, W, 3).
        tta: none, flip or flip_translate: of which views of an image each network's logits are the
            mean.
    """
    every = (mean_logits(lambda v, m=m: m.logits(v, batch_size), images, tta) for m in members)
    return log_mean([log_softmax(logits) for logits in every])


def check_classes(member: Member, class_names: Sequence[str], source: str) -> None:
    """Raises a UserError if data has other classes than the network was trained on.

    Only their number is compared where the checkpoint names none.
    """
    known, given = member.known_classes, tuple(class_names)
    if known is None:
        known, given = range(member.num_classes), range(len(given))
    if known != given:
        raise UserError(
            f"{member.workdir} was trained on other classes than those of {source}: "
            f"{differing_classes(known, given)}"
        )


def _weights(config: Any, state: dict, where: Path) -> tuple[Arrays, Arrays]:
    """The weights that config.eval_weights says to evaluate, and their statistics."""
    try:
        params, stats = evaluated(
            config.eval_weights, state["params"], state["stats"], state.get("opt_state") or {}
        )
    except UserError as e:
        raise UserError(f"{where}: {e}") from e
    _check_finite(params | stats, where)
    return params, stats


def _check_finite(arrays: Arrays, where: Path) -> None:
    for name, value in arrays.items():
        if not np.isfinite(np.asarray(value)).all():
            raise UserError(f"{where}: {name} is not finite; take another --checkpoint")


def _network(
    config: Any, meta: dict[str, Any], params: Arrays, stats: Arrays, where: Path
) -> tuple[Network, int]:
    """The network that the weights belong to, and the number of its classes."""
    known = meta.get("class_names")
    if known is None and config.model.get("num_classes") is None:
        raise UserError(f"{where}: says neither its classes nor their number")
    try:
        num_classes, options = model_options(config, len(known or ()))
        checks.held(options, len(params) + len(stats))
        model = create_abstract(
            config.model.name,
            num_classes,
            dtype=jnp.dtype(config.dtype),
            param_dtype=jnp.dtype(PARAM_DTYPES[config.dtype]),
            **options,
        )
        network, its_params, its_stats = split(model)
        check_names(_shapes(its_params | its_stats), _shapes(params | stats))
    except UserError as e:
        raise UserError(f"{where}: {e}") from e
    return network, num_classes


def _shapes(arrays: Arrays) -> dict[str, tuple[int, ...]]:
    return {name: value.shape for name, value in arrays.items()}
