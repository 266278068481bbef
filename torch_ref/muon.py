"""Muon for the kernels of convolutions: torch.optim.Muon takes matrices, and only in bfloat16."""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

_A, _B, _C = 3.4445, -4.7750, 2.0315
_EPSILON = 1e-7


class Muon(torch.optim.Optimizer):
    """Muon (Jordan et al. 2024) for `kernels`, and an optimizer of `torch.optim` for the rest.

    A kernel (out, in, kh, kw) is the matrix (out, in kh kw).  On matrices, and with
    `ns_dtype="bfloat16"`, the numbers are those of `torch.optim.Muon`, bit for bit.

    The parameter groups of the kernels come first; those of `rest` follow, and are the very same
    dictionaries, so that one scheduler drives both.

    Args:
        kernels: parameters, or parameter groups, one at least.
        ns_dtype: bfloat16, or float32: then it is the kernel's own dtype, float32 at least.
        adjust_lr: the scale of a matrix (out, fan_in): original, sqrt(max(1, out / fan_in));
            match_rms_adamw, 0.2 sqrt(max(out, fan_in)); none, 1.
    """

    def __init__(
        self,
        kernels: Iterable[torch.nn.Parameter] | Iterable[dict[str, Any]],
        rest: torch.optim.Optimizer,
        *,
        lr: float,
        momentum: float = 0.95,
        nesterov: bool = True,
        weight_decay: float = 0.0,
        ns_steps: int = 5,
        ns_dtype: str = "float32",
        adjust_lr: str = "original",
    ):
        options = {
            "lr": lr,
            "momentum": momentum,
            "nesterov": nesterov,
            "weight_decay": weight_decay,
            "ns_steps": ns_steps,
            "ns_dtype": ns_dtype,
            "adjust_lr": adjust_lr,
        }
        super().__init__(kernels, options)
        self.rest = rest
        self.param_groups += rest.param_groups
        self._share()

    def _share(self) -> None:
        """One state and one list of groups, whichever of the two optimizers is asked."""
        groups = [group for group in self.param_groups if "ns_steps" not in group]
        self.rest.param_groups, self.rest.state = groups, self.state

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            for p in group["params"] if "ns_steps" in group else ():
                if p.grad is not None:
                    _update(p, self.state[p], group)
        self.rest.step()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self._share()


def _update(p: Tensor, state: dict[str, Tensor], group: dict[str, Any]) -> None:
    if "momentum_buffer" not in state:
        state["momentum_buffer"] = torch.zeros_like(p)
    buffer, momentum, lr = state["momentum_buffer"], group["momentum"], group["lr"]
    buffer.lerp_(p.grad, 1 - momentum)
    direction = p.grad.lerp(buffer, momentum) if group["nesterov"] else buffer
    wide = torch.promote_types(p.dtype, torch.float32)
    dtype = wide if group["ns_dtype"] == "float32" else torch.bfloat16
    matrix = orthogonalize(direction.flatten(1).to(dtype), group["ns_steps"])
    p.mul_(1 - lr * group["weight_decay"])
    p.add_(matrix.reshape(p.shape), alpha=-lr * _scale(*matrix.shape, group["adjust_lr"]))


def orthogonalize(matrix: Tensor, steps: int = 5) -> Tensor:
    """U S' V^T for a matrix U S V^T: `steps` Newton-Schulz iterations draw S towards 1."""
    x = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    x = x / x.norm().clamp(min=_EPSILON)
    for _ in range(steps):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=_B, alpha=_C), x, beta=_A)
    return x.T if matrix.shape[0] > matrix.shape[1] else x


def _scale(out: int, fan_in: int, adjust_lr: str) -> float:
    if adjust_lr == "original":
        return math.sqrt(max(1, out / fan_in))
    return 0.2 * math.sqrt(max(out, fan_in)) if adjust_lr == "match_rms_adamw" else 1.0
