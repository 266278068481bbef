"""The optimizer of a recipe, out of genuine `torch.optim` parts, and Lookahead."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch.optim import lr_scheduler

from jaxnets.config.muon import kernels, read_muon
from torch_ref.muon import Muon


class Lookahead:
    """Every k steps, slow += alpha * (fast - slow) and fast = slow (Zhang et al. 2019).

    Slow weights start at the initial weights and sync after steps k, 2k, ...; with `first_sync=1`
    they start at the weights after step 1 and sync after steps 1, 1+k, ..., as the published code
    of S2 and S3 does. A sync keeps the optimizer's state, momentum included. `slow` lists the slow
    weights in the order of the parameters. Schedulers attach to `optimizer`, the fast one.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        k: int = 5,
        alpha: float = 0.5,
        first_sync: int | None = None,
    ):
        if k < 1 or not 0 < alpha <= 1 or first_sync not in (None, 1):
            raise ValueError(
                f"Lookahead needs k >= 1, alpha in (0, 1] and first_sync None or 1, "
                f"not {k}, {alpha}, {first_sync}"
            )
        self.optimizer, self.k, self.alpha, self.first_sync = optimizer, k, alpha, first_sync
        self.count = 0
        self.slow = [p.detach().clone() for p in self._fast()]

    def _fast(self) -> list[torch.nn.Parameter]:
        return [p for group in self.param_groups for p in group["params"]]

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        return self.optimizer.param_groups

    def zero_grad(self) -> None:
        self.optimizer.zero_grad()

    @torch.no_grad()
    def step(self) -> None:
        self.optimizer.step()
        self.count += 1
        first = self.count == self.first_sync
        if first or (self.count - (self.first_sync or 0)) % self.k == 0:
            for slow, fast in zip(self.slow, self._fast(), strict=True):
                slow.copy_(fast) if first else slow.add_(fast - slow, alpha=self.alpha)
                fast.copy_(slow)

    def state_dict(self) -> dict[str, Any]:
        """Of the fast optimizer, the slow weights and the count; by reference, as torch does."""
        return {"optimizer": self.optimizer.state_dict(), "slow": self.slow, "count": self.count}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.optimizer.load_state_dict(state["optimizer"])
        self.count = state["count"]
        for mine, other in zip(self.slow, state["slow"], strict=True):
            mine.copy_(other)


