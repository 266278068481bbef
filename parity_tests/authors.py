"""The documents' recipes as their authors would write them: plain torch, numbers typed in.

Nothing here reads a configuration of the project, nor its optimizers, schedules, losses or
normalisation. Of `torch_ref` come the networks and the augmentations' pixels, which other tests
hold to figures from outside and to Pillow.
"""

from collections.abc import Callable, Iterable, Sequence
from types import SimpleNamespace as Options
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    CosineAnnealingWarmRestarts,
    LinearLR,
    MultiStepLR,
    OneCycleLR,
    SequentialLR,
)
from torch.optim.swa_utils import AveragedModel

from jaxnets.augment.options import Mix
from torch_ref import mix, threefry
from torch_ref.augment import augment_key, make_augment

Scheduler = Callable[[torch.optim.Optimizer, int, int], Any]


class Lookahead:
    """Zhang et al. 2019, Algorithm 1, around any optimizer."""

    def __init__(self, optimizer: torch.optim.Optimizer, k: int, alpha: float):
        self.optimizer, self.k, self.alpha, self.inner_steps = optimizer, k, alpha, 0
        self.fast = [p for group in optimizer.param_groups for p in group["params"]]
        self.slow = [p.detach().clone() for p in self.fast]

    @torch.no_grad()
    def step(self) -> None:
        self.optimizer.step()
        self.inner_steps += 1
        if self.inner_steps == self.k:
            self.inner_steps = 0
            for fast, slow in zip(self.fast, self.slow, strict=True):
                slow += self.alpha * (fast - slow)
                fast.copy_(slow)


class Recipe(NamedTuple):
    """One document's training."""

    model: str
    options: dict[str, Any]
    """Of the network, but for its width."""
    optimizer: Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]
    scheduler: Scheduler
    """Of the optimizer, the epochs and the steps of one epoch."""
    per: str
    """What the scheduler steps after: epoch, step."""
    batch_size: int
    epochs: int
    augment: Options
    mean: Sequence[float]
    std: Sequence[float]
    lookahead: bool = False
    clip: float | None = None
    smoothing: float = 0.0
    anew: bool = False
    """The scheduler is made again at the start of every epoch."""
    mix: str | None = None
    """cutmix or mixup of half of the batches, lambda uniform."""
    average: float | None = None
    """The decay of an exponential average of the weights, which then is evaluated."""


def normalized(recipe: Recipe, images: Tensor) -> Tensor:
    """uint8 (n, 32, 32, 3) -> float64 (n, 3, 32, 32), ToTensor() and Normalize(mean, std)."""
    x = images.permute(0, 3, 1, 2).double() / 255
    mean, std = (torch.tensor(v, dtype=torch.float64) for v in (recipe.mean, recipe.std))
    return (x - mean[:, None, None]) / std[:, None, None]


def train(
    recipe: Recipe,
    net: nn.Module,
    epochs: Sequence[Sequence[tuple[Tensor, Tensor]]],
    classes: int,
) -> tuple[list[dict[str, float]], nn.Module]:
    """Trains on the uint8 batches of each epoch.

    Returns what a log says of each epoch, and the network to evaluate.
    """
    steps = len(epochs[0])
    augment = make_augment(recipe.augment)
    criterion = nn.CrossEntropyLoss(label_smoothing=recipe.smoothing)
    fast = recipe.optimizer(net.parameters())
    optimizer = Lookahead(fast, k=5, alpha=0.5) if recipe.lookahead else fast
    scheduler = recipe.scheduler(fast, len(epochs), steps)
    average = averaged(net, recipe.average) if recipe.average else None
    rows, step = [], 0
    for epoch, batches in enumerate(epochs):
        if recipe.anew and epoch > 0:
            scheduler = recipe.scheduler(fast, len(epochs), steps)
        losses = correct = images_seen = norms = 0.0
        net.train()
        for images, labels in batches:
            x, wanted = normalized(recipe, augment(augment_key(0, step), images)), labels
            if recipe.mix is not None:
                x, wanted, labels = mixed(recipe.mix, step, x, labels, classes)
            fast.zero_grad()
            logits = net(x)
            loss = criterion(logits, wanted)
            loss.backward()
            gradients = [p.grad.flatten() for p in net.parameters() if p.grad is not None]
            norms += torch.cat(gradients).norm().item()
            if recipe.clip is not None:
                nn.utils.clip_grad_value_(net.parameters(), recipe.clip)
            lr = fast.param_groups[0]["lr"]
            optimizer.step()
            if average is not None:
                average.update_parameters(net)
            if recipe.per == "step":
                scheduler.step()
            losses += loss.item() * len(labels)
            correct += (logits.argmax(1) == labels).sum().item()
            images_seen += len(labels)
            step += 1
        if recipe.per == "epoch":
            scheduler.step()
        row = {"lr": lr, "train/loss": losses / images_seen, "grad_norm": norms / steps}
        rows.append(row | {"train/accuracy": correct / images_seen})
    return rows, net if average is None else average.module


