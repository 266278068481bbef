"""Weights of any kind with what they belong to: by name, of a file, of a run."""

import argparse
import contextlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from flax import nnx

from jaxnets import config as configs
from jaxnets import pretrained
from jaxnets.checkpoints import store
from jaxnets.errors import UserError, unknown
from jaxnets.models import model_options
from jaxnets.models.torch_names import StateDict, from_state_dict, slots
from jaxnets.port import adapters, orbax
from jaxnets.port.files import check_destination, is_folder, is_run, load, read, save
from jaxnets.port.guess import Model, describe, guess, num_classes
from jaxnets.port.verify import Differences, differences
from jaxnets.pretrained import Weights
from jaxnets.pretrained.weights import is_described
from jaxnets.runs.workdir import CHECKPOINTS, CONFIG, read_config

if TYPE_CHECKING:
    from jaxnets.inference.network import Member

# The files of torch_ref.train, by the checkpoint that each is.
TORCH_FILES = dict(zip(("last", "best"), CHECKPOINTS["torch_ref.train"], strict=True))


def load_weights(
    model: nnx.Module, path: str | os.PathLike, checkpoint: str | int = "best"
) -> nnx.Module:
    """Fills a model from a file or a training run, whole or not at all; returns the model.

    Args:
        path: as for `jaxnets.port.load`.
        checkpoint: of a workdir: "best", "last" or a step.

    Values are cast to the model's dtypes; squeeze-and-excitation of other forms is adapted, see
    `jaxnets.port.adapters`.

    Raises:
        UserError: what is wrong with the file, or which tensors do not fit the model.

    >>> load_weights(create_model("se_resnet"), "se_resnet.pth")  # doctest: +SKIP
    """
    weights = load(path, str(checkpoint))
    wanted = {slot.name: slot.shape for slot in slots(model)}
    plan = adapters.fitting({name: value.shape for name, value in weights.items()}, wanted)
    from_state_dict(model, plan.adapt(weights))
    return model


def load_networks(args: argparse.Namespace) -> "list[Member]":
    """Sets jax up for the networks, the runs first, and loads them.

    Args:
        args: with `workdir`, `weights` and `checkpoint`, which `cli.add_networks` adds.

    Raises:
        UserError: a run or weights that cannot be loaded, or networks that do not go together.
    """
    from jaxnets.devices import runtime
    from jaxnets.inference.network import check_together, load_members, of_weights

    for i, source in enumerate(args.weights):
        if source in args.weights[:i]:
            raise UserError(f"--weights {source}: the same twice is no ensemble; leave it out")
    dtypes = {read_config(workdir).dtype for workdir in args.workdir}
    runtime.setup("float64" if "float64" in dtypes else "float32")
    weights = [read_weights(source) for source in args.weights]
    if "float64" in {found.config.dtype for found in weights}:
        runtime.setup("float64")
    members = load_members(args.workdir, args.checkpoint)
    members += [of_weights(found) for found in weights]
    check_together(members)
    return members


class Source(NamedTuple):
    """The weights of a file or a run, in the form of the model that they are of."""

    model: Model
    detected_from: str
    """Where the model comes from."""
    state_dict: StateDict
    adapted: list[str]
    """What had another form there, a line each."""
    rest: Mapping[str, Any]
    """What else is in a file: optimizer, configuration, epoch and the like."""


def read_weights(
    source: str | Path, *, checkpoint: str = "best", model: Model | None = None
) -> Weights:
    """Weights by name, of a file or of a run, with configuration, classes and preprocessing.

    Args:
        source: a name of `jaxnets.list_pretrained()`, or a path as for `jaxnets.port.load`.
        checkpoint: of a run: "best", "last" or a step.
        model: of a file that does not name it; detected from names and shapes if left out.

    For a file without classes and preprocessing, those of CIFAR are assumed, with a note.

    Raises:
        UserError: no such name, file or run, a damaged one, one that does not fit its model, or a
            model given for weights that name their own.
    """
    path = Path(source)
    if str(source) in pretrained.list_pretrained() or is_described(path):
        found = pretrained.load(source)
        if model is not None:
            raise UserError(f"{source}: is {found.model} by its own description; leave out --model")
        return found
    if not path.exists() and not path.suffix and len(path.parts) == 1:
        return pretrained.load(source)  # which knows the nearest name
    read = read_source(path, checkpoint, model=model)
    config, meta, notes = _said_by_run(path, checkpoint) or _said_in(read.rest, read.model, path)
    return Weights(str(source), read.state_dict, config, meta, notes=(*notes, *read.adapted))


