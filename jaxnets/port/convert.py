"""From one file to another: which model, whether it fits, written, read back, and run."""

from pathlib import Path
from typing import NamedTuple

from jaxnets.errors import unknown
from jaxnets.models.torch_names import StateDict
from jaxnets.port.files import check_destination, is_folder, load, save
from jaxnets.port.fit import DTYPES, compare
from jaxnets.port.guess import Model
from jaxnets.port.verify import Differences, differences
from jaxnets.port.weights import read_source


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
    src, dst = Path(src), Path(dst)
    if dtype is not None and dtype not in DTYPES:
        raise unknown("--dtype", dtype, DTYPES)
    check_destination(dst, force)
    source = read_source(src, checkpoint, model=model, dtype=dtype)
    model, state_dict = source.model, source.state_dict
    found: list[Differences] = []

    def check(aside: Path) -> None:
        written = load(aside)
        compare(written, state_dict)
        found.append(differences(model, state_dict, written, written_by_jax=is_folder(dst)))

    save(dst, state_dict, model=model, force=force, check=check)
    return Ported(model, source.told_by, state_dict, found[0], source.adapted)
