"""The weights that a training of the twin starts from, out of a run or a file of either framework.

As `jaxnets.port.start`, but for squeeze-and-excitation of other forms, which jaxnets.port adapts.
"""

import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from jaxnets import pretrained
from jaxnets.config.parts import new_head
from jaxnets.errors import UserError
from jaxnets.files import pt_file, safetensors
from jaxnets.files.regular import read_bytes
from jaxnets.pretrained.index import is_name
from torch_ref.checkpoint import BEST


def fill(net: nn.Module, path: Path, weights: Mapping[str, Tensor], *, strict: bool) -> list[str]:
    """Puts the weights into the network, whole or not at all.

    A last layer for another number of classes, or none, leaves the network's own, which was drawn.

    Args:
        path: where the weights are from.
        strict: the last layer must fit too.

    Returns:
        The names of what was left.

    Raises:
        UserError: which tensors do not fit, or are not finite.
    """
    own = net.state_dict()
    wanted, given = ({k: tuple(v.shape) for k, v in some.items()} for some in (own, weights))
    last = [name for name, module in net.named_modules() if isinstance(module, nn.Linear)][-1]
    head = [name for name in own if name.rpartition(".")[0] == last]
    drawn = [] if strict else new_head(head, wanted, given)
    for name, value in weights.items():
        if not value.isfinite().all():
            raise UserError(f"--init {path}: {name}: has values that are NaN or infinite")
    try:
        net.load_state_dict({**weights, **{name: own[name] for name in drawn}})
    except RuntimeError as e:
        reason = " ".join(str(e).split())[:300]
        hint = "; python -m jaxnets.port adapts other forms" if path.is_file() else ""
        raise UserError(f"--init {path}: the tensors do not fit the model: {reason}{hint}") from e
    return drawn


def read(path: Path) -> dict[str, Tensor]:
    """The state_dict of a name, of a run's best checkpoint, of a .pt, .pth or .safetensors file.

    A .pt holds it bare or under net, state_dict, model or model_state_dict.  A folder of
    jaxnets.train is ported first, by a process of its own.

    Raises:
        UserError: no such name, file or folder, or no weights in it.
    """
    if is_name(path):
        found = pretrained.load(path).tensors
        return {name: torch.tensor(value) for name, value in found.items()}
    if path.is_dir():
        return read(path / BEST) if (path / BEST).exists() else _ported(path)
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load

            data = read_bytes(path)
            content = load(data)
            content |= {k: content[first] for k, first in safetensors.shared_names(data).items()}
        else:
            content, _ = pt_file.state_dict_in(pt_file.load(torch, path))
        if not all(torch.is_tensor(value) for value in content.values()):
            raise ValueError
        found = pt_file.clean_names(content)
        found.pop("n_averaged", None)  # of torch.optim.swa_utils.AveragedModel, a count
        return found
    except FileNotFoundError as e:
        raise UserError(f"--init {path}: no such file or folder") from e
    except Exception as e:  # its text would advise to open the file in a way that may run code
        raise UserError(f"--init {path}: not a .pt or .safetensors file of weights") from e


def origin(path: Path) -> dict[str, str | None]:
    """Where the weights are from, for the run record."""
    if is_name(path):
        return {"name": str(path), "sha256": pretrained.load(path).sha256}
    file = path / BEST if (path / BEST).exists() else path
    if file.is_dir():
        return {"checkpoint": str(file)}
    return {"file": str(file), "sha256": hashlib.sha256(read_bytes(file)).hexdigest()}


def _ported(path: Path) -> dict[str, Tensor]:
    """The weights in a folder of jaxnets.train, which takes jax to read."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "weights.pt"
        command = [sys.executable, "-m", "jaxnets.port", str(path), str(file)]
        done = subprocess.run(
            command, env=os.environ | {"JAX_PLATFORMS": "cpu"}, capture_output=True, text=True
        )
        if done.returncode:
            said = done.stderr.strip().splitlines() or ["no reason given"]
            error = next((line for line in said if line.startswith("error: ")), said[-1])
            raise UserError(f"--init {path}: {error.removeprefix('error: ')}")
        return read(file)
