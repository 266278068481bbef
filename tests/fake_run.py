"""Workdirs as training leaves them, with random weights: made in a moment."""

from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxnets import config as configs
from jaxnets.checkpoints.store import Checkpoints
from jaxnets.models.functional import split
from jaxnets.optim import make_optimizer
from jaxnets.train.step import Totals, TrainState, init_state
from jaxnets.train.task import build_model
from tests.tiny_config import get_config

# Squares of 8 pixels: such images differ as far as a random network can tell.
IMAGES = np.random.default_rng(7).choice([0, 40, 255], (17, 4, 4, 3), p=(0.4, 0.2, 0.4))
IMAGES = IMAGES.astype(np.uint8).repeat(8, axis=1).repeat(8, axis=2)
NAMES = tuple(str(i) for i in range(10))


def fake_run(
    workdir: Path,
    seed: int = 0,
    *,
    names: tuple[str, ...] | None = NAMES,
    meta: dict[str, Any] | None = None,
    change: Any = lambda state: state,
    probe: np.ndarray = IMAGES,
    **keys: Any,
) -> TrainState:
    """Writes a run of the tiny network, its weights drawn from `seed`; returns its state.

    Args:
        names: in the checkpoint's metadata; None for none.
        meta: more of it.
        change: applied to the state before it is saved, as best/1 and as checkpoints/2.
        probe: images of which every class gets some.
        keys: of the configuration, dots as two underscores.
    """
    config = get_config()
    config.seed = seed
    with config.unlocked():
        config.update_from_flattened_dict({k.replace("__", "."): v for k, v in keys.items()})
    random = np.random.default_rng(seed)
    network, params, stats = split(
        build_model(config, len(names or ()) or config.model.num_classes)
    )
    stats = {
        k: np.asarray(random.uniform(0.5, 2, v.shape), v.dtype) if v.dtype.kind == "f" else v
        for k, v in stats.items()
    }
    logits = np.asarray(network.apply(params, stats, _normalised(config, probe), train=False)[0])
    kernel, bias = np.asarray(params["linear.kernel"]), np.asarray(params["linear.bias"])
    scale = 2 / logits.std(0)
    bias = scale * (bias - logits.mean(0))
    params = params | {"linear.kernel": kernel * scale, "linear.bias": bias}
    optimizer = make_optimizer(config.optim, config.schedule, steps_per_epoch=1, num_epochs=1)
    state = init_state(params, stats, optimizer.tx)
    slow = jax.tree.map(lambda x: 0.5 * x, state.opt_state.slow)
    state = change(state._replace(opt_state=state.opt_state._replace(slow=slow)))
    meta = {"epoch": 1, **({} if names is None else {"class_names": list(names)}), **(meta or {})}
    workdir.mkdir(parents=True, exist_ok=True)
    (workdir / "config.json").write_text(configs.to_json(config))
    checkpoints = Checkpoints(workdir, 1)
    checkpoints.save_best(1, (state, Totals.zero()), meta)
    checkpoints.save_last(2, (state, Totals.zero()), meta)
    return state


def direct_logits(workdir: Path, state: TrainState, images: np.ndarray) -> np.ndarray:
    """Logits by the network itself, all images at once, normalised by numpy."""
    config = configs.from_json((workdir / "config.json").read_text())
    network, params, _ = split(build_model(config, state.params["linear.bias"].size))
    assert params.keys() == state.params.keys()
    x = _normalised(config, images)
    logits, _ = network.apply(state.params, state.stats, x, train=False)
    return np.asarray(logits, np.float64)


def _normalised(config: Any, images: np.ndarray) -> np.ndarray:
    x = (images / 255 - np.array(config.data.mean)) / np.array(config.data.std)
    return x.astype(np.float32)


def softmax(logits: np.ndarray) -> np.ndarray:
    p = np.exp(logits - logits.max(1, keepdims=True))
    return p / p.sum(1, keepdims=True)
