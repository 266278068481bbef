"""Weight files: .pt and .pth (opened without running code), .safetensors, and orbax folders."""

import contextlib
import difflib
import io
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import ml_dtypes
import numpy as np

from jaxnets.errors import UserError, one_line
from jaxnets.files import pt_file, safetensors
from jaxnets.files.atomic import removing, replace
from jaxnets.files.pt_file import WRAPPERS, WRAPPING, clean_names
from jaxnets.models.torch_names import StateDict
from jaxnets.port import orbax
from jaxnets.port.guess import Model, guess, with_shared_names

if TYPE_CHECKING:
    import torch

SUFFIXES = (".pt", ".pth", ".safetensors")
# Weight files of other programs; a folder of such a name is a mistake.
_OTHERS = (
    ".bin", ".ckpt", ".gguf", ".h5", ".hdf5", ".json", ".keras", ".mlmodel", ".model", ".msgpack",
    ".npy", ".npz", ".onnx", ".pb", ".pickle", ".pkl", ".pt2", ".tar", ".tflite", ".zip",
)  # fmt: skip


def is_folder(path: Path) -> bool:
    """Whether a source or destination is a folder, by its name."""
    return path.suffix not in SUFFIXES


def is_run(path: Path) -> bool:
    """Whether it is a folder of `jaxnets.train` or of `save`, or one of the checkpoints in it."""
    if not path.is_dir() or not is_folder(path):
        return False
    workdir, _ = orbax.resolve(path, "")
    inside = workdir != path and (workdir / orbax.CONFIG).is_file()
    return inside or not orbax.is_foreign(path)


def load(path: str | os.PathLike, checkpoint: str = "best") -> StateDict:
    """The tensors of a weight file or a training run by PyTorch's names, as numpy arrays.

    The arrays have the file's dtypes.  `module.` and `_orig_mod.`, which DataParallel and
    torch.compile put into names, are left out.

    Args:
        path: a PyTorch state_dict (.pt, .pth: bare, or under net, state_dict, model or
            model_state_dict), a .safetensors file, the workdir of a run of jaxnets.train or one
            checkpoint in it (<workdir>/best/<step>), a folder that `save` wrote, or an orbax
            checkpoint of another program (see `jaxnets.port.orbax`).
        checkpoint: of a workdir: "best", "last" or a step.

    Raises:
        UserError: no such file, not a weight file, damaged, or one that would run code.
    """
    path = Path(path)
    if is_run(path):
        return orbax.load(*orbax.resolve(path, checkpoint))
    return read(path, checkpoint).tensors


class Content(NamedTuple):
    """What a weight file holds."""

    tensors: StateDict
    """Weights by PyTorch's names."""
    rest: Mapping[str, Any]
    """What else is in a checkpoint: optimizer, epoch and the like, as torch opens it."""
    notes: Sequence[str] = ()
    """What is not as a state_dict has it, a line each."""


def read(path: Path, checkpoint: str = "best") -> Content:
    """All of a .pt, .pth or .safetensors file, or of another program's orbax folder;
    errors as in `load`."""
    notes: Sequence[str] = ()
    if is_folder(path) and orbax.is_foreign(path):
        tensors, notes = orbax.read_foreign(path, checkpoint)
        tensors, rest = with_shared_names(tensors), {}
    elif is_folder(path):
        missing = "not a weight file" if path.exists() else "no such file or folder"
        raise UserError(f"{path}: {missing}; give a workdir, or one of {', '.join(SUFFIXES)}")
    elif not path.is_file():
        raise UserError(f"{path}: no such file")
    elif path.suffix == ".safetensors":
        tensors, rest = safetensors.read(path).tensors, {}
    else:
        tensors, rest = _load_torch(path)
    if not tensors:
        raise UserError(f"{path}: no tensors in it")
    stripped = clean_names(tensors)
    if len(stripped) < len(tensors):
        raise UserError(f"{path}: names that differ only in {' or '.join(sorted(WRAPPING))}")
    stripped.pop("n_averaged", None)  # of torch.optim.swa_utils.AveragedModel, a count
    return Content(stripped, rest, notes)


def save(
    path: str | os.PathLike,
    state_dict: Mapping[str, np.ndarray],
    *,
    model: Model | None = None,
    force: bool = False,
    check: Callable[[Path], None] = lambda temporary: None,
) -> None:
    """Writes a state_dict of numpy arrays; its suffix is the format; without one, a folder.

    It is written beside its place and renamed, so `path` is never half a file.

    Args:
        model: whose state_dict it is, for a folder; guessed if left out.
        force: replace what is there.  A folder with anything else in it is never replaced.
        check: called with the path of what was written, before it is renamed; may refuse it.

    Raises:
        UserError: `path` exists, or cannot be written.  It is then what it was.
    """
    path = Path(path)
    check_destination(path, force)

    def write(temporary: Path) -> None:
        if path.suffix == ".safetensors":
            temporary.write_bytes(safetensors.serialize(state_dict))
        elif is_folder(path):
            orbax.save(temporary, state_dict, model or guess(dict(state_dict)))
        else:
            require_torch(path)
            save_torch(temporary, to_tensors(state_dict))

    place(path, write, check)