def read_source(
    src: Path, checkpoint: str = "best", *, model: Model | None = None, dtype: str | None = None
) -> Source:
    """The weights of a file or a run: every tensor used once, every slot filled once.

    Args:
        src: as for `jaxnets.port.load`, or a workdir of torch_ref.train.
        model: whose weights they are; else as in config.json, or detected from names and shapes.
        dtype: a key of DTYPES for all floating tensors; kept as they are if left out.

    Raises:
        UserError: what does not fit, in one line.
    """
    src = workdir_file(src, checkpoint)
    notes: Sequence[str] = ()
    rest: Mapping[str, Any] = {}
    if is_run(src):
        workdir, checkpoint = orbax.resolve(src, checkpoint)
        detected_from = "--model" if model else str(workdir / CONFIG)
        model = model or orbax.read_model(workdir)
        state_dict = orbax.load(workdir, checkpoint, model)
    else:
        state_dict, rest, notes = read(src, checkpoint)
        detected_from, model = recognize(state_dict, rest, model)
    shapes = {k: v.shape for k, v in state_dict.items()}
    if model.num_classes is None:
        model = model._replace(num_classes=num_classes(shapes))
    try:
        entries = describe(model, len(shapes))
        plan = adapters.fitting(shapes, {s.name: s.shape for s in entries})
        state_dict = adapters.fit(plan.adapt(state_dict), entries, dtype)
    except UserError as e:
        raise UserError(f"{src}: {e}", e.details) from e
    return Source(model, detected_from, state_dict, [*notes, *plan.notes(shapes)], rest)


def _said_by_run(src: Path, checkpoint: str) -> tuple[Any, Mapping[str, Any], list[str]] | None:
    """Configuration and meta of a run of jaxnets.train; None of a file."""
    if not is_run(src := workdir_file(src, checkpoint)):
        return None
    workdir, checkpoint = orbax.resolve(src, checkpoint)
    return read_config(workdir), store.read(workdir, checkpoint).meta, []


def _said_in(
    rest: Mapping[str, Any], model: Model, path: Path
) -> tuple[Any, Mapping[str, Any], list[str]]:
    """The same of a file, as far as it holds them."""
    with contextlib.suppress(ValueError, LookupError, TypeError):  # no configuration, or another's
        config = configs.from_json(json.dumps(rest["config"]))
        known = ("class_names", "epoch", "step", "selected_on", "data")
        return config, {key: rest[key] for key in known if key in rest}, []
    network = {"name": model.name, "num_classes": model.num_classes, **model.options}
    config = configs.from_json(json.dumps({"model": network}))
    return config, {}, [f"{path} names no data: CIFAR-10 and its normalisation are assumed"]


def workdir_file(src: Path, checkpoint: str) -> Path:
    """The file of a checkpoint where `src` is a workdir of torch_ref.train; else `src`."""
    file = src / TORCH_FILES.get(checkpoint, "")
    is_twins = checkpoint in TORCH_FILES and is_folder(src) and file.is_file()
    return file if is_twins else src


def recognize(
    state_dict: StateDict, rest: Mapping[str, object], model: Model | None
) -> tuple[str, Model]:
    """Where the model of a file comes from, and the model: given, configured, or detected.

    Args:
        rest: what else is in the file.

    Raises:
        UserError: no model fits; it names what is wrong with the nearest one.
    """
    if model is not None:
        return "--model", model
    try:
        model = orbax.model_in(rest["config"])
        if model.options.keys() <= model_options(model.name).keys():
            return "the configuration in it", model
    except (UserError, LookupError, TypeError, ValueError):
        pass  # none, or one of another kind
    shapes = {k: v.shape for k, v in state_dict.items()}
    first: UserError | None = None
    for plan in adapters.plans(shapes):
        try:
            return "names and shapes", guess(plan.adapt(state_dict))
        except UserError as e:
            first = first or e
    raise first


class Ported(NamedTuple):
    """The result of a port."""

    model: Model
    detected_from: str
    """Where the model comes from."""
    state_dict: StateDict
    differences: Differences
    adapted: list[str]
    """What had another form in the source, a line each."""


def port(
    src: Path,
    dst: Path,
    *,
    model: Model | None = None,
    checkpoint: str = "best",
    dtype: str | None = None,
    force: bool = False,
) -> Ported:
    """Writes the weights of `src` to `dst`: every tensor used once, every slot filled once.

    Before `dst` gets its name it is read back, compared bit for bit with what was meant, and both
    frameworks compute the same logits from source and destination.

    Args:
        src: as for `load`.
        dst: as for `save`.
        model: whose weights they are; else as in config.json, or detected from names and shapes.
        checkpoint: of a workdir: "best", "last" or a step.
        dtype: a key of DTYPES for all floating tensors; kept as they are if left out.
        force: replace `dst`.

    Raises:
        UserError: what does not fit, in one line; `dst` is then what it was.
    """
    src, dst = Path(src), Path(dst)
    if dtype is not None and dtype not in adapters.DTYPES:
        raise unknown("--dtype", dtype, adapters.DTYPES)
    check_destination(dst, force)
    source = read_source(src, checkpoint, model=model, dtype=dtype)
    model, state_dict = source.model, source.state_dict
    found: list[Differences] = []

    def check(temporary: Path) -> None:
        written = load(temporary)
        adapters.compare(written, state_dict)
        found.append(differences(model, state_dict, written, written_by_jax=is_folder(dst)))

    save(dst, state_dict, model=model, force=force, check=check)
    return Ported(model, source.detected_from, state_dict, found[0], source.adapted)
