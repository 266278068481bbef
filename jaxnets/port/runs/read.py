"""Whole training runs, weights and all that training resumes from, of either framework.

A run of jaxnets.train is its workdir; one of torch_ref.train is last.pt in its workdir.  So is a
.pt file of another program whose "optimizer" is the state_dict of an optimizer of torch.optim.
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxnets import config as configs
from jaxnets.checkpoints import store as checkpoints
from jaxnets.config.loss_scale import read_loss_scaling
from jaxnets.config.parts import parts
from jaxnets.errors import UserError, one_line
from jaxnets.models.torch_names import Slot, StateDict, parameter_names, parameters
from jaxnets.optim.averaging import averages_of, inner_state
from jaxnets.optim.loss_scale import inner_state as unscaled_state
from jaxnets.port import adapters, files, orbax
from jaxnets.port.adapters import fit
from jaxnets.port.files import to_numpy
from jaxnets.port.guess import Model, describe, never_read, num_classes
from jaxnets.port.runs import averages, loss_scale, optimizer
from jaxnets.port.runs.averages import Averaged
from jaxnets.port.runs.loss_scale import LossScale
from jaxnets.port.runs.optimizer import OptimizerState
from jaxnets.runs.log import METRICS, Progress, read_rows
from jaxnets.runs.workdir import CONFIG, read_config
from jaxnets.train.step import Totals


class TrainingRun(NamedTuple):
    """All that training resumes from."""

    model: Model
    config: Any
    """The configuration, a ConfigDict."""
    weights: StateDict
    optimizer: OptimizerState
    totals: tuple[float, ...]
    """Sums of the epoch that it is in, the fields of `Totals`."""
    rest: dict[str, Any]
    """Plain data: epoch, class_names, progress, acc, and what else a trainer noted."""
    averages: Mapping[str, Averaged] = {}
    """Of the weights, by kind."""
    loss_scale: LossScale | None = None
    """Of a computation in float16."""

    @property
    def step(self) -> int:
        """Steps done, those of the optimizer and those that overflowed."""
        return self.optimizer.count + (self.loss_scale.overflowed if self.loss_scale else 0)

    @property
    def entries(self) -> list[Slot]:
        """The slots of the model."""
        return describe(self.model)


def trained(config: Any, entries: Sequence[Slot]) -> tuple[list[Slot], Mapping[str, float]]:
    """The parameters that the optimizer of a configuration has, and their factors, by NNX path."""
    found = parts(config.optim, parameter_names(entries))
    return [slot for slot in parameters(entries) if slot.path not in found.frozen], found.scales


class Source(NamedTuple):
    """A run as it was read."""

    run: TrainingRun
    detected_from: str
    """Where the configuration comes from."""
    adapted: list[str]
    log: Path
    """Its metrics.jsonl, which may be missing."""


def read(
    src: Path, checkpoint: str = "last", *, config: Any = None, step: int | None = None
) -> Source:
    """The run in a workdir, in one of its checkpoints, or in a .pt file.

    Args:
        checkpoint: of a workdir: "last", "best" or a step.
        config: the configuration of a file that holds none.
        step: optimizer steps done, where the file does not record them.

    Raises:
        UserError: there is none, or it is not one of its configuration.
    """
    try:
        if src.is_dir():
            if config is not None or step is not None:
                raise UserError(
                    "--config and --step are for files of other programs: a run has its own"
                )
            if not files.is_run(src):
                raise UserError(
                    "no run of jaxnets.train; port its weights without --with-optimizer"
                )
            return _read_workdir(*orbax.resolve(src, checkpoint))
        return _read_file(src, config, step)
    except UserError as e:
        known = str(e).startswith(str(src))
        raise e if known else UserError(f"{src}: {e}", e.details) from e


def _read_workdir(workdir: Path, checkpoint: str) -> Source:
    config = read_config(workdir)
    with jax.enable_x64(True):  # else float64 comes back as float32
        state, totals, meta, *_ = checkpoints.read(workdir, checkpoint)
        state, totals = jax.tree.map(np.asarray, (state, totals))
    if "opt_state" not in state or not set(Totals._fields) <= totals.keys():
        raise UserError("holds weights only; port it without --with-optimizer")
    tensors = state["params"] | state["stats"]
    model = _model(config, tensors)
    entries = describe(model, len(tensors))
    weights = fit(orbax.by_torch_name(tensors, model), entries)
    kept, inner = averages_of(state["opt_state"]), inner_state(state["opt_state"])
    found = optimizer.from_jax(unscaled_state(inner), trained(config, entries)[0])
    scale = loss_scale.from_jax(inner)
    made = int(state["step"]) - (scale.overflowed if scale else 0)
    if made != found.count:
        raise UserError(f"its step {made} is not the optimizer's {found.count}")
    sums = tuple(float(totals[name]) for name in Totals._fields)
    # jaxnets.train keeps them in float32; those of torch_ref.train went along, see `write_workdir`.
    exact = meta.pop("totals", None)
    if exact is not None and in_float32(_numbers(exact)) == sums:
        sums = _numbers(exact)
    meta.pop("config", None)
    kept = averages.from_jax(kept, tensors, model, entries)
    run = _settle(TrainingRun(model, config, weights, found, sums, meta, kept, scale), entries)
    return Source(run, str(workdir / CONFIG), [], workdir / METRICS)


def _read_file(path: Path, config: Any, step: int | None) -> Source:
    if path.suffix == ".safetensors":
        raise UserError("a .safetensors file holds weights only: give a run's workdir or a .pt")
    tensors, content, _ = files.read(path)
    content = dict(content)
    state = content.pop("optimizer", None)
    if not isinstance(state, Mapping):
        raise UserError("holds no optimizer; port its weights without --with-optimizer")
    own = _own_config(content)
    if own is None and config is None:
        raise UserError("holds no configuration: name the recipe to resume with by --config")
    if own is not None and (config is not None or step is not None):
        raise UserError("holds its own configuration and step: leave out --config and --step")
    model = _model(own or config, tensors)
    entries = describe(model, len(tensors))
    shapes = {name: value.shape for name, value in tensors.items()}
    plan = adapters.fitting(shapes, {s.name: s.shape for s in entries})
    weights = fit(plan.adapt(tensors), entries)
    # The optimizer's parameters are in the order of the file, and by its names.
    known = {slot.name for slot in trained(own or config, entries)[0]}
    names = [old for old, new in zip(tensors, plan.adapt(tensors), strict=True) if new in known]
    try:
        state = to_numpy(state)
    except Exception as e:
        raise UserError(f"its optimizer cannot be read ({one_line(e)})") from e
    count = content.pop("step", None) if step is None else step
    count = count if isinstance(count, int) else None
    scaler = content.pop("scaler", None)
    # Under loss scaling the optimizer may have made fewer steps.
    found = optimizer.from_torch(state, names, None if scaler else count)
    scale = loss_scale.from_torch(scaler, 0 if count is None else count - found.count)
    moments = {kind: plan.adapt(values) for kind, values in found.moments.items()}
    slow = None if found.slow is None else plan.adapt(found.slow)
    sums = content.pop("totals", None)
    kept = averages.from_torch(content.pop("averages", {}), plan, entries)
    rest = _plain(content) if own is not None else _noted(content, model)
    run = TrainingRun(
        model=model,
        config=own or config,
        weights=weights,
        optimizer=found._replace(moments=moments, slow=slow),
        totals=(0.0,) * len(Totals._fields) if sums is None else _numbers(sums),
        rest=rest,
        averages=kept,
        loss_scale=scale,
    )
    detected_from = "--config" if own is None else "the configuration in it"
    return Source(_settle(run, entries), detected_from, plan.notes(shapes), path.parent / METRICS)


def _own_config(content: dict[str, Any]) -> Any:
    """The configuration in a checkpoint of torch_ref, which is taken out; else None."""
    given = content.get("config")
    if not isinstance(given, Mapping) or not {"model", "optim", "schedule"} <= given.keys():
        return None
    try:
        config = configs.from_json(json.dumps(content.pop("config")))
        keys = configs.flatten(configs.default_config().to_dict()).keys()
        missing = sorted(keys - configs.flatten(config.to_dict()).keys())
        if missing:
            raise UserError(f"its configuration has no {missing[0]}")
        configs.validate(config)
    except UserError:
        raise
    except Exception as e:
        raise UserError(f"its configuration cannot be read ({one_line(e)})") from e
    return config


def _model(config: Any, tensors: Mapping[str, np.ndarray]) -> Model:
    model = orbax.model_in(config.to_dict())
    if model.num_classes is None:
        counted = num_classes({name: value.shape for name, value in tensors.items()})
        model = model._replace(num_classes=counted)
    return model


def _noted(content: Mapping[str, Any], model: Model) -> dict[str, Any]:
    """What a trainer would have recorded with the checkpoint of another program."""
    acc = content.get("acc")
    is_number = isinstance(acc, int | float) and math.isfinite(acc)
    return {
        "acc": float(acc) if is_number else None,
        "epoch": 0,  # other programs do not always count complete ones
        "class_names": [str(i) for i in range(model.num_classes)],
        "progress": Progress()._asdict(),
    }


def _plain(content: Mapping[str, Any]) -> dict[str, Any]:
    """What of a checkpoint is plain data."""
    found = {}
    for key, value in content.items():
        try:
            found[key] = json.loads(json.dumps(value))
        except (TypeError, ValueError, RecursionError):
            continue
    return found


def _numbers(values: Any) -> tuple[float, ...]:
    if not isinstance(values, Sequence) or len(values) != len(Totals._fields):
        raise UserError("its totals are not the five sums of an epoch")
    try:
        return tuple(map(float, values))
    except (TypeError, ValueError) as e:
        raise UserError("its totals are not the five sums of an epoch") from e


def in_float32(values: Sequence[float]) -> tuple[float, ...]:
    """Numbers rounded to float32."""
    return tuple(float(np.float32(value)) for value in values)


def _settle(run: TrainingRun, entries: list[Slot]) -> TrainingRun:
    """The run in the form that does not depend on the framework, checked.

    Raises:
        UserError: a part of it does not fit its configuration or its model.
    """
    try:
        Progress(**run.rest["progress"])
        whole = isinstance(run.rest["epoch"], int) and run.rest["class_names"] is not None
    except (LookupError, TypeError):
        whole = False
    if not whole:
        raise UserError("epoch, progress or class_names is missing: not a whole run")
    wanted = configs.PARAM_DTYPES.get(run.config.dtype, "float32")
    for name, value in run.weights.items():
        if value.dtype.kind != "i" and value.dtype.name != wanted:
            raise UserError(
                f"{name}: of dtype {value.dtype}, but config.dtype={run.config.dtype} trains in "
                f"{wanted}"
            )
    params, _ = trained(run.config, entries)
    begins = never_read(run.model)
    skip = [slot.name for slot in params if begins and slot.name.startswith(begins)]
    config = run.config
    state = optimizer.settled(run.optimizer, config.optim, config.schedule, run.weights, skip)
    optimizer.check(state, config, run.weights, params, skip)
    loss_scale.check(run.loss_scale, read_loss_scaling(config), config.dtype)
    acc = run.rest.get("acc")
    kept = averages.settled(run.averages, config.optim, run.weights)
    return run._replace(optimizer=state, averages=kept, rest={**run.rest, "acc": acc})


def with_accuracy(run: TrainingRun, log: Path) -> TrainingRun:
    """The run with its last test accuracy, in per cent, out of its log where it is not noted."""
    if run.rest["acc"] is not None or not log.exists():
        return run
    rows = [r for r in read_rows(log) if r["step"] <= run.step and "eval/accuracy" in r]
    acc = 100 * rows[-1]["eval/accuracy"] if rows else None
    return run._replace(rest={**run.rest, "acc": acc})
