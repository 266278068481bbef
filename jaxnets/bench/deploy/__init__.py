"""Exported networks on a CPU: time, size and memory of each file in its own runtime.

Imports export, and JAX, torch and onnxruntime lazily, each only where it runs; `bench --deploy`
calls it.
"""
