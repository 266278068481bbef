"""What a process computes on: set-up of jax, devices, and several processes.

Set-up (`runtime`, with the flags and memory of a CPU), the layout of arrays over devices, joining
processes and agreeing with them, and the machine's description.  Imports jax lazily where a command
must set it up first; the commands, training, inference and the bench call it.
"""
