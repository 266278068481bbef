"""Weights and whole runs between Flax and PyTorch.

Files of both worlds, networks that differ in form, optimizers.  Imports models, optim, checkpoints,
runs and the state of training, and torch lazily; python -m jaxnets.port, parity and the Python API
call it.
"""

from jaxnets import lazily

__getattr__, __all__ = lazily(
    __name__,
    {
        "files": "load save",
        "modules": "from_state_dict from_torch to_state_dict to_torch",
        "weights": "load_weights read_weights",
    },
)
