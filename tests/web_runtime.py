"""onnxruntime-web for tests of pages: a stand-in that anybody may have, and the real one if here.

The stand-in has the interface of the real one, as far as the page calls it.  Its network knows the
sums of the pixels and the size of the model's file alone: `stand_in_answers` says them in Python.
"""

import functools
import http.server
import io
import tarfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from jaxnets.errors import UserError
from jaxnets.export.page import runtime

_MODULE = """
export const env = { wasm: {} };
export class Tensor {
  constructor(type, data, dims) {
    if (type !== "uint8" || data.length !== dims.reduce((a, b) => a * b)) throw new Error(type);
    Object.assign(this, { data, dims });
  }
}
let running = false;
export const InferenceSession = {
  async create(model) {
    if (env.wasm.numThreads !== 1) throw new Error("more than one thread");
    if (new TextDecoder().decode(env.wasm.wasmBinary) !== "wasm") throw new Error("no wasm");
    return {
      async run({ images: { data } }) {
        if (running) throw new Error("another call is running");
        running = true;
        await new Promise((done) => setTimeout(done));
        running = false;
        const sums = new Array(10).fill(model.length % 1000);
        data.forEach((value, i) => (sums[i % 10] += value));
        const total = sums.reduce((a, b) => a + b);
        return { probabilities: { data: Float32Array.from(sums, (sum) => sum / total) } };
      },
    };
  },
};
"""


def stand_in_answers(image: np.ndarray, model: Path) -> np.ndarray:
    """The probabilities that the stand-in gives for an image, uint8 (H, W, 3)."""
    flat = image.ravel().astype(np.int64)
    sums = np.array([flat[i::10].sum() for i in range(10)]) + model.stat().st_size % 1000
    return sums / sums.sum()


def stand_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The package of it, which is the pinned one from now on."""
    path = folder / runtime.PACKAGE
    pack(path, {runtime.MODULE: _MODULE.encode(), runtime.WASM: b"wasm"})
    monkeypatch.setattr(runtime, "INTEGRITY", runtime.integrity(path.read_bytes()))
    return path


def pack(path: Path, files: Mapping[str, bytes]) -> None:
    """A package of npm with these files in dist/."""
    with tarfile.open(path, "w:gz") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(f"package/dist/{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


def real() -> dict[str, bytes]:
    """The files of the pinned package; skips a test where it is not in the user's cache."""
    try:
        return runtime.read_runtime(None)
    except UserError as e:
        pytest.skip(f"the real onnxruntime-web is not in the cache: {e}")


class Server(NamedTuple):
    """A web server of a folder, as `python -m http.server` is one."""

    url: str
    asked: list[str]
    """The paths that it was asked for."""


@contextmanager
def served(folder: Path) -> Iterator[Server]:
    asked = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            asked.append(self.path)

    handler = functools.partial(Handler, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield Server(f"http://127.0.0.1:{server.server_port}/", asked)
        finally:
            server.shutdown()
            thread.join()
