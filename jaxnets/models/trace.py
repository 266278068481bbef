"""Watching a model run: which of its modules were called, on what shapes, and with what result."""

import contextlib
import functools
from collections.abc import Iterator
from typing import NamedTuple

import jax
from flax import nnx

Shape = tuple[int, ...]


class Call(NamedTuple):
    """One call of one module."""

    name: str
    """The module's attribute path, joined with dots; "" for the model itself."""
    module: nnx.Module
    inputs: tuple[Shape, ...]
    """The shapes of its positional array arguments."""
    output: Shape
    value: jax.Array | None
    """What it returned, where values are kept."""


def record_calls(
    model: nnx.Module, x: jax.Array | jax.ShapeDtypeStruct, *, keep: bool = False
) -> list[Call]:
    """Runs model(x) and lists the calls of all its modules, in the order in which they end.

    Without `keep` nothing is computed: only shapes are traced, `x` and the model's variables may be
    abstract (`nnx.eval_shape`), and the model is left as it was.  With `keep` the model really
    runs, and in training mode its statistics move.  Call `.train()` or `.eval()` first.

    The classes' `__call__` is replaced for that long: one thread at a time.

    >>> from jaxnets.models import create_model
    >>> image = jax.ShapeDtypeStruct((1, 32, 32, 3), "float32")
    >>> calls = record_calls(create_model("se_resnet", num_channels=16), image)
    >>> {call.name: call.output for call in calls}["linear"]
    (1, 10)
    """
    calls: list[Call] = []
    if keep:
        with _recording(model, calls, keep=True):
            model(x)
        return calls
    graphdef, state = nnx.split(model)

    def run(state, x):
        copy = nnx.merge(graphdef, state)
        with _recording(copy, calls, keep=False):
            copy(x)

    jax.eval_shape(run, state, x)
    # The copy's attributes are sorted, so a module with two names may go by the other one there.
    modules, names = dict(named_modules(model)), _names(model)
    originals = [modules[call.name] for call in calls]
    return [c._replace(name=names[id(m)], module=m) for c, m in zip(calls, originals, strict=True)]


def named_modules(model: nnx.Module, name: str = "") -> Iterator[tuple[str, nnx.Module]]:
    """Every module under `model`, itself first, with its dotted name, in order of definition."""
    yield name, model
    for key, value in vars(model).items():
        if isinstance(value, nnx.Module):
            yield from named_modules(value, f"{name}.{key}" if name else key)


def _names(model: nnx.Module) -> dict[int, str]:
    """The first name of each module, by its id."""
    names: dict[int, str] = {}
    for name, module in named_modules(model):
        names.setdefault(id(module), name)
    return names


@contextlib.contextmanager
def _recording(model: nnx.Module, calls: list[Call], *, keep: bool) -> Iterator[None]:
    names = _names(model)
    classes = {type(module) for _, module in named_modules(model)}
    # Not getattr(): it would find the metaclass's, for a class that has none.
    found = {cls: [vars(c).get("__call__") for c in cls.__mro__] for cls in classes}
    # All are read before any is replaced: a class may inherit its own from another one here.
    originals = {cls: next(filter(None, methods)) for cls, methods in found.items() if any(methods)}

    def wrap(cls, original):
        @functools.wraps(original)
        def call(self, *args, **kwargs):
            out = original(self, *args, **kwargs)
            # A subclass that calls super().__call__ passes here twice, and counts once.
            if type(self) is cls and id(self) in names:
                shapes = tuple(a.shape for a in args if hasattr(a, "shape"))
                calls.append(Call(names[id(self)], self, shapes, out.shape, out if keep else None))
            return out

        return call

    try:
        for cls, original in originals.items():
            cls.__call__ = wrap(cls, original)
        yield
    finally:
        for cls, original in originals.items():
            if found[cls][0] is None:
                del cls.__call__
            else:
                cls.__call__ = original
