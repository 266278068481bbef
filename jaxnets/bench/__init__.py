"""How fast the networks train, evaluate and answer, here and now, beside their PyTorch twins."""
