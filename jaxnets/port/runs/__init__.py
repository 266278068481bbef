"""Whole training runs between both trainers: read, converted, written, their optimizers too.

Imports the rest of port, checkpoints, runs, optim and the state of training; python -m jaxnets.port
--with-optimizer calls it.
"""
