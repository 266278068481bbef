"""Averages of the weights, as torch.optim.swa_utils keeps them."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from jaxnets.config.averaging import Averaging


def begin(averaging: Averaging | None, net: nn.Module) -> dict[str, AveragedModel]:
    """The averages of a run before its first step, by kind."""
    return {kind: _average(averaging, kind, net) for kind in (averaging.kinds if averaging else ())}


def _average(averaging: Averaging, kind: str, net: nn.Module) -> AveragedModel:
    def mean(average: Tensor, new: Tensor, n: Tensor) -> Tensor:
        if not average.is_floating_point():  # a count of batches
            return new
        return torch.lerp(average, new, averaging.share(kind, int(n)))

    buffers = averaging.statistics == "average"
    return AveragedModel(net, avg_fn=mean, use_buffers=buffers)


def follow(
    averaging: Averaging | None, averages: Mapping[str, AveragedModel], step: int, net: nn.Module
) -> None:
    """Lets every average take the weights, where it is due after step `step` (from 1)."""
    for kind, average in averages.items():
        if averaging.is_due(kind, step):
            average.update_parameters(net)


@torch.no_grad()
def recompute(
    net: nn.Module,
    fixed: tuple[str, ...],
    batches: Callable[[], Iterator[Tensor]],
    stopped: Callable[[], bool] = lambda: False,
) -> bool:
    """Recomputes the statistics of BatchNorms but the `fixed` ones, as `update_bn`; no dropout.

    False, and the statistics are what they were, where it was given up because `stopped()`.
    """
    norms = [
        m for name, m in net.named_modules()
        if isinstance(m, nn.BatchNorm2d) and name not in fixed
    ]  # fmt: skip
    before = [{k: v.clone() for k, v in norm.named_buffers()} for norm in norms]
    net.eval()
    with _cumulative(norms):
        for i, images in enumerate(batches()):
            if i and stopped():
                break
            net(images)
        else:
            return _put_back(norms, before, ("num_batches_tracked",))
    _put_back(norms, before, ("running_mean", "running_var", "num_batches_tracked"))
    return False


def _put_back(
    norms: list[nn.Module], before: list[dict[str, Tensor]], names: Sequence[str]
) -> bool:
    for norm, buffers in zip(norms, before, strict=True):
        for name in names:
            getattr(norm, name).copy_(buffers[name])
    return True


@contextlib.contextmanager
def _cumulative(norms: list[nn.Module]) -> Iterator[None]:
    """Meanwhile they keep the plain mean over the batches that they see."""
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.train()
        norm.momentum = None
    yield
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()
