"""One step of training and one of evaluation, as pure functions for jit."""

from collections.abc import Collection
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxnets import optim
from jaxnets.augment import mix
from jaxnets.augment.options import Mix
from jaxnets.augment.pipeline import Augment, augment_key, normalize
from jaxnets.config.averaging import Averaging
from jaxnets.devices.layout import Layout
from jaxnets.models.functional import Arrays, Network
from jaxnets.optim import Optimizer, loss_scale
from jaxnets.optim import averaging as averages

# Keeps the keys of the dropout masks apart from those of the augmentation.
_DROPOUT_STREAM = 1


class TrainState(NamedTuple):
    """All that training changes."""

    step: jax.Array
    """int32, optimizer steps done."""
    params: Arrays
    stats: Arrays
    """BatchNorm's running statistics."""
    opt_state: optax.OptState

    @property
    def scaling(self) -> dict[str, float]:
        """What dynamic loss scaling has come to, loss_scale and overflowed_steps; empty without."""
        return loss_scale.figures(averages.inner_state(self.opt_state))

    @property
    def updates(self) -> int:
        """The steps but those that overflowed: the position of the schedule."""
        return int(self.step) - self.scaling.get("overflowed_steps", 0)


class Totals(NamedTuple):
    """Sums over the images seen so far: they stay on the device until somebody asks."""

    loss: jax.Array
    correct: jax.Array
    images: jax.Array
    grad_norm: jax.Array
    """Summed over steps, before clipping; divide by `steps`.  0 of a step that overflowed."""
    steps: jax.Array

    @staticmethod
    def zero() -> "Totals":
        return Totals(*(jnp.zeros((), jnp.float32) for _ in Totals._fields))

    def __add__(self, other: "Totals") -> "Totals":
        return Totals(*(a + b.astype(a.dtype) for a, b in zip(self, other, strict=True)))


def init_state(
    params: Arrays,
    stats: Arrays,
    tx: optax.GradientTransformation,
    frozen: Collection[str] = (),
    averaging: Averaging | None = None,
) -> TrainState:
    """The state before the first step; it owns copies, so that it may be donated.

    The optimizer keeps nothing of the parameters that are `frozen`.
    """
    params, stats = jax.tree.map(jnp.array, (params, stats))
    trained = {name: value for name, value in params.items() if name not in frozen}
    opt_state = averages.begin(averaging, trained, stats, tx.init(trained))
    return TrainState(jnp.zeros((), jnp.int32), params, stats, opt_state)


def cross_entropy(logits: jax.Array, labels: jax.Array, label_smoothing: float = 0.0) -> jax.Array:
    """PyTorch's CrossEntropyLoss per image: logits (N, K), labels (N,) int -> (N,).

    -sum_k q_k log softmax(logits)_k  with  q = (1 - e) on the label + e / K everywhere.
    """
    log_p = jax.nn.log_softmax(logits.astype(jnp.promote_types(logits.dtype, jnp.float32)))
    target = jnp.take_along_axis(log_p, labels[:, None], axis=1)[:, 0]
    loss = -(1 - label_smoothing) * target
    # Without smoothing another class's logit may be -Inf: its product with 0 would be NaN.
    return loss - label_smoothing * log_p.mean(1) if label_smoothing else loss


def dropout_key(seed: int, step: jax.Array) -> jax.Array:
    """The key of a step's dropout masks: a resumed run draws the same ones."""
    key = jax.random.fold_in(jax.random.key(seed), _DROPOUT_STREAM)
    return jax.random.fold_in(key, step)


