"""Weight files of PyTorch: .pt and .pth (opened without running code), and .safetensors."""

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from jaxnets.errors import UserError
from jaxnets.port.names import StateDict

# Where training scripts put the state_dict inside a larger checkpoint.
_WRAPPERS = ("net", "state_dict", "model", "model_state_dict")
# What DataParallel and torch.compile put before every name.
_PREFIXES = ("module.", "_orig_mod.")

SUFFIXES = (".pt", ".pth", ".safetensors")


def load(path: str | os.PathLike) -> StateDict:
    """The tensors of a weight file by PyTorch's names, as numpy arrays of the file's dtypes.

    Raises:
        UserError: no such file, not a weight file, damaged, or one that would run code.
    """
    path = Path(path)
    if path.suffix not in SUFFIXES:
        raise UserError(f"{path}: not a weight file; give one of {', '.join(SUFFIXES)}")
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    tensors = _load_safetensors(path) if path.suffix == ".safetensors" else _load_torch(path)
    if not tensors:
        raise UserError(f"{path}: no tensors in it")
    return {_strip(name): value for name, value in tensors.items()}


def _load_safetensors(path: Path) -> StateDict:
    from safetensors.numpy import load_file

    try:
        return load_file(path)
    except Exception as e:
        raise UserError(f"{path}: not a safetensors file, or damaged ({e})") from e


def _load_torch(path: Path) -> StateDict:
    try:
        import torch
    except ImportError as e:
        raise UserError(f"{path}: reading it needs torch; install it, or use .safetensors") from e
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as e:
        reason = str(e).strip().splitlines()[0] if str(e).strip() else type(e).__name__
        raise UserError(
            f"{path}: not a PyTorch weight file, damaged, or holding more than weights "
            f"({reason[:160]})"
        ) from e
    if isinstance(content, Mapping):
        for key in _WRAPPERS:
            if isinstance(content.get(key), Mapping):
                content = content[key]
                break
    if not isinstance(content, Mapping) or not all(torch.is_tensor(v) for v in content.values()):
        raise UserError(
            f"{path}: holds no state_dict, neither bare nor under {', '.join(_WRAPPERS)}"
        )
    return {str(name): _numpy(tensor) for name, tensor in content.items()}


def _numpy(tensor) -> np.ndarray:
    import torch

    if tensor.dtype == torch.bfloat16:  # numpy has none of its own
        import ml_dtypes

        return tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return tensor.numpy()


def _strip(name: str) -> str:
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    return name
