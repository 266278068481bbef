"""PyTorch's tensors and files as numpy arrays, opened without running code."""

import io
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np

from jaxnets.errors import UserError
from jaxnets.files import pt_check, regular

if TYPE_CHECKING:
    import torch


def open_file(path: Path) -> Any:
    """What `torch.save` wrote: containers of tensors and plain data.

    Raises:
        UserError: torch is not installed, or the file is damaged, another one, or would run code.
    """
    torch = require(path)
    try:
        with regular.open_file(path) as file, warnings.catch_warnings(action="ignore"):
            pt_check.check(file)
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as e:
        # torch's own words advise to open the file in a way that may run code.
        code = "holds more than weights: code" if "nsupported" in str(e) else one_line(e)
        code = "not of its format" if "weights_only" in code or "eights only" in code else code
        raise UserError(
            f"{path}: not a PyTorch weight file, damaged, or not safe to open ({code})"
        ) from e


def require(path: Path):
    """The module torch, which `path` cannot be read or written without."""
    try:
        import torch
    except ImportError as e:
        raise UserError(f"{path}: needs torch; install it, or use .safetensors") from e
    return torch


def save_file(path: Path, content: Any) -> None:
    """`torch.save`, which does not say by itself that a disk is full."""
    buffer = io.BytesIO()
    require(path).save(content, buffer)
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


def one_line(error: Exception) -> str:
    """The first line of what an error says, cut to fit a line."""
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:160]
