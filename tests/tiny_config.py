"""A network of one block on a part of the digits: for tests of everything around the network."""

from configs.quickstart import get_config as quickstart


def get_config(preset: str = "documented"):
    c = quickstart(preset)
    c.name = "tiny"
    c.model.num_blocks, c.model.num_channels = (1,), 4
    c.model.se = "none"
    c.model.drop = 0.1
    c.optim.lookahead.k = 2
    c.batch_size, c.num_epochs = 400, 3
    return c
