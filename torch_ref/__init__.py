"""The PyTorch reference: the networks, optimizers and training of `jaxnets`, to compare with."""

__all__ = ["create_model"]


def __getattr__(name: str):
    if name == "create_model":  # at first use: the trainer sets torch up before anything imports it
        from torch_ref.models import create_model

        return create_model
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
