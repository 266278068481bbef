"""BatchNorm's statistics of averaged weights, by a pass over the training images."""

from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np

from jaxnets.augment.pipeline import normalize
from jaxnets.devices.layout import AXIS
from jaxnets.models.functional import Arrays
from jaxnets.optim import averaging as averages
from jaxnets.train.step import Task, TrainState


class Statistics:
    """Recomputes the statistics that an average of the weights is evaluated with.

    Each is the mean over batches of the training images, as they are: not augmented, in their
    order, without dropout.  `torch.optim.swa_utils.update_bn` does so, with dropout.

    images: uint8 (N, H, W, 3), as `Layout.shard` keeps them; count: N.
    """

    def __init__(self, task: Task, images: np.ndarray, count: int, batch_size: int):
        self._task, self._images, self._count = task, images, count
        layout = task.layout
        size = min(batch_size, count)
        self._size = size + -size % layout.size
        replicated = {"out_shardings": layout.sharding()} if layout.many_processes else {}
        self._step = jax.jit(self._add, **replicated)

    def _add(
        self, params: Arrays, sums: Arrays, k: jax.Array, images: jax.Array, rows: jax.Array
    ) -> Arrays:
        """The statistics of k batches and one more, of whose rows some only fill it up."""
        layout, count = self._task.layout, self._count
        mask = rows < count
        if layout.many_processes:
            images = layout.gather(images, jnp.minimum(rows, count - 1))
            mask = layout.local_slice(mask)
        images = normalize(images, self._task.mean, self._task.std, jnp.dtype(self._task.dtype))
        found = self._task.network.batch_statistics(params, sums, images, mask)

        def mean(old: jax.Array, new: jax.Array) -> jax.Array:
            return jnp.where(k == 0, new, old + (new - old) / jnp.asarray(k + 1, old.dtype))

        return {
            name: mean(old, found[name]) if jnp.issubdtype(old.dtype, jnp.floating) else old
            for name, old in sums.items()
        }

    def _batches(self) -> Iterator[tuple[jax.Array, jax.Array]]:
        layout, size = self._task.layout, self._size
        for start in range(0, self._count, size):
            rows = np.arange(start, start + size, dtype=np.int32)
            if layout.many_processes:
                yield self._images, layout.replicate(rows)
                continue
            images = self._images[start : start + size]
            fill = np.zeros((size - len(images), *images.shape[1:]), images.dtype)
            yield jax.device_put((np.concatenate([images, fill]), rows), layout.sharding(AXIS))

    def refreshed(
        self, kind: str, state: TrainState, stopped: Callable[[], bool] = lambda: False
    ) -> TrainState | None:
        """The state with the statistics of its average of that kind.

        An average that has not taken any weights keeps theirs.  `stopped` is asked between batches;
        once it says so the pass is given up: None.
        """
        kept = averages.averages_of(state.opt_state)
        average = kept[kind]
        if int(average.n_averaged) == 0:
            return state
        params, stats = state.params | average.params, average.stats
        for k, batch in enumerate(self._batches()):
            if k and stopped():
                return None
            stats = self._step(params, stats, np.int32(k), *batch)
        average = average._replace(stats=stats)
        return state._replace(opt_state=state.opt_state._replace(averages={**kept, kind: average}))
