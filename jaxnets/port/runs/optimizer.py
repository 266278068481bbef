"""Optimizer states between optax and torch.optim: pure functions on numpy arrays.

    jaxnets.optim                        torch_ref.optim
    SgdState.momentum_buffer[path]  <->  state[i]["momentum_buffer"]
    AdamState.exp_avg[path]         <->  state[i]["exp_avg"]
    AdamState.exp_avg_sq[path]      <->  state[i]["exp_avg_sq"]
    MuonState.momentum_buffer[path] <->  state[i]["momentum_buffer"], of a group with ns_steps
    SgdState.count, AdamState.count <->  count, state[i]["step"] of Adam, the scheduler's position
    LookaheadState.slow[path]       <->  slow[i]
    LookaheadState.count            <->  count, of Lookahead

i counts the parameters in the order of the state_dict, a shared one once; path is NNX's of the same
parameter, and arrays are transposed as it is.  A parameter that the forward pass never reads has no
state in PyTorch, and one in JAX that changes nothing: `settled` leaves it out.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import optax

from jaxnets.config.muon import kernels, read_muon
from jaxnets.errors import UserError
from jaxnets.files.pt_file import clean_names
from jaxnets.models.torch_names import Slot, StateDict, check_names
from jaxnets.optim.muon import MuonState
from jaxnets.optim.transforms import AdamState, LookaheadState, SgdState

MOMENTUM, ADAM = ("momentum_buffer",), ("exp_avg", "exp_avg_sq")
MUON = "muon_buffer"  # here the momentum of Muon's kernels; in both frameworks momentum_buffer
_WHOSE = {(): "empty", MOMENTUM: "SGD's (momentum_buffer)", ADAM: "Adam's (exp_avg, exp_avg_sq)"}


class OptimizerState(NamedTuple):
    """An optimizer's state, by PyTorch's names and in its layouts."""

    count: int
    """Finished steps."""
    moments: dict[str, StateDict]
    """momentum_buffer; or exp_avg and exp_avg_sq; or nothing.  Under Muon those of the rest, and
    muon_buffer of its kernels."""
    slow: StateDict | None
    """Lookahead's slow weights."""
    kernels: frozenset[str] | None = None
    """The parameters that Muon updates, if it is the optimizer."""


def muon_kernels(optim: Any, params: Sequence[Slot]) -> frozenset[str] | None:
    """The parameters that Muon updates under a configuration; None of any other optimizer."""
    if optim.name != "muon":
        return None
    ranks = {slot.name: len(slot.shape) for slot in params}
    return frozenset(kernels(ranks, read_muon(optim).exclude))


def wanted(optim: Any, schedule: Any) -> tuple[str, ...]:
    """The moments that the optimizer of a configuration keeps."""
    if optim.name == "muon":
        sgd = MOMENTUM if optim.momentum else ()
        return (MUON, *(sgd if read_muon(optim).rest == "sgd" else ADAM))
    if optim.name != "sgd":
        return ADAM
    cycles = schedule.name == "one_cycle" and schedule.cycle_momentum
    return MOMENTUM if optim.momentum or cycles else ()


def from_jax(tree: Mapping[str, Any], params: Sequence[Slot]) -> OptimizerState:
    """The state that a checkpoint of jaxnets.train holds, as nested dictionaries.

    Args:
        params: those that are trained, in the order of the state_dict.

    Raises:
        UserError: not the state of an optimizer here, or of another model.
    """
    try:
        counts, slow, own = set(), None, None
        if "slow" in tree:
            counts.add(int(tree["count"]))
            slow, tree = tree["slow"], tree["inner"]
        core = tree[-1]  # of clipping, coupled decay, the optimizer proper
        if "rest" in core:
            own, core = dict(core["momentum_buffer"]), core["rest"]
        counts.add(int(core["count"]))
        moments = {k: dict(v) for k, v in core.items() if k != "count" and v}
        (count,) = counts
    except (LookupError, TypeError, ValueError) as e:
        raise UserError("its optimizer state is not that of an optimizer of jaxnets") from e

    def named(values: Mapping[str, Any], what: str, among: Sequence[Slot]) -> StateDict:
        shapes = {k: np.shape(v) for k, v in values.items()}
        _check({s.path: s.variable.get_value().shape for s in among}, shapes, what)
        return {s.name: s.to_torch(np.asarray(values[s.path])) for s in among}

    held = [s for s in params if own is not None and s.path in own]
    others = [s for s in params if own is None or s.path not in own]
    moments = {name: named(values, name, others) for name, values in moments.items()}
    if own is not None:
        moments[MUON] = named(own, MUON, held)
    return OptimizerState(
        count=count,
        moments=moments,
        slow=None if slow is None else named(slow, "slow", params),
        kernels=None if own is None else frozenset(s.name for s in held),
    )


