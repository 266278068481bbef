"""The PyTorch reference: the networks, optimizers and training of `jaxnets`, to compare with."""