def update(
    network: Network,
    tx: optax.GradientTransformation,
    state: TrainState,
    images: jax.Array,
    labels: jax.Array,
    *,
    key: jax.Array | None = None,
    label_smoothing: float = 0.0,
    size: int | None = None,
    mask: jax.Array | None = None,
    axis_name: str | None = None,
    averaging: Averaging | None = None,
    pairs: tuple[jax.Array, jax.Array] | None = None,
) -> tuple[TrainState, Totals]:
    """One optimizer step on normalised images (N, H, W, C) and labels (N,) int32.

    The loss is the mean over the batch, so a smaller last batch weighs as one step, as in PyTorch.

    Args:
        key: of the dropout masks.
        size, mask, axis_name: of a batch that is padded or cut over devices: how many images it
            has in all, which rows here are images, and the mapped axis over all its devices.
        averaging: what `init_state` was given.
        pairs: of mixed images, the labels (N,) of what was mixed in, and the weight (N,) of their
            own.  Accuracy is that against the label of greater weight.
    """
    size = labels.shape[0] if size is None else size
    valid = jnp.ones(labels.shape, bool) if mask is None else mask
    trained = network.trained(state.params)
    before = averages.inner_state(state.opt_state)

    def loss_fn(trained: Arrays):
        logits, stats = network.apply(
            state.params | trained,
            state.stats,
            images,
            train=True,
            key=key,
            axis_name=axis_name,
            mask=mask,
        )
        losses = cross_entropy(logits, labels, label_smoothing)
        if pairs is not None:
            weight = pairs[1].astype(losses.dtype)
            losses = weight * losses
            losses += (1 - weight) * cross_entropy(logits, pairs[0], label_smoothing)
        loss = jnp.where(valid, losses, 0).sum() / size
        return loss_scale.scaled(before, loss), (loss, logits, stats)

    grads, (loss, logits, stats) = jax.grad(loss_fn, has_aux=True)(trained)
    wanted = labels if pairs is None else jnp.where(pairs[1] < 0.5, pairs[0], labels)
    correct = ((logits.argmax(1) == wanted) & valid).sum()
    if axis_name is not None:
        loss, correct, grads = jax.lax.psum((loss, correct, grads), axis_name)
    grads = loss_scale.unscaled(before, grads)
    updates, opt_state = tx.update(grads, before, trained)
    grad_norm = loss_scale.logged_norm(before, opt_state, optax.tree.norm(grads))
    # PyTorch gives a parameter that nothing reads no gradient, so not even decay changes it.
    updates = {
        name: jnp.zeros_like(u) if name.startswith(network.unused) else u
        for name, u in updates.items()
    }
    trained = optax.apply_updates(trained, updates)
    if averaging is not None:
        kept = averages.averages_of(state.opt_state)
        kept = averages.follow(averaging, kept, state.step + 1, trained, stats)
        opt_state = averages.AveragedState(kept, opt_state)
    totals = Totals(
        loss=loss * size,
        correct=correct,
        images=jnp.float32(size),
        grad_norm=grad_norm,
        steps=jnp.float32(1),
    )
    return TrainState(state.step + 1, state.params | trained, stats, opt_state), totals


class Task(NamedTuple):
    """What a run trains on and how, besides its state: all static."""

    network: Network
    optimizer: Optimizer
    augment: Augment
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    dtype: str
    label_smoothing: float
    seed: int
    batch_size: int
    steps_per_epoch: int
    layout: Layout
    averaging: Averaging | None = None
    mix: Mix | None = None


def train_step(
    task: Task,
    state: TrainState,
    totals: Totals,
    images: jax.Array,
    labels: jax.Array,
    order: jax.Array,
    *,
    size: int,
) -> tuple[TrainState, Totals]:
    """The step that `state.step` says: takes its batch out of the data, augments, updates.

    Args:
        images, labels: the whole training set, uint8 (M, H, W, 3) and int32 (M,), on the device;
            the images as `Layout.cut` keeps them.
        order: int32 (M,), this epoch's order.
        size: of the batch; `task.batch_size`, or what is left for the epoch's last one.
    """
    layout = task.layout
    start = state.step % task.steps_per_epoch * task.batch_size
    rows = jax.lax.dynamic_slice(order, (start,), (size,))
    mask = None
    if size % layout.size:
        padded = jnp.arange(size + -size % layout.size)
        mask, rows = layout.local_slice(padded < size), rows[padded % size]
    # The numbers that augment an image are drawn for the whole batch, so that they do not depend
    # on how it is cut.
    u = jax.random.uniform(
        augment_key(task.seed, state.step), (len(rows), task.augment.size), jnp.float32
    )
    every = rows
    rows, u = layout.local_slice(rows), layout.local_slice(u)
    batch = layout.gather(images, rows)
    batch = task.augment.apply(batch, task.augment.draw(u, *batch.shape[1:3]))
    inputs, pairs = normalize(batch, task.mean, task.std, jnp.dtype(task.dtype)), None
    if task.mix is not None:
        inputs, pairs = _mixed(task, state.step, inputs, labels[every], size)
    state, new = update(
        task.network,
        task.optimizer.tx,
        state,
        inputs,
        labels[rows],
        key=dropout_key(task.seed, state.step),
        label_smoothing=task.label_smoothing,
        size=size,
        mask=mask,
        axis_name=layout.axis_name,
        averaging=task.averaging,
        pairs=pairs,
    )
    return state, totals + new