def place(
    path: Path,
    write: Callable[[Path], None],
    check: Callable[[Path], None] = lambda temporary: None,
) -> None:
    """Writes a file or a folder beside its place, checks it, and renames it.

    Args:
        write: called with where to write.
        check: called with what was written; may refuse it by a UserError.

    Raises:
        UserError: it was refused, or cannot be written.  `path` is then what it was.
    """
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    with writing(path, temporary):
        write(temporary)
        check(temporary)
        replace(temporary, path)


@contextlib.contextmanager
def writing(path: Path, temporary: Path) -> Iterator[None]:
    """What goes wrong meanwhile is a UserError about `path`; in the end `temporary` is removed."""
    try:
        with removing(temporary):
            yield
    except Exception as e:
        if isinstance(e, UserError):
            raise UserError(str(e).replace(str(temporary), str(path)), e.details) from e
        reason = " ".join(str(e).split())[:200].replace(str(temporary), str(path))
        raise UserError(f"{path}: cannot be written ({reason})") from e


def check_destination(path: Path, force: bool) -> None:
    """Raises a UserError if `save` would refuse to write there."""
    near = difflib.get_close_matches(path.suffix, SUFFIXES, n=1, cutoff=0.8)
    if is_folder(path) and (near or path.suffix.lower() in _OTHERS) and not path.is_dir():
        raise UserError(
            f"{path}: its suffix names no format; end it with one of {', '.join(SUFFIXES)}, or "
            "leave out the suffix for an orbax folder"
        )
    if not path.parent.is_dir():
        raise UserError(f"{path}: no folder {path.parent} to write into")
    if not os.path.lexists(path):
        return
    if not force:
        raise UserError(f"{path}: exists; choose another name, or replace it with --force")
    if path.is_dir() != is_folder(path):
        raise UserError(f"{path}: is {'a' if path.is_dir() else 'no'} folder; choose another name")
    if path.is_dir() and not orbax.is_ported(path):
        raise UserError(f"{path}: holds more than ported weights; choose another name")


def _load_torch(path: Path) -> tuple[StateDict, Mapping[str, Any]]:
    content, rest = pt_file.state_dict_in(open_torch(path))
    torch = require_torch(path)
    if not isinstance(content, Mapping) or not all(torch.is_tensor(v) for v in content.values()):
        raise UserError(
            f"{path}: holds no state_dict, neither bare nor under {', '.join(WRAPPERS)}"
        )
    try:
        return {str(name): numpy_of(tensor) for name, tensor in content.items()}, rest
    except Exception as e:
        raise UserError(f"{path}: a tensor in it cannot be read ({one_line(e)})") from e


def open_torch(path: Path) -> Any:
    """What `torch.save` wrote: containers of tensors and plain data.

    Raises:
        UserError: torch is not installed, or the file is damaged, another one, or would run code.
    """
    torch = require_torch(path)
    try:
        with warnings.catch_warnings(action="ignore"):
            return pt_file.load(torch, path)
    except Exception as e:
        # torch's own words advise to open the file in a way that may run code.
        code = "holds more than weights: code" if "nsupported" in str(e) else one_line(e)
        code = "not of its format" if "weights_only" in code or "eights only" in code else code
        raise UserError(
            f"{path}: not a PyTorch weight file, damaged, or not safe to open ({code})"
        ) from e


def require_torch(path: Path):
    """The module torch, which `path` cannot be read or written without."""
    try:
        import torch
    except ImportError as e:
        raise UserError(f"{path}: needs torch; install it, or use .safetensors") from e
    return torch


def save_torch(path: Path, content: Any) -> None:
    """`torch.save`, with an error where the disk is full."""
    buffer = io.BytesIO()
    require_torch(path).save(content, buffer)
    path.write_bytes(buffer.getvalue())  # a view of it in a traceback crashes Python 3.12.1


def to_numpy(tree: Any) -> Any:
    """Nested containers with numpy arrays in the place of tensors.

    Raises:
        ValueError, RuntimeError: a tensor that cannot be read.
    """
    import torch

    if torch.is_tensor(tree):
        return numpy_of(tree)
    if isinstance(tree, Mapping):
        return {key: to_numpy(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [to_numpy(value) for value in tree]
    return tree


def numpy_of(tensor: "torch.Tensor") -> np.ndarray:
    """The values of a tensor, bfloat16 too, without a copy if it is in the CPU's memory."""
    import torch

    tensor = tensor.detach().cpu()
    if tensor.nbytes > tensor.untyped_storage().nbytes():
        raise ValueError("its values overlap")  # a few bytes that pretend to be many
    if tensor.dtype == torch.bfloat16:  # numpy has none of its own
        return tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return tensor.numpy()


def to_tensors(state_dict: Mapping[str, np.ndarray]) -> dict[str, "torch.Tensor"]:
    """The arrays as torch tensors; names of one array share one tensor, as in a torch module."""
    import torch

    made: dict[tuple, torch.Tensor] = {}
    out = {}
    for name, value in state_dict.items():
        key = value.ctypes.data, value.shape, value.strides, value.dtype
        if key not in made:
            if value.dtype == ml_dtypes.bfloat16:
                bits = np.array(value).view(np.int16)
                made[key] = torch.from_numpy(bits).view(torch.bfloat16)
            else:
                made[key] = torch.from_numpy(np.array(value, order="C"))
        out[name] = made[key]
    return out