def to_jax(state: OptimizerState, params: Sequence[Slot], weights: StateDict) -> optax.OptState:
    """The state as jaxnets.train keeps it; missing moments are zeros like the weights."""

    own = state.kernels or frozenset()
    held = [slot for slot in params if slot.name in own]
    others = [slot for slot in params if slot.name not in own]

    def by_path(values: StateDict, among: Sequence[Slot]) -> dict[str, np.ndarray]:
        out = {}
        for slot in among:
            value = values.get(slot.name, np.zeros_like(weights[slot.name]))
            out[slot.path] = np.asarray(slot.from_torch(value), order="C")
        return out

    count = np.int32(state.count)
    moments = {k: by_path(values, others) for k, values in state.moments.items() if k != MUON}
    core = AdamState(count, **moments) if "exp_avg" in moments else None
    core = core or SgdState(count, moments.get("momentum_buffer", ()))
    if state.kernels is not None:
        core = MuonState(by_path(state.moments[MUON], held), core)
    chain = (optax.EmptyState(), optax.EmptyState(), core)
    if state.slow is None:
        return chain
    return LookaheadState(count, by_path(state.slow, params), chain)


def from_torch(tree: Mapping[str, Any], names: Sequence[str], count: int | None) -> OptimizerState:
    """The state in a checkpoint of torch_ref, or in the state_dict of an optimizer of torch.optim.

    Args:
        tree: with numpy arrays in the place of tensors.
        names: of the parameters, in the order of the state_dict.
        count: finished steps, where the file records them.

    Raises:
        UserError: not the state of SGD, Adam, AdamW or Muon, or of another model.
    """
    try:
        return _from_torch(tree, names, count)
    except (AttributeError, LookupError, OverflowError, TypeError, ValueError) as e:
        raise UserError(
            "its optimizer is not recognised: the state_dict of one of torch.optim is needed, all "
            "parameters in one group, or groups with param_names"
        ) from e


def _from_torch(tree: Mapping[str, Any], names: Sequence[str], count: int | None) -> OptimizerState:
    counts, slow = {count} - {None}, None
    if "scheduler" in tree:  # torch_ref.optim.Optimizer
        counts.add(int(tree["count"]))
        tree = tree["optimizer"]
    if "slow" in tree:  # torch_ref.optim.Lookahead
        counts.add(int(tree["count"]))
        slow, tree = tree["slow"], tree["optimizer"]
    groups = tree["param_groups"]
    indices = [index for group in groups for index in group["params"]]
    if all("param_names" in group for group in groups):
        names = [name for group in groups for name in group["param_names"]]
    elif len(groups) > 1:
        raise ValueError("whose are the parameters of a group?")
    names = list(clean_names(dict.fromkeys(names)))
    own = {index for group in groups if "ns_steps" in group for index in group["params"]}
    for what, size in (("parameters", len(indices)), ("slow weights", len(slow or names))):
        if size != len(names):
            raise UserError(f"its optimizer has {size} {what}, the model {len(names)} parameters")
    moments: dict[str, StateDict] = {}
    for index, name in zip(indices, names, strict=True):
        for kind, value in tree["state"].get(index, {}).items():
            if kind == "step":
                counts.add(int(value))
            elif kind not in (*MOMENTUM, *ADAM):
                raise UserError(
                    f"its optimizer keeps {kind!r}: none here (sgd, adam, adamw, muon) does"
                )
            elif value is not None:
                moments.setdefault(MUON if index in own else kind, {})[name] = np.asarray(value)
    if not counts:
        raise UserError("its optimizer does not record how many steps it has made: give --step")
    if len(counts) > 1:
        steps = ", ".join(map(str, sorted(counts)))
        raise UserError(f"its optimizer is at steps {steps} at once: one counter is needed")
    slow = None if slow is None else dict(zip(names, map(np.asarray, slow), strict=True))
    muon = any("ns_steps" in group for group in groups)
    held = frozenset(n for i, n in zip(indices, names, strict=True) if i in own) if muon else None
    return OptimizerState(counts.pop(), moments, slow, held)


