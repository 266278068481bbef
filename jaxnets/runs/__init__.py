"""A run's folder and its words: configuration, log, record of starts, console, its process.

Both trainers keep their runs with it, so it imports neither jax nor torch; the commands, report,
results and port read runs through it.
"""
