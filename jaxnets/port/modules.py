"""Live models: a Flax one from its PyTorch twin, and the other way round."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import jax.numpy as jnp
from flax import nnx

from jaxnets.files.pt_file import clean_names
from jaxnets.models import create_model
from jaxnets.models.layers import BatchNorm
from jaxnets.models.torch_names import (
    StateDict,
    from_state_dict,
    slots,
    to_state_dict,
)
from jaxnets.models.trace import named_modules
from jaxnets.port.files import numpy_of, to_tensors
from jaxnets.port.guess import Model, guess, most_sharing

if TYPE_CHECKING:
    import torch


def to_torch(model: nnx.Module) -> "torch.nn.Module":
    """The PyTorch twin of a model, with its weights, dtypes, options and mode.

    Tensors that the model shares between layers are shared in the twin.

    Raises:
        UserError: not a model that `create_model` builds.

    >>> to_torch(create_model("se_resnet")).training  # doctest: +SKIP
    True
    """
    from torch_ref.models import create_model as create_twin

    state_dict = to_state_dict(model)
    known = _model_of(model, state_dict, {slot.name: slot.path for slot in slots(model)})
    twin = create_twin(known.name, known.num_classes, **known.options)
    tensors = to_tensors(state_dict)
    for name, held in twin.state_dict(keep_vars=True).items():
        held.data = tensors[name]
    first_norm = next(m for _, m in named_modules(model) if isinstance(m, BatchNorm))
    return twin.train(not first_norm.use_running_average)


def from_torch(module: "torch.nn.Module") -> nnx.Module:
    """The Flax model of a PyTorch twin: the inverse of `to_torch`.

    Another module with the names and shapes of a twin, such as kuangliu's ResNet18, is taken for
    it.  float64 parameters stay float64 where jax_enable_x64 is on.

    Raises:
        UserError: its state_dict is that of no model here.
    """
    tensors = clean_names(module.state_dict())
    state_dict = {name: numpy_of(tensor) for name, tensor in tensors.items()}
    known = _model_of(module, state_dict, {k: t.data_ptr() for k, t in tensors.items()})
    dtype = next(iter(module.parameters())).dtype
    model = create_model(
        known.name,
        known.num_classes,
        param_dtype=jnp.dtype(str(dtype).removeprefix("torch.")),
        **known.options,
    )
    from_state_dict(model, state_dict)
    (model.train if module.training else model.eval)()
    return model


def _model_of(module: object, state_dict: StateDict, identity: Mapping[str, object]) -> Model:
    """The model, with the options that the weights show and those that only the module does.

    Args:
        identity: for each name, what is equal for names of one tensor.
    """
    model = guess(state_dict)
    options = model.options | _invisible(module)
    if "share" in options:
        options["share"] = most_sharing(lambda a, b: identity[a] == identity[b], options["depth"])
    return model._replace(options=options)


def _invisible(module: object) -> dict[str, object]:
    """The options of a Flax model, or of its twin, that its weights do not show."""
    rate = "rate" if isinstance(module, nnx.Module) else "p"
    kind = type(module).__name__
    found: dict[str, object] = {}
    if hasattr(module, "dropout"):
        found["drop"] = getattr(module.dropout, rate)
    if kind.startswith("Cifar100"):
        found["drop"] = getattr(module.classifier[1], rate)
    if kind == "MishSEResNet18":
        found["activation"] = type(module.act).__name__.lower()
    if kind == "Cifar100v3":
        found["use_fire8"] = module.use_fire8
    if kind == "Cifar100v4":
        found["conv_drop"] = getattr(module.conv3[7], rate)
    if kind == "Cifar100v5":
        found["conv_drop"] = getattr(module.conv1[7], rate)
        found["residual"] = module.conv1[3].residual
    return found
