"""JAX against PyTorch: the same numbers in, and how far apart the numbers that come out are."""
