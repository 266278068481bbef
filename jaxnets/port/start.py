"""The weights that a training starts from, out of a run or a file of either framework."""

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

from flax import nnx

from jaxnets import pretrained
from jaxnets.checkpoints import store
from jaxnets.config.parts import new_head
from jaxnets.errors import UserError
from jaxnets.files.regular import read_bytes
from jaxnets.models.layers import Classifier
from jaxnets.models.torch_names import StateDict, from_state_dict, slots, to_state_dict
from jaxnets.models.trace import named_modules
from jaxnets.port import adapters
from jaxnets.port.adapters import fit
from jaxnets.port.files import is_run, load
from jaxnets.port.orbax import resolve
from jaxnets.port.weights import workdir_file
from jaxnets.pretrained.index import is_name


class Start(NamedTuple):
    """Weights by PyTorch's names, and where they are from."""

    path: Path
    weights: StateDict
    origin: dict[str, Any]
    """For the run record: a name or a file, with its SHA-256, or the checkpoint of a run."""

    def fill(self, model: nnx.Module, *, strict: bool = False) -> list[str]:
        """Puts the weights into the network, whole or not at all.

        A last layer for another number of classes, or none, leaves the network's own, which was
        drawn.  Squeeze-and-excitation of other forms is adapted, see `jaxnets.port.adapters`.

        Args:
            strict: the last layer must fit too.

        Returns:
            PyTorch's names of what was left.

        Raises:
            UserError: which tensors do not fit, or are not finite.
        """
        entries = slots(model)
        wanted = {slot.name: slot.shape for slot in entries}
        plan = adapters.fitting({k: v.shape for k, v in self.weights.items()}, wanted)
        weights = plan.adapt(self.weights)
        shapes = {name: value.shape for name, value in weights.items()}
        drawn = [] if strict else new_head(_head(model), wanted, shapes)
        own = to_state_dict(model)
        try:
            weights = fit({**weights, **{name: own[name] for name in drawn}}, entries)
            from_state_dict(model, weights)
        except UserError as e:
            raise UserError(f"--init {self.path}: {e}", e.details) from e
        return drawn


def read(path: Path) -> Start:
    """The weights of a name, of a run (its best checkpoint), of one checkpoint in it, or of a file.

    Raises:
        UserError: none there, damaged, or a file that would run code.
    """
    try:
        if is_name(path):
            found = pretrained.load(path)
            return Start(path, dict(found.tensors), {"name": str(path), "sha256": found.sha256})
        file = workdir_file(path, "best")
        weights = load(file)
        if is_run(file):
            workdir, which = resolve(file, "best")
            place, step = store.find(workdir, which)
            origin = {"checkpoint": str(place / str(step))}
        else:
            origin = {"file": str(file)}
            if file.is_file():
                origin["sha256"] = hashlib.sha256(read_bytes(file)).hexdigest()
    except UserError as e:
        raise UserError(f"--init {path}: {e}".replace(f"{path}: {path}: ", f"{path}: ")) from e
    return Start(path, weights, origin)


def _head(model: nnx.Module) -> list[str]:
    """The tensors of the last layer, by PyTorch's names."""
    names = [name for name, module in named_modules(model) if isinstance(module, Classifier)]
    return [slot.name for slot in slots(model) if slot.name.rpartition(".")[0] in names]
