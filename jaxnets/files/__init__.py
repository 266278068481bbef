"""Files, read and written safely.

Only regular files are read, and what they hold is looked at before it is converted or unpickled;
files are written beside their place and renamed, so that none is half-written.  Imports neither jax
nor torch, and of this project only errors and signals; whoever touches a file calls it.
"""
