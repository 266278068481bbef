"""From one file to another: which model, whether it fits, written, read back, and run."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from jaxnets.errors import UserError, unknown
from jaxnets.models import model_options
from jaxnets.models.torch_names import StateDict
from jaxnets.port import adapters, folder
from jaxnets.port.files import check_destination, is_folder, is_run, load, read, save
from jaxnets.port.fit import DTYPES, compare, fit
from jaxnets.port.guess import Model, describe, guess, num_classes
from jaxnets.port.verify import Differences, differences
from jaxnets.runs.workdir import CHECKPOINTS

# The files of torch_ref.train, by the checkpoint that each is.
TORCH_FILES = dict(zip(("last", "best"), CHECKPOINTS["torch_ref.train"], strict=True))


class Ported(NamedTuple):
    """What a port did."""

    model: Model
    told_by: str
    """How the model is known."""
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
        model: whose weights they are; else config.json says it, or names and shapes do.
        checkpoint: of a workdir: "best", "last" or a step.
        dtype: a key of DTYPES for all floating tensors; kept as they are if left out.
        force: replace `dst`.

    Raises:
        UserError: what does not fit, in one line; `dst` is then what it was.
    """
    src, dst = workdir_file(Path(src), checkpoint), Path(dst)
    if dtype is not None and dtype not in DTYPES:
        raise unknown("--dtype", dtype, DTYPES)
    check_destination(dst, force)
    notes: Sequence[str] = ()
    if is_run(src):
        workdir, checkpoint = folder.resolve(src, checkpoint)
        told_by = "given" if model else f"by {workdir / folder.CONFIG}"
        model = model or folder.read_model(workdir)
        state_dict = folder.load(workdir, checkpoint, model)
    else:
        state_dict, rest, notes = read(src, checkpoint)
        told_by, model = recognize(state_dict, rest, model)
    shapes = {k: v.shape for k, v in state_dict.items()}
    if model.num_classes is None:
        model = model._replace(num_classes=num_classes(shapes))
    try:
        entries = describe(model, len(shapes))
        plan = adapters.fitting(shapes, {s.name: s.shape for s in entries})
        state_dict = fit(plan.apply(state_dict), entries, dtype)
    except UserError as e:
        raise UserError(f"{src}: {e}", e.details) from e
    found: list[Differences] = []

    def check(aside: Path) -> None:
        written = load(aside)
        compare(written, state_dict)
        found.append(differences(model, state_dict, written, written_by_jax=is_folder(dst)))

    save(dst, state_dict, model=model, force=force, check=check)
    return Ported(model, told_by, state_dict, found[0], [*notes, *plan.notes(shapes)])


def workdir_file(src: Path, checkpoint: str) -> Path:
    """The file of a checkpoint where `src` is a workdir of torch_ref.train; else `src`."""
    file = src / TORCH_FILES.get(checkpoint, "")
    is_twins = checkpoint in TORCH_FILES and is_folder(src) and file.is_file()
    return file if is_twins else src


def recognize(
    state_dict: StateDict, rest: Mapping[str, object], model: Model | None
) -> tuple[str, Model]:
    """How the model of a file is known, and the model: given, in its configuration, or guessed.

    Args:
        rest: what else is in the file.

    Raises:
        UserError: no model fits; it says what is wrong with the nearest one.
    """
    if model is not None:
        return "given", model
    try:
        model = folder.model_in(rest["config"])
        if model.options.keys() <= model_options(model.name).keys():
            return "by the configuration in it", model
    except (UserError, LookupError, TypeError, ValueError):
        pass  # none, or one of another kind
    shapes = {k: v.shape for k, v in state_dict.items()}
    first: UserError | None = None
    for plan in adapters.plans(shapes):
        try:
            return "by names and shapes", guess(plan.apply(state_dict))
        except UserError as e:
            first = first or e
    raise first