def _mixed(
    task: Task, step: jax.Array, images: jax.Array, labels: jax.Array, size: int
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    """This device's images mixed, the labels of what was mixed in, and the weights of their own.

    Args:
        labels: of the whole batch, which may be longer than its `size` images.
    """
    layout, count = task.layout, len(labels)
    u = jax.random.uniform(mix.mix_key(task.seed, step), (count, Mix.columns), jnp.float32)
    u = u if task.mix.per_image else jnp.broadcast_to(u[:1], u.shape)
    drawn = mix.draw(task.mix, layout.local_slice(u), *images.shape[1:3])
    before = layout.local_slice((jnp.arange(count) - 1) % size)
    whole = images
    if layout.axis_name is not None:
        whole = jax.lax.all_gather(images, layout.axis_name, tiled=True)
    return mix.apply(images, whole[before], drawn), (labels[before], drawn.weight)


def train_steps(
    task: Task,
    state: TrainState,
    totals: Totals,
    images: jax.Array,
    labels: jax.Array,
    order: jax.Array,
    count: jax.Array,
) -> tuple[TrainState, Totals, jax.Array]:
    """`count` times `train_step`, each on a full batch, in one program.

    How many is not known to the compiler: one program does for any number, so that the numbers do
    not depend on how an epoch is cut into calls.

    Also returns, float32 (steps an epoch,), the sum of losses and gradient norms after each step:
    the first one that is not finite says where it went wrong.
    """

    def step(i: jax.Array, carry: tuple[TrainState, Totals, jax.Array]):
        state, totals, health = carry
        state, totals = train_step(task, state, totals, images, labels, order, size=task.batch_size)
        return state, totals, health.at[i].set(totals.loss + totals.grad_norm)

    health = jnp.zeros(task.steps_per_epoch, jnp.float32)
    return jax.lax.fori_loop(0, count, step, (state, totals, health))


def advance(state: TrainState, steps: int) -> TrainState:
    """The state with `steps` batches left out: schedules and data go on, weights stay."""
    return state._replace(step=state.step + steps, opt_state=optim.advance(state.opt_state, steps))


def predict(task: Task, params: Arrays, stats: Arrays, images: jax.Array) -> jax.Array:
    """Logits (N, K) of uint8 images (N, H, W, 3) in evaluation mode."""
    images = normalize(images, task.mean, task.std, jnp.dtype(task.dtype))
    return task.network.apply(params, stats, images, train=False)[0]


def eval_step(
    task: Task,
    params: Arrays,
    stats: Arrays,
    images: jax.Array,
    labels: jax.Array,
    mask: jax.Array,
) -> tuple[Totals, jax.Array]:
    """Sums over one batch of test images, uint8 (N, H, W, 3), and its logits (N, K).

    `mask` (N,) is 0 for rows that only fill up the batch.  The loss has no label smoothing, so that
    it compares across recipes.
    """
    logits = predict(task, params, stats, images)
    zero = jnp.zeros((), jnp.float32)
    totals = Totals(
        loss=(cross_entropy(logits, labels) * mask).sum(),
        correct=((logits.argmax(1) == labels) * mask).sum(),
        images=mask.sum(),
        grad_norm=zero,
        steps=zero,
    )
    return totals, logits
