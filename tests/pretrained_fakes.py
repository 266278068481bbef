"""Weights of a small network with an index of its own, in the place of the project's."""

import dataclasses
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
from flax import nnx

import jaxnets
from jaxnets import config as configs
from jaxnets.models.torch_names import to_state_dict
from jaxnets.pretrained import index, weights
from jaxnets.pretrained.index import Entry

MODEL = "se_resnet"
OPTIONS = {"num_blocks": (1,), "num_channels": 4, "se": "none", "drop": 0.1}
CLASSES = ("oak", "elm", "ash")
MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)


def network() -> nnx.Module:
    """The network, with weights that no seed of its own draws."""
    return jaxnets.create_model(MODEL, len(CLASSES), rngs=nnx.Rngs(7), **OPTIONS)


def config():
    """What it was trained with."""
    found = configs.default_config()
    found.model.name = MODEL
    for key, value in OPTIONS.items():
        found.model[key] = value
    found.data.mean, found.data.std = MEAN, STD
    return found


def publish(folder: Path, name: str = "trees", **fields: object) -> Entry:
    """Writes `name`.safetensors and an index that lists it alone."""
    file = folder / f"{name}.safetensors"
    meta = {"class_names": list(CLASSES), "step": 5, "epoch": 2}
    sha256 = weights.save(file, to_state_dict(network()), config(), meta)
    entry = Entry(name, MODEL, len(CLASSES), OPTIONS, sha256, file.stat().st_size, file=file.name)
    entry = dataclasses.replace(entry, **fields)
    (folder / index.INDEX).write_text("{}")
    index.write({name: entry})
    return entry


@contextmanager
def served(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """The address of a server of the folder's files, and the paths that were asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            file = folder / self.path.lstrip("/")
            if not file.is_file():
                self.send_error(404)
                return
            self.send_response(200)
            self.end_headers()
            self.wfile.write(file.read_bytes())

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def images(count: int = 5) -> np.ndarray:
    """uint8 (count, 32, 32, 3), the same ones every time."""
    return np.random.default_rng(3).integers(0, 256, (count, 32, 32, 3), np.uint8)
