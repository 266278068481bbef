"""What is done to a batch of images on the device: options, pipeline, image operations, policies.

The tables and options import no jax (the PyTorch twin reads the same ones); the training step and
its twin call it.
"""
