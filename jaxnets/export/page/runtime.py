"""onnxruntime-web, which runs a network in a browser: a package of npm, pinned and checked."""

import base64
import hashlib
import io
import tarfile
from pathlib import Path

from jaxnets.errors import UserError
from jaxnets.files.regular import read_bytes
from jaxnets.files.user_cache import user_cache

VERSION = "1.30.0"
# As `npm view onnxruntime-web@1.30.0 dist.integrity` says it.
INTEGRITY = (
    "sha512-q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8p"
    "ZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
)
PACKAGE = f"onnxruntime-web-{VERSION}.tgz"
MODULE, WASM = "ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm"
_HOW = f"get it by `npm pack onnxruntime-web@{VERSION}` and give --runtime {PACKAGE}"


def read_runtime(given: Path | None) -> dict[str, bytes]:
    """The files of it that a page needs, by their names; nothing is downloaded.

    Args:
        given: the package; if left out, the one in the user's cache.

    Raises:
        UserError: none is there, or it is another one than the pinned.
    """
    cache = user_cache()
    path = given or (cache / PACKAGE if cache else None)
    if path is None or (given is None and not path.is_file()):
        raise UserError(f"--page: needs onnxruntime-web {VERSION}: {_HOW}")
    try:
        data = read_bytes(path)
    except OSError as e:
        raise UserError(f"--runtime {path}: cannot be read ({e.strerror}); {_HOW}") from e
    if integrity(data) != INTEGRITY:
        raise UserError(
            f"--runtime {path}: is not onnxruntime-web {VERSION}, its SHA-512 is another; {_HOW}"
        )
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        members = {name: archive.extractfile(f"package/dist/{name}") for name in (MODULE, WASM)}
        return {name: member.read() for name, member in members.items()}


def integrity(data: bytes) -> str:
    """A file's SHA-512 as npm writes it."""
    return f"sha512-{base64.b64encode(hashlib.sha512(data).digest()).decode()}"
