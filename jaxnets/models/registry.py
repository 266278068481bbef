"""The models by name, with their options checked before they are built."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxnets import checks
from jaxnets.config import networks
from jaxnets.config.networks import MODELS
from jaxnets.errors import UserError
from jaxnets.models.torch_names import from_state_dict
from jaxnets.pretrained.weights import find


def list_models() -> list[str]:
    """The names that `create_model` takes."""
    return list(MODELS)


def model_class(name: str) -> type[nnx.Module]:
    """The class of the model called `name`; a UserError names the nearest one otherwise."""
    entry = networks.entry(name)
    return getattr(importlib.import_module(f"jaxnets.models.{entry.module}"), entry.cls)


def model_options(name: str) -> dict[str, object]:
    """The options of a model and their defaults."""
    return {key: option.default for key, option in networks.options(name).items()}


def create_model(
    name: str,
    num_classes: int | None = None,
    *,
    pretrained: bool | str = False,
    dtype: jnp.dtype | None = None,
    param_dtype: jnp.dtype = jnp.float32,
    rngs: nnx.Rngs | None = None,
    **options,
) -> nnx.Module:
    """Builds a model by name, in training mode; call it on NHWC float arrays.

    Args:
        name: one of `list_models()`.
        num_classes: logits; the documented number (10, or 100 for cifar100_*) if left out.
        pretrained: weights that come with the project, by name (`jaxnets.list_pretrained()`), which
            say the options that are not given; True for those of just this network.
        dtype: of the computation, as in Flax: None follows input and parameters.  The logits are
            float32 also where it is bfloat16.
        param_dtype: of the parameters.  BatchNorm statistics are kept in it, and at least float32.
        rngs: streams for initial weights and dropout; `nnx.Rngs(0)` if left out.
        options: the model's own, see `model_options(name)`.

    Raises:
        UserError: unknown name, option or value, in one line with the allowed ones; or no such
            weights, damaged ones, or ones of another network.

    >>> model = create_model("se_resnet", num_channels=16)
    >>> model.eval()
    >>> model(jnp.zeros((1, 32, 32, 3))).shape
    (1, 10)
    """
    cls = model_class(name)
    networks.check_options(name, options)
    weights = find(name, pretrained, num_classes, options) if pretrained else None
    if weights is not None:
        num_classes, options = weights.num_classes, weights.options | options
    checks.network(name, num_classes, model_options(name) | options)
    if num_classes is not None:
        options["num_classes"] = num_classes
    rngs = nnx.Rngs(0) if rngs is None else rngs
    if not isinstance(rngs, nnx.Rngs):
        raise UserError(f"rngs={rngs!r}: give streams, such as rngs=nnx.Rngs(0) (flax.nnx)")
    model = cls(dtype=dtype, param_dtype=param_dtype, rngs=rngs, **options)
    if weights is not None:
        from_state_dict(model, weights.tensors)
    return model


def create_abstract(name: str, num_classes: int | None = None, **options) -> nnx.Module:
    """`create_model` with shapes and dtypes in the place of all arrays: it takes no memory."""
    return nnx.eval_shape(lambda: create_model(name, num_classes, **options))


def create_empty(name: str, num_classes: int | None = None, **options) -> nnx.Module:
    """`create_model` with all variables zero, as numpy arrays; no initial weights are drawn.

    For weights that are about to be loaded.
    """
    model = create_abstract(name, num_classes, **options)
    abstract = nnx.state(model, (nnx.Param, nnx.BatchStat))
    nnx.update(model, jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), abstract))
    return model