def averaged(net: nn.Module, decay: float) -> AveragedModel:
    """Its exponential average, BatchNorm's statistics too; the first weights weigh less."""

    def mean(old: Tensor, new: Tensor, n: Tensor) -> Tensor:
        d = min(decay, (1 + int(n)) / (10 + int(n)))
        return d * old + (1 - d) * new if new.is_floating_point() else new

    return AveragedModel(net, avg_fn=mean, use_buffers=True)


def mixed(kind: str, step: int, x: Tensor, labels: Tensor, classes: int) -> tuple[Tensor, ...]:
    """A batch (n, 3, H, W) mixed, the probabilities to learn, and the labels that weigh most."""
    u = torch.as_tensor(threefry.uniform(mix.mix_key(0, step), (len(x), 5)))[:1].expand(len(x), 5)
    drawn = mix.draw(Mix(kind, alpha=1.0, p=0.5, per_image=False), u, *x.shape[2:])
    x = mix.apply(x.permute(0, 2, 3, 1), drawn).permute(0, 3, 1, 2)
    likeliest = torch.where(drawn.weight < 0.5, labels.roll(1), labels)
    return x, mix.targets(labels, drawn, classes), likeliest


def rates(recipe: Recipe, steps: int) -> list[tuple[float, float]]:
    """Learning rate, and momentum or beta1, of every step of the whole run."""
    optimizer = recipe.optimizer([nn.Parameter(torch.zeros(1))])
    scheduler = recipe.scheduler(optimizer, recipe.epochs, steps)
    found = []
    for epoch in range(recipe.epochs):
        if recipe.anew and epoch > 0:
            scheduler = recipe.scheduler(optimizer, recipe.epochs, steps)
        for _ in range(steps):
            (group,) = optimizer.param_groups
            found.append(
                (group["lr"], group["betas"][0] if "betas" in group else group["momentum"])
            )
            optimizer.step()
            if recipe.per == "step":
                scheduler.step()
        if recipe.per == "epoch":
            scheduler.step()
    return found


def sgd(lr: float, weight_decay: float = 5e-4, nesterov: bool = False) -> Callable:
    return lambda p: SGD(p, lr=lr, momentum=0.9, weight_decay=weight_decay, nesterov=nesterov)


def adamw(lr: float, weight_decay: float) -> Callable:
    return lambda p: AdamW(p, lr=lr, weight_decay=weight_decay)


def one_cycle(max_lr: float, planned: int | None = None, **options: Any) -> Scheduler:
    """Over the run, or over `planned` epochs."""
    return lambda optimizer, epochs, steps: OneCycleLR(
        optimizer, max_lr, epochs=planned or epochs, steps_per_epoch=steps, **options
    )


def warm_cosine(optimizer: torch.optim.Optimizer, epochs: int, steps: int) -> Any:
    """Up from a hundredth in five epochs, or half of them, then down to 0; by steps."""
    warm = int(min(5, epochs / 2) * steps)
    rise = LinearLR(optimizer, start_factor=0.01, total_iters=warm)
    fall = CosineAnnealingLR(optimizer, epochs * steps - warm)
    return SequentialLR(optimizer, [rise, fall], [warm])


