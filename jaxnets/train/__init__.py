"""Training: the command, a run's task, the compiled step and evaluation, the loop.

Imports checkpoints, runs, devices, models, optim, augment and data; parity and the bench call its
parts.
"""
