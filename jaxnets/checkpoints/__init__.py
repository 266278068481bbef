"""Checkpoints of jaxnets.train: which there are, one as a folder.

Built on orbax; imports files.  Training writes them; inference, evaluation and port
read them.
"""
