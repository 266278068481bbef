"""Checkpoints of jaxnets.train: which there are, one as a folder, writing behind training.

Built on orbax; imports files and devices.  Training writes them; inference, evaluation and port
read them.
"""