class Optimizer:
    """Clip, step and schedule in one `step()`; `lr` and `momentum` are those of the next step.

    `make_scheduler` is called at the start, and again after every `restart` steps if given.
    """

    def __init__(
        self,
        optimizer,
        make_scheduler: Callable[[], lr_scheduler.LRScheduler],
        clip: str,
        clip_at: float | None,
        every: int,
        last: int,
        restart: int | None,
    ):
        self.optimizer, self.scheduler = optimizer, make_scheduler()
        self.make_scheduler, self.restart = make_scheduler, restart
        self.clip, self.clip_at = clip, clip_at
        self.every, self.last, self.count = every, last, 0

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """For `torch.amp.GradScaler`, which calls `step` unless their gradients overflowed."""
        return self.optimizer.param_groups

    @property
    def lr(self) -> float:
        return self.optimizer.param_groups[0]["lr"]

    @property
    def momentum(self) -> float:
        """SGD's momentum, Adam's beta1."""
        group = self.optimizer.param_groups[0]
        return group["betas"][0] if "betas" in group else group["momentum"]

    def zero_grad(self) -> None:
        self.optimizer.zero_grad()

    def step(self) -> None:
        params = [p for group in self.optimizer.param_groups for p in group["params"]]
        if self.clip == "value":
            torch.nn.utils.clip_grad_value_(params, self.clip_at)
        elif self.clip == "norm":
            torch.nn.utils.clip_grad_norm_(params, self.clip_at)
        with _scaled(self.optimizer.param_groups):
            self.optimizer.step()
        self.count += 1
        if self.restart and self.count % self.restart == 0:
            self.scheduler = self.make_scheduler()
        # OneCycleLR raises beyond its last position: stay there.
        elif self.count % self.every == 0 and self.count // self.every <= self.last:
            self.scheduler.step()

    def state_dict(self) -> dict[str, Any]:
        return {
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "count": self.count,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        self.count = state["count"]


@contextlib.contextmanager
def _scaled(groups: Iterable[dict[str, Any]]) -> Iterator[None]:
    """Meanwhile each group has its learning rate: the schedule's times its factor, as in timm.

    Schedulers go on from the rate that they set: they must not see the factor.
    """
    groups = [group for group in groups if "lr_scale" in group]
    before = [group["lr"] for group in groups]
    for group in groups:
        group["lr"] = group["lr"] * group["lr_scale"]
    yield
    for group, lr in zip(groups, before, strict=True):
        group["lr"] = lr


def groups(
    named: Mapping[str, torch.nn.Parameter], scales: Mapping[str, float]
) -> list[dict[str, Any]]:
    """Parameter groups, one for each factor of the learning rate, by the parameters' names.

    They keep the names, by which a state_dict says which parameter is which.
    """
    found: dict[float, list[tuple[str, torch.nn.Parameter]]] = {}
    for name, parameter in named.items():
        found.setdefault(scales.get(name, 1.0), []).append((name, parameter))
    return [{"params": members, "lr_scale": factor} for factor, members in found.items()]


def make_optimizer(
    params: Iterable[torch.nn.Parameter] | Iterable[dict[str, Any]],
    optim_config: Any,
    schedule_config: Any,
    *,
    steps_per_epoch: int,
    num_epochs: int,
) -> Optimizer:
    """The optimizer of a recipe, from `config.optim` and `config.schedule`.

    Call `zero_grad()`, backward, `step()`; everything else happens inside. Beyond the run one_cycle
    holds its last learning rate, where torch alone would raise. Unknown names and what torch
    refuses raise ValueError; the ranges are not checked further.

    Args:
        params: those to train, or what `groups` makes of them.
    """
    inner = _inner(params, optim_config)
    by_epoch = _get(schedule_config, "per", "epoch") == "epoch"
    unit = 1 if by_epoch else steps_per_epoch
    one_cycle = schedule_config.name == "one_cycle"
    planned = _get(schedule_config, "total_epochs", num_epochs) if one_cycle else num_epochs
    restart = one_cycle and _get(schedule_config, "restart_every_epoch", False)
    look = _get(optim_config, "lookahead", None)
    optimizer = inner
    if _get(look, "enabled", False):
        optimizer = Lookahead(
            inner, _get(look, "k", 5), _get(look, "alpha", 0.5), _get(look, "first_sync", None)
        )
    return Optimizer(
        optimizer,
        lambda: _scheduler(inner, schedule_config, unit, planned),
        clip=_get(optim_config, "clip", "none"),
        clip_at=_get(optim_config, "clip_at", None),
        every=steps_per_epoch if by_epoch else 1,
        last=planned * unit - 1 if one_cycle else float("inf"),
        restart=steps_per_epoch if restart else None,
    )


def _inner(params: Iterable[Any], config: Any) -> torch.optim.Optimizer:
    return (
        _muon(list(params), config) if config.name == "muon" else _core(config.name, params, config)
    )


def _muon(params: list[Any], config: Any) -> Muon:
    """Each group of `groups` is parted into kernels and the rest; parameters alone are the rest."""
    options = read_muon(config)
    found = params if isinstance(params[0], dict) else [{"params": params, "lr_scale": 1.0}]
    own, rest = [], []
    for group in found:
        named = {m[0]: m[1].ndim for m in group["params"] if isinstance(m, tuple)}
        chosen = set(kernels(named, options.exclude))
        parts: tuple[list[Any], list[Any]] = [], []
        for member in group["params"]:
            parts[isinstance(member, tuple) and member[0] in chosen].append(member)
        factor = group["lr_scale"]
        rest.append({"params": parts[0], "lr_scale": factor * options.rest_lr_scale})
        own.append({"params": parts[1], "lr_scale": factor})
    return Muon(
        [group for group in own if group["params"]] or own[:1],
        _core(options.rest, [group for group in rest if group["params"]] or rest[:1], config),
        lr=config.lr,
        momentum=options.momentum,
        nesterov=options.nesterov,
        weight_decay=options.weight_decay,
        ns_steps=options.ns_steps,
        ns_dtype=options.ns_dtype,
        adjust_lr=options.adjust_lr,
    )


def _core(name: str, params: Iterable[Any], config: Any) -> torch.optim.Optimizer:
    if name == "sgd":
        return torch.optim.SGD(
            params,
            lr=config.lr,
            momentum=_get(config, "momentum", 0.0),
            nesterov=_get(config, "nesterov", False),
            weight_decay=_get(config, "weight_decay", 0.0),
        )
    if name not in ("adam", "adamw"):
        raise ValueError(f"unknown optimizer {name!r}; known: adam, adamw, muon, sgd")
    adamw = name == "adamw"
    return (torch.optim.AdamW if adamw else torch.optim.Adam)(
        params,
        lr=config.lr,
        betas=(_get(config, "beta1", 0.9), _get(config, "beta2", 0.999)),
        eps=_get(config, "eps", 1e-8),
        weight_decay=_get(config, "weight_decay", 1e-2 if adamw else 0.0),
    )


def _scheduler(inner: torch.optim.Optimizer, config: Any, unit: int, num_epochs: int):
    """The scheduler in positions, `unit` of them an epoch; a warm-up comes before it."""
    warm = round(_get(config, "warmup_epochs", 0.0) * unit)
    main = _main_scheduler(inner, config, unit, num_epochs * unit - warm)
    if warm == 0:
        return main
    factor = _get(config, "warmup_factor", 0.01)
    rise = lr_scheduler.LinearLR(inner, start_factor=factor, total_iters=warm)
    return lr_scheduler.SequentialLR(inner, [rise, main], milestones=[warm])


def _main_scheduler(inner: torch.optim.Optimizer, config: Any, unit: int, length: int):
    name, end_lr = config.name, _get(config, "end_lr", 0.0)
    if name == "constant":
        return lr_scheduler.ConstantLR(inner, factor=1.0, total_iters=0)
    if name == "cosine":
        T_max = _get(config, "T_max", None)
        return lr_scheduler.CosineAnnealingLR(
            inner, length if T_max is None else T_max * unit, eta_min=end_lr
        )
    if name == "warm_restarts":
        T_0, T_mult = _get(config, "T_0", 10) * unit, _get(config, "T_mult", 2)
        return lr_scheduler.CosineAnnealingWarmRestarts(inner, T_0, T_mult, eta_min=end_lr)
    if name == "multistep":
        milestones = [m * unit for m in config.milestones]
        return lr_scheduler.MultiStepLR(inner, milestones, _get(config, "gamma", 0.1))
    if name == "one_cycle":
        return lr_scheduler.OneCycleLR(
            inner,
            max_lr=config.max_lr,
            total_steps=length,
            pct_start=float(_get(config, "pct_start", 0.3)),
            div_factor=_get(config, "div_factor", 25.0),
            final_div_factor=_get(config, "final_div_factor", 1e4),
            cycle_momentum=_get(config, "cycle_momentum", True),
            base_momentum=_get(config, "base_momentum", 0.85),
            max_momentum=_get(config, "max_momentum", 0.95),
        )
    known = "constant, cosine, multistep, one_cycle, warm_restarts"
    raise ValueError(f"unknown schedule {name!r}; known: {known}")


def _get(config: Any, key: str, default: Any) -> Any:
    """A key's value; its default where it is absent or None."""
    value = getattr(config, key, None)
    return default if value is None else value
