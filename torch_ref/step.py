"""One step of training and the evaluation of the PyTorch twin."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel

from jaxnets.augment.options import Mix
from jaxnets.config import PARAM_DTYPES
from jaxnets.config.averaging import Averaging
from jaxnets.config.loss_scale import LEAST
from torch_ref import averaging, mix, threefry
from torch_ref.augment import Augment, augment_key, normalize
from torch_ref.optim import Optimizer

# Keeps the dropout masks apart from the augmentation.
_DROPOUT_STREAM = 1


def param_dtype(dtype: str) -> torch.dtype:
    """Of the parameters, where `dtype` is that of the computation."""
    return getattr(torch, PARAM_DTYPES[dtype])


class Task(NamedTuple):
    """A network in training: what it is, how it learns, and what its images go through."""

    net: nn.Module
    """Channels last, on `device`."""
    optimizer: Optimizer
    augment: Augment
    mean: Sequence[float]
    std: Sequence[float]
    dtype: str
    """Of the computation: float32, float64, or bfloat16 or float16 by autocast."""
    device: torch.device
    label_smoothing: float
    seed: int
    batch_size: int
    steps_per_epoch: int
    averaging: Averaging | None = None
    averages: Mapping[str, AveragedModel] = {}
    """Of the weights, by kind."""
    fixed_norms: Sequence[nn.Module] = ()
    """BatchNorm layers that keep their running statistics, and use them in training too."""
    mix: Mix | None = None
    scaler: torch.amp.GradScaler = torch.amp.GradScaler("cpu", enabled=False)
    """Of the loss; enabled with float16 alone."""


class Totals(NamedTuple):
    """Sums over the images seen so far, float64: they stay on the device until somebody asks."""

    loss: Tensor | float = 0.0
    correct: Tensor | float = 0.0
    images: float = 0.0
    grad_norm: Tensor | float = 0.0
    """Summed over steps, before clipping; divide by `steps`.  0 of a step that overflowed."""
    steps: float = 0.0

    def __add__(self, other: "Totals") -> "Totals":
        return Totals(*(a + b for a, b in zip(self, other, strict=True)))

    def read(self) -> "Totals":
        """As plain numbers; waits for the steps before."""
        return Totals(*map(float, self))


class Evaluation(NamedTuple):
    """Means over a split."""

    loss: float
    accuracy: float


def train_step(task: Task, step: int, images: Tensor, labels: Tensor) -> Totals:
    """Step `step` (from 0) on its batch, uint8 (n, H, W, 3) and int64 (n,), both on the CPU.

    All its randomness follows from (seed, step), so that a resumed run draws the same; that of the
    augmentation is `jaxnets`' own, that of dropout is not.
    """
    images = task.augment(augment_key(task.seed, step), images)
    labels = labels.to(task.device)
    task.net.train()
    for norm in task.fixed_norms:
        norm.eval()
    torch.manual_seed(_dropout_seed(task.seed, step))
    drawn = None
    if task.mix is not None:
        shape = (len(labels), Mix.columns)
        u = torch.as_tensor(threefry.uniform(mix.mix_key(task.seed, step), shape))
        u = u if task.mix.per_image else u[:1].expand_as(u)
        drawn = mix.draw(task.mix, u, *images.shape[1:3])
    logits = _logits(task, images, drawn)
    wanted = labels
    if drawn is not None:
        wanted = mix.targets(labels, drawn, logits.shape[1]).to(logits.dtype)
        weight = drawn.weight.to(labels.device)
        labels = torch.where(weight < 0.5, labels.roll(1), labels)  # accuracy is against these
    loss = F.cross_entropy(logits, wanted, label_smoothing=task.label_smoothing)
    optimizer, scaler = task.optimizer, task.scaler
    optimizer.zero_grad()
    scaler.scale(loss).backward()
    scaler.unscale_(optimizer)
    grads = [p.grad for p in task.net.parameters() if p.grad is not None]
    norm, updates = torch.nn.utils.get_total_norm(grads), optimizer.count
    scaler.step(optimizer)
    if optimizer.count == updates and scaler.get_scale() >= LEAST:
        norm = torch.zeros_like(norm)
    scaler.update()
    averaging.follow(task.averaging, task.averages, step + 1, task.net)
    return Totals(
        loss=loss.detach().double() * len(labels),
        correct=(logits.argmax(1) == labels).sum(),
        images=float(len(labels)),
        grad_norm=norm.double(),
        steps=1.0,
    )


@torch.no_grad()
def evaluate(
    task: Task,
    images: Tensor,
    labels: Tensor,
    batch_size: int,
    stopped: Callable[[], bool] = lambda: False,
) -> Evaluation | None:
    """Loss (without label smoothing) and accuracy (0..1) on uint8 (N, H, W, 3) and int64 (N,).

    `stopped` is asked between batches; once it says so the evaluation is given up: None.
    """
    task.net.eval()
    loss = correct = 0.0
    batches = zip(images.split(batch_size), labels.split(batch_size), strict=True)
    for i, (some, wanted) in enumerate(batches):
        if i and stopped():
            return None
        logits, wanted = _logits(task, some), wanted.to(task.device)
        loss += F.cross_entropy(logits, wanted, reduction="sum").double()
        correct += (logits.argmax(1) == wanted).sum()
    return Evaluation(float(loss) / len(labels), float(correct) / len(labels))


def _logits(task: Task, images: Tensor, drawn: mix.Drawn | None = None) -> Tensor:
    """(n, K), float32 at least, of uint8 images (n, H, W, 3), mixed if so drawn."""
    with autocast(task):
        return task.net(inputs(task, images, drawn)).to(param_dtype(task.dtype))


def autocast(task: Task) -> torch.autocast:
    """Within it the network computes in the task's dtype."""
    lower = PARAM_DTYPES[task.dtype] != task.dtype
    dtype = getattr(torch, task.dtype) if lower else None
    return torch.autocast(task.device.type, dtype, enabled=lower)


def inputs(task: Task, images: Tensor, drawn: mix.Drawn | None = None) -> Tensor:
    """What the network takes, (n, 3, H, W) channels last, of uint8 images (n, H, W, 3)."""
    found = normalize(images, task.mean, task.std, param_dtype(task.dtype))
    found = found if drawn is None else mix.apply(found, drawn)
    # NHWC in memory already: seen as NCHW it is channels last.
    return found.permute(0, 3, 1, 2).to(task.device)


def _dropout_seed(seed: int, step: int) -> int:
    key = threefry.fold_in(threefry.fold_in(threefry.key(seed), _DROPOUT_STREAM), step)
    # Hashed, because torch's generator on the CPU takes in the lower 32 bits alone.
    return int(key[0]) << 32 | int(key[1])
