"""One training step over several devices: the numbers of one device, whatever their count.

Every device holds the weights, the optimizer's state and the data, and works on its share of each
batch.  A batch that the devices do not divide is filled up and masked: the fill counts neither in
the loss nor in BatchNorm's statistics.  Where the devices are those of several processes, each
holds a part of the images only, and they hand each other what a batch needs.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
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
    def many_processes(self) -> bool:
        """Whether some devices are those of other processes."""
        return any(d.process_index != self.devices[0].process_index for d in self.devices)

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

    def sharding(self, *spec: str | None) -> NamedSharding:
        """Of arrays on all devices: whole ones, or cut along the axes that `spec` names."""
        return NamedSharding(self.mesh, PartitionSpec(*spec))

    def replicate(self, tree: Any) -> Any:
        """Arrays that every device gets whole, as compiled steps take and return them.

        Those that already lie on the devices of several processes stay as they are.
        """
        if self.kind == "pmap":
            return jax.tree.map(lambda x: jnp.stack([x] * self.size), tree)
        if self.many_processes:
            return jax.tree.map(self._put_on_all, tree)
        return jax.device_put(tree, self.sharding())

    def _put_on_all(self, array: Any, *spec: str) -> jax.Array:
        # Unlike device_put it does not first compare the array over all processes.
        if isinstance(array, jax.Array) and not array.is_fully_addressable:
            return array
        array = np.asarray(array)
        return jax.make_array_from_callback(
            array.shape, self.sharding(*spec), lambda part: np.array(array[part])
        )

    def shard(self, images: Any) -> Any:
        """What is kept of the rows of `images` (N, ...) for `gather`; None stays None.

        All of them; with several processes, each device keeps its N / devices of them (rounded up,
        the last ones filled up with zeros), as one array over all devices.
        """
        if images is None or not self.many_processes:
            return images
        fill = np.zeros((-len(images) % self.size, *images.shape[1:]), images.dtype)
        return self._put_on_all(np.concatenate([images, fill]), AXIS)

    def gather(self, images: jax.Array, rows: jax.Array) -> jax.Array:
        """images[rows] of what `shard` kept, while a step is traced.

        With several processes: rows are n integers, a multiple of the devices, and each device gets
        its n / devices images.  Every device gives those it has and zeros for the others, and
        the sum over the devices is scattered over them.
        """
        if not self.many_processes:
            return images[rows]

        def exchange(mine: jax.Array, rows: jax.Array) -> jax.Array:
            local = rows - jax.lax.axis_index(AXIS) * len(mine)
            here = (local >= 0) & (local < len(mine))
            given = jnp.where(here[:, None, None, None], mine[jnp.where(here, local, 0)], 0)
            return jax.lax.psum_scatter(given, AXIS, tiled=True)

        part, whole = PartitionSpec(AXIS), PartitionSpec()
        mapped = jax.shard_map(exchange, mesh=self.mesh, in_specs=(part, whole), out_specs=part)
        return mapped(images, rows)

    def unreplicate(self, tree: Any) -> Any:
        """One copy of what `replicate` spread, on this layout's mesh."""
        if self.kind == "pmap":
            tree = jax.tree.map(lambda x: x[0], tree)
            return jax.device_put(tree, self.sharding())
        return tree

    def local_slice(self, rows: jax.Array) -> jax.Array:
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

    "All" includes those of other processes, if this one trains together with others.

    Raises:
        UserError: an unknown kind, or a number of devices that this machine does not have.
    """
    if kind not in KINDS:
        raise unknown("config.parallel", kind, KINDS)
    found = jax.devices()
    count = len(found) if devices is None else devices
    if not 1 <= count <= len(found):
        raise UserError(f"config.devices={count}: from 1 to {len(found)}, the devices here")
    return Layout(kind, tuple(found[:count]))