def to_torch(
    state: OptimizerState,
    params: Sequence[Slot],
    fresh: Mapping[str, Any],
    scales: Mapping[str, float],
) -> dict[str, Any]:
    """The state_dict of torch_ref.optim.Optimizer, with numpy arrays in the place of tensors.

    Args:
        fresh: a fresh optimizer's state_dict, its scheduler advanced to this step.
        scales: factors of the learning rate, by NNX path: each has a group of its own.
    """
    own, is_muon = state.kernels or frozenset(), state.kernels is not None
    members: dict[tuple[bool, float], list[str]] = {}
    for slot in params:
        kind = slot.name not in own, scales.get(slot.path, 1.0)
        members.setdefault(kind, []).append(slot.name)
    if is_muon:  # its kernels come first; the sort keeps the factors in their order
        members = dict(sorted(members.items(), key=lambda item: item[0][0]))
    names = [name for group in members.values() for name in group]
    inner = fresh["optimizer"] if state.slow is None else fresh["optimizer"]["optimizer"]
    states = {}
    for i, name in enumerate(names):
        moments = {
            "momentum_buffer" if kind == MUON else kind: values[name]
            for kind, values in state.moments.items()
            if name in values
        }
        step = {"step": np.float32(state.count)} if "exp_avg" in moments else {}
        if moments:
            states[i] = step | moments
    groups = []
    for (is_rest, factor), listed in members.items():
        like = inner["param_groups"][int(is_muon and is_rest)]
        group = {**like, "params": [names.index(name) for name in listed]}
        more = {"lr_scale": factor * like.get("lr_scale", 1.0), "param_names": listed}
        groups.append(group | more if scales or is_muon else group)
    inner = {"state": states, "param_groups": groups}
    if state.slow is not None:
        slow = [state.slow[name] for name in names]
        inner = {"optimizer": inner, "slow": slow, "count": state.count}
    return {"optimizer": inner, "scheduler": fresh["scheduler"], "count": state.count}


def settled(
    state: OptimizerState, optim: Any, schedule: Any, weights: StateDict, skip: Sequence[str]
) -> OptimizerState:
    """The state without what has no effect, so that it does not depend on the framework.

    No moments before the first step, and none of parameters that are never read, whose slow weights
    are the weights.

    Args:
        optim, schedule: of the configuration.
        skip: names of the parameters that are never read.
    """
    moments, slow = state.moments, state.slow
    if state.count == 0:
        moments = {kind: {} for kind in wanted(optim, schedule)}
    moments = {
        kind: {name: value for name, value in values.items() if name not in skip}
        for kind, values in moments.items()
    }
    if slow is not None:
        slow = {name: weights[name] if name in skip else value for name, value in slow.items()}
    return state._replace(moments=moments, slow=slow)


def check(
    state: OptimizerState,
    config: Any,
    weights: StateDict,
    params: Sequence[Slot],
    skip: Sequence[str],
) -> None:
    """Raises a UserError unless a settled state is one of this configuration's optimizer and model.

    Every array must have the shape and dtype of its weight, and finite values.
    """
    if not 0 <= state.count < 2**31:
        raise UserError(f"its optimizer is at step {state.count}: from 0 to 2147483647 is possible")
    kinds = wanted(config.optim, config.schedule)
    if set(state.moments) != set(kinds):
        raise UserError(
            f"its optimizer state is {_whose(state.moments)}, but its configuration, "
            f"config.optim.name={config.optim.name}, makes it {_whose(kinds)}"
        )
    if state.kernels != muon_kernels(config.optim, params):
        raise UserError("its optimizer has other kernels under Muon than its configuration")
    enabled = bool(config.optim.lookahead.enabled)
    if enabled != (state.slow is not None):
        raise UserError(
            f"it has {'no ' if enabled else ''}slow weights of Lookahead, but "
            f"config.optim.lookahead.enabled={enabled}"
        )
    every = {s.name: s.shape for s in params}
    kept = {k: v for k, v in every.items() if k not in skip} if state.count else {}
    own = state.kernels or frozenset()
    stores = [
        (kind, values, {k: v for k, v in kept.items() if (kind == MUON) == (k in own)})
        for kind, values in state.moments.items()
    ]
    if state.slow is not None:
        stores.append(("slow", state.slow, every))
    for kind, values, shapes in stores:
        _check(shapes, {name: value.shape for name, value in values.items()}, kind)
        for name, value in values.items():
            if value.dtype != weights[name].dtype:
                raise UserError(f"{kind} of {name}: {value.dtype}, not {weights[name].dtype}")
            bad = value.size - int(np.isfinite(value).sum())
            if bad:
                raise UserError(
                    f"{kind} of {name}: {bad} of {value.size} values are NaN or infinite"
                )


def _whose(kinds: Iterable[str]) -> str:
    """Which optimizer keeps these moments."""
    others = tuple(sorted(kind for kind in kinds if kind != MUON))
    found = _WHOSE.get(others, ", ".join(others))
    return f"Muon's ({MUON}), the rest {found}" if MUON in kinds else found


def _check(expected: Mapping[str, tuple], given: Mapping[str, tuple], what: str) -> None:
    try:
        check_names(expected, given)
    except UserError as e:
        raise UserError(f"{what} of its optimizer: {e}", e.details) from e
