"""One training step over several devices: the numbers of one device, whatever their count.

Every device holds the weights, the optimizer's state and the data, and works on its share of each
batch.  A batch that the devices do not divide is filled up and masked: the fill counts neither in
the loss nor in BatchNorm's statistics.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxnets.errors import UserError, unknown

AXIS = "data"
KINDS = ("jit", "pmap")


class Layout(NamedTuple):
    """How a step is laid over devices.

    "jit": one program, sharded by the compiler over a mesh; "pmap": the same step mapped over the
    devices, kept for code that still needs it.
    """

    kind: str
    devices: tuple[jax.Device, ...]

    @property
    def size(self) -> int:
        """The number of devices."""
        return len(self.devices)

    @property
    def axis_name(self) -> str | None:
        """The mapped axis that collectives inside the step refer to; None under jit."""
        return AXIS if self.kind == "pmap" else None

    @property
    def mesh(self) -> Mesh:
        """All devices along one axis; the compiler decides how arrays inside the step are cut."""
        return jax.make_mesh(
            (self.size,), (AXIS,), axis_types=(AxisType.Auto,), devices=self.devices
        )

    def sharding(self, *spec: str) -> NamedSharding:
        """Of arrays on all devices: whole ones, or cut along the axes that `spec` names."""
        return NamedSharding(self.mesh, PartitionSpec(*spec))

    def put(self, tree: Any) -> Any:
        """Arrays that every device gets whole, as `compile`d steps take and return them."""
        if self.kind == "pmap":
            return jax.tree.map(lambda x: jnp.stack([x] * self.size), tree)
        return jax.device_put(tree, self.sharding())

    def take(self, tree: Any) -> Any:
        """One copy of what `put` spread, on this layout's mesh."""
        if self.kind == "pmap":
            tree = jax.tree.map(lambda x: x[0], tree)
            return jax.device_put(tree, self.sharding())
        return tree

    def compile(self, step: Callable, *args: Any, donate: int) -> Callable:
        """The compiled step for arguments like `args`; the first `donate` ones are donated."""
        donated = tuple(range(donate))
        if self.kind == "pmap":
            mapped = jax.pmap(step, AXIS, devices=self.devices, donate_argnums=donated)
        else:
            mapped = jax.jit(step, donate_argnums=donated, out_shardings=self.sharding())
        return mapped.lower(*args).compile()

    def my_share(self, rows: jax.Array) -> jax.Array:
        """This device's part of rows (n, ...), n a multiple of the devices, while a step is traced.

        Under jit that is all of them: the compiler cuts them.
        """
        if self.kind == "pmap":
            n = rows.shape[0] // self.size
            return jax.lax.dynamic_slice_in_dim(rows, jax.lax.axis_index(AXIS) * n, n)
        if self.size == 1:
            return rows
        return jax.lax.with_sharding_constraint(rows, self.sharding(AXIS))


def make_layout(kind: str = "jit", devices: int | None = None) -> Layout:
    """The layout of `config.parallel` over the first `config.devices` devices, or over all.

    Raises:
        UserError: an unknown kind, or a number of devices that this machine does not have.
    """
    if kind not in KINDS:
        raise unknown("config.parallel", kind, KINDS)
    found = jax.local_devices()
    count = len(found) if devices is None else devices
    if not 1 <= count <= len(found):
        raise UserError(f"config.devices={count}: from 1 to {len(found)}, the devices here")
    return Layout(kind, tuple(found[:count]))