FLIP = Options(p=0.5)
CROP_AND_FLIP = Options(ops=("crop", "flip"), crop=Options(padding=4), flip=FLIP)
S3_AUGMENT = Options(
    ops=("random_resized_crop", "rotation", "crop", "flip", "jitter"),
    random_resized_crop=Options(scale=(0.95, 1.0), ratio=(0.9, 1.1)),
    rotation=Options(degrees=10),
    crop=Options(padding=2),
    flip=FLIP,
    jitter=Options(brightness=0.1, contrast=0.1, saturation=0.1, hue=0.1),
)
S1_AS_RUN_AUGMENT = Options(
    ops=("crop", "flip", "auto_augment", "erasing"),
    crop=Options(padding=4),
    flip=FLIP,
    auto_augment=Options(policy="imagenet"),
    erasing=Options(p=0.5, scale=(0.02, 0.33), ratio=(0.3, 3.3)),
)
S0_AUGMENT = Options(
    ops=("crop", "flip", "jitter"),
    crop=Options(padding=4),
    flip=FLIP,
    jitter=Options(brightness=0.2, contrast=0.2, saturation=0.2, hue=0.1),
)
FAST_AUGMENT = Options(
    ops=("crop", "flip", "erasing"),
    crop=Options(padding=4),
    flip=FLIP,
    erasing=Options(p=0.5, scale=(0.02, 0.1), ratio=(0.3, 3.3)),
)
BEST_AUGMENT = Options(
    ops=("crop", "flip", "auto_augment"),
    crop=Options(padding=4),
    flip=FLIP,
    auto_augment=Options(policy="cifar10"),
)

S3_BASIC = Recipe(
    "se_resnet", {"se": "stem", "drop": 0.0},
    sgd(0.1), lambda o, epochs, _: CosineAnnealingLR(o, epochs, eta_min=0.001), "epoch", 128, 200,
    S3_AUGMENT, (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010), lookahead=True, clip=0.1,
)  # fmt: skip
S2 = Recipe(
    "se_resnet", {"se": "stem", "drop": 0.2},
    sgd(0.1), lambda o, epochs, _: CosineAnnealingLR(o, epochs, eta_min=0), "epoch", 128, 300,
    CROP_AND_FLIP, (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010), lookahead=True,
)  # fmt: skip
S3_DENSE = Recipe(
    "dense_se_resnet", {"share": "third", "drop": 0.0},
    sgd(0.01, nesterov=True), lambda o, *_: MultiStepLR(o, [85, 110, 135, 160, 185], 0.1),
    "epoch", 128, 200,
    S3_AUGMENT, (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010), clip=0.1,
)  # fmt: skip
S1 = Recipe(
    "mish_se_resnet18", {"drop": 0.5},
    sgd(0.05, 1e-3), lambda o, *_: CosineAnnealingWarmRestarts(o, 10, 2), "epoch", 512, 200,
    CROP_AND_FLIP, (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616), smoothing=0.1,
)  # fmt: skip
S0_V1 = Recipe(
    "cifar100_v1", {"drop": 0.3}, sgd(0.001), one_cycle(0.1), "step", 32, 50,
    S0_AUGMENT, (0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761), smoothing=0.1,
)  # fmt: skip
S0_V2 = S0_V1._replace(model="cifar100_v2")
S0_V3 = S0_V1._replace(model="cifar100_v3", optimizer=adamw(0.01, 0.01), scheduler=one_cycle(0.01))
S0_V4 = S0_V3._replace(model="cifar100_v4", options={"drop": 0.3, "conv_drop": 0.2})
S0_V5 = S0_V4._replace(
    model="cifar100_v5", options={"drop": 0.3, "conv_drop": 0.2, "residual": True}
)
S0_V5_AS_RUN = {"drop": 0.3, "conv_drop": 0.2, "residual": False}
# Those of the project itself.
RESNET18 = Recipe(
    "resnet18", {"drop": 0.0},
    sgd(0.1), lambda o, epochs, _: CosineAnnealingLR(o, epochs), "epoch", 128, 200,
    CROP_AND_FLIP, (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010),
)  # fmt: skip
FAST = one_cycle(0.4, pct_start=0.25, cycle_momentum=False)
SMALL = one_cycle(0.2, pct_start=0.2, cycle_momentum=False)
BEST = {"scheduler": warm_cosine, "per": "step", "mix": "cutmix", "average": 0.999}
BEST |= {"batch_size": 128, "lookahead": False, "smoothing": 0.0, "augment": BEST_AUGMENT}
BEST_V = BEST | {"optimizer": sgd(0.1, nesterov=True), "epochs": 200}
V5_FAST = one_cycle(0.2, pct_start=0.25, cycle_momentum=False)

