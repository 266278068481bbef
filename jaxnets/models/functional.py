"""A model as a pure function of flat dictionaries: what jit, optax and checkpoints work on."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from jaxnets.models.layers import BatchNorm, batch_scope

Arrays = dict[str, jax.Array]


class Network(NamedTuple):
    """The static half of a model; hashable, so it may be a static argument of jit."""

    graphdef: nnx.GraphDef
    rng_paths: tuple[tuple, ...]
    unused: tuple[str, ...] = ()
    """Prefixes of parameters that the forward pass never reads; no optimizer touches them."""
    frozen: frozenset[str] = frozenset()
    """Parameters that training leaves as they are."""
    fixed_norms: tuple[str, ...] = ()
    """BatchNorm layers that keep their running statistics, and use them in training too."""

    def trained(self, params: Arrays) -> Arrays:
        """The parameters that training changes."""
        return {k: v for k, v in params.items() if k not in self.frozen}

    def merge(self, params: Arrays, stats: Arrays, key: jax.Array | None = None) -> nnx.Module:
        """The module again.  Every dropout layer gets its own stream, folded from `key`."""
        leaves = {_path(name): value for name, value in (*params.items(), *stats.items())}
        key = jax.random.key(0) if key is None else key
        for i, path in enumerate(self.rng_paths):
            # A stream is a pair of variables: its key, and the count of keys drawn from it so far.
            is_key = path[-1] == "key"
            leaves[path] = jax.random.fold_in(key, i) if is_key else jnp.zeros((), jnp.uint32)
        return nnx.merge(self.graphdef, nnx.from_flat_state(leaves))

    def apply(
        self,
        params: Arrays,
        stats: Arrays,
        images: jax.Array,
        *,
        train: bool,
        key: jax.Array | None = None,
        axis_name: str | None = None,
        mask: jax.Array | None = None,
    ) -> tuple[jax.Array, Arrays]:
        """Logits (N, K) for images (N, H, W, C), and the BatchNorm statistics after them.

        Args:
            train: batch statistics and dropout, or running statistics and none.
            key: of the dropout masks, one a step.
            axis_name: the mapped axis whose devices together hold the batch (pmap).
            mask: (N,) 1 for an image, 0 for padding that must not count in the statistics.
        """
        model = self.merge(params, stats, key)
        if train:
            model.train()
            for path, module in nnx.iter_modules(model) if self.fixed_norms else ():
                if ".".join(map(str, path)) in self.fixed_norms:
                    module.eval()
            with batch_scope(axis_name, mask):
                return model(images), flat(model, nnx.BatchStat)
        model.eval()
        return model(images), stats

    def batch_statistics(
        self, params: Arrays, stats: Arrays, images: jax.Array, mask: jax.Array
    ) -> Arrays:
        """Mean and unbiased variance of every BatchNorm's inputs in one batch (N, H, W, C).

        Nothing is dropped; layers that keep their running statistics do so here too.

        Args:
            mask: (N,) 1 for an image, 0 for padding.
        """
        model = self.merge(params, stats)
        model.eval()
        for path, module in nnx.iter_modules(model):
            if isinstance(module, BatchNorm) and ".".join(map(str, path)) not in self.fixed_norms:
                module.train()
                module.momentum = 1.0  # only this batch counts
        with batch_scope(mask=mask):
            model(images)
        return flat(model, nnx.BatchStat)


def split(model: nnx.Module) -> tuple[Network, Arrays, Arrays]:
    """A model as (network, params, stats): names are attribute paths, joined with dots.

    A parameter that several layers share has one entry, under the first of its names.
    """
    graphdef, params, stats, rngs = nnx.split(model, nnx.Param, nnx.BatchStat, nnx.RngState)
    paths = tuple(path for path, _ in nnx.to_flat_state(rngs))
    unused = tuple(f"{name}." for name in getattr(model, "unused", ()))
    return Network(graphdef, paths, unused), _arrays(params), _arrays(stats)


def flat(model: nnx.Module, kind: type[nnx.Variable]) -> Arrays:
    """The variables of one kind, by dotted name."""
    return _arrays(nnx.state(model, kind))


def update(model: nnx.Module, values: Mapping[str, Any]) -> None:
    """Writes values by dotted name into the model's variables."""
    nnx.update(model, nnx.from_flat_state({_path(k): v for k, v in values.items()}))


def _arrays(state: nnx.State) -> Arrays:
    return {".".join(map(str, path)): v.get_value() for path, v in nnx.to_flat_state(state)}


def _path(name: str) -> tuple[str | int, ...]:
    return tuple(int(part) if part.isdigit() else part for part in name.split("."))
