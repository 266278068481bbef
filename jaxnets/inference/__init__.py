"""Trained networks: loading one or an ensemble, images in, scores out.

Imports checkpoints, runs, devices, models, optim and data; evaluate, predict, report and the Python
API call it.
"""