RECIPES = {
    "se_resnet:documented": S3_BASIC,
    "se_resnet_drop:documented": S2,
    "se_resnet_drop:as_run": S2._replace(
        options={"se": "none", "drop": 0.0}, scheduler=lambda o, *_: CosineAnnealingLR(o, 200)
    ),
    "dense_se_resnet:documented": S3_DENSE,
    "dense_se_resnet:as_run": S3_DENSE._replace(
        scheduler=lambda o, *_: MultiStepLR(o, [60, 85, 100], 0.1), epochs=110
    ),
    "mish_se_resnet18:documented": S1,
    "mish_se_resnet18:as_run": S1._replace(
        optimizer=sgd(0.05, 1e-4), batch_size=256, epochs=192, augment=S1_AS_RUN_AUGMENT
    ),
    "cifar100:v1": S0_V1,
    "cifar100:v2": S0_V2,
    "cifar100:v3": S0_V3,
    "cifar100:v4": S0_V4,
    "cifar100:v5": S0_V5,
    "cifar100:v1_as_run": S0_V1._replace(scheduler=one_cycle(0.1, planned=70), epochs=46),
    "cifar100:v2_as_run": S0_V2._replace(
        scheduler=one_cycle(0.1, planned=50), anew=True, smoothing=0.0
    ),
    "cifar100:v3_as_run": S0_V3._replace(scheduler=one_cycle(0.1, planned=50), anew=True),
    "cifar100:v4_as_run": S0_V4._replace(scheduler=one_cycle(0.1, planned=50), anew=True),
    "cifar100:v5_as_run": S0_V5._replace(
        options=S0_V5_AS_RUN, scheduler=one_cycle(0.1, planned=50), anew=True, epochs=14
    ),
    "resnet18:documented": RESNET18,
    "se_resnet_fast:documented": S3_BASIC._replace(
        optimizer=sgd(0.1, nesterov=True), scheduler=FAST, per="step", batch_size=512, epochs=35,
        augment=FAST_AUGMENT, lookahead=False, clip=None, smoothing=0.1,
    ),
    "se_resnet_small:documented": S3_BASIC._replace(
        options={"se": "stem", "drop": 0.0, "num_channels": 16}, optimizer=sgd(0.1, nesterov=True),
        scheduler=SMALL, per="step", epochs=30, augment=CROP_AND_FLIP, lookahead=False, clip=None,
    ),
    "cifar100_fast:documented": S0_V5._replace(
        optimizer=sgd(0.1, nesterov=True), scheduler=V5_FAST, batch_size=512, epochs=40,
        augment=CROP_AND_FLIP,
    ),
    "se_resnet_best:documented": S3_BASIC._replace(
        **BEST, optimizer=sgd(0.1, nesterov=True), epochs=300, clip=None
    ),
    "mish_best:documented": S1._replace(
        **BEST, options={"drop": 0.2}, optimizer=sgd(0.1, nesterov=True), epochs=300
    ),
    "dense_best:documented": S3_DENSE._replace(**BEST, optimizer=sgd(0.05, nesterov=True)),
    "cifar100_best:v1": S0_V1._replace(
        **BEST_V | {"mix": "mixup", "optimizer": sgd(0.05, nesterov=True)}
    ),
    "cifar100_best:v2": S0_V2._replace(**BEST_V, options={"drop": 0.1}),
    "cifar100_best:v3": S0_V3._replace(**BEST_V, options={"drop": 0.1}),
    "cifar100_best:v4": S0_V4._replace(**BEST_V, options={"drop": 0.1, "conv_drop": 0.0}),
    "cifar100_best:v5": S0_V5._replace(
        **BEST_V, options={"drop": 0.1, "conv_drop": 0.0, "residual": True}
    ),
}  # fmt: skip
