"""What a model is made of, layer by layer: parameters, multiply-accumulates, shapes, sizes."""

import math
from collections import defaultdict
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from jaxnets.models.registry import create_model
from jaxnets.models.trace import Shape, named_modules, record_calls

BUDGET = 5_000_000
"""The parameters that the documents allow themselves."""


class Layer(NamedTuple):
    """One layer that owns parameters."""

    name: str
    """The attribute path; with the parameter's name it is the state_dict entry."""
    type: str
    weight: Shape
    """The shape of its kernel: (H, W, in, out), (in, out), or (C,)."""
    output: Shape | None
    """The shape of what it returns for one image; None for a layer that is never called."""
    parameters: int
    """Those that no layer above has counted."""
    macs: int
    """Multiply-accumulates for one image: 0 for all but convolutions and linear layers."""
    shared_with: str | None
    """The layer above that owns the same kernel."""


class Audit(NamedTuple):
    """The layers of one model and their sums."""

    layers: tuple[Layer, ...]
    entries: int
    """Tensors of the state_dict; a shared one counts under each of its names."""

    @property
    def parameters(self) -> int:
        """Unique parameters.  All of them are trainable; running statistics are not among them."""
        return sum(layer.parameters for layer in self.layers)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one image's forward pass."""
        return sum(layer.macs for layer in self.layers)

    @property
    def size_mb(self) -> float:
        """The unique parameters in float32, in units of 10^6 bytes."""
        return self.parameters * 4 / 1e6


def audit(name: str, num_classes: int | None = None, **options) -> Audit:
    """The audit of the model that `create_model(name, num_classes, **options)` would build.

    Only traced: no weight is drawn and no convolution computed.

    >>> audit("se_resnet").parameters
    4697742
    """
    found: list[Audit] = []
    jax.eval_shape(lambda: found.append(audit_model(create_model(name, num_classes, **options))))
    return found[0]


def audit_model(model: nnx.Module, image: Shape = (32, 32, 3)) -> Audit:
    """The audit of a model in hand, for images of shape (H, W, C).

    The multiply-accumulates of a convolution are H' W' k^2 in out, of a linear layer in out, and
    are read from the calls that really happen; additions, BatchNorm and pooling count nothing.
    """
    outputs: dict[str, list[Shape]] = defaultdict(list)
    for call in record_calls(model, jax.ShapeDtypeStruct((1, *image), jnp.float32)):
        outputs[call.name].append(call.output[1:])
    layers: list[Layer] = []
    owner: dict[int, str] = {}
    entries = 0
    for name, module in named_modules(model):
        own = [v for v in vars(module).values() if isinstance(v, nnx.Param | nnx.BatchStat)]
        entries += len(own)
        parameters = [v for v in own if isinstance(v, nnx.Param)]
        if not parameters:
            continue
        weight = parameters[0]
        kernel = weight.get_value().shape
        is_product = isinstance(module, nnx.Conv | nnx.Linear)
        layers.append(
            Layer(
                name=name,
                type=type(module).__name__,
                weight=kernel,
                output=outputs[name][-1] if outputs[name] else None,
                parameters=sum(v.get_value().size for v in parameters if id(v) not in owner),
                macs=sum(map(math.prod, outputs[name])) * math.prod(kernel[:-1])
                if is_product
                else 0,
                shared_with=owner.get(id(weight)),
            )
        )
        for v in parameters:
            owner.setdefault(id(v), name)
    return Audit(tuple(layers), entries)
