"""The folder of a page, which appears as a whole or not at all."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from jaxnets.errors import UserError
from jaxnets.export.page.folder import INDEX, MODELS, RUNTIME, SAMPLES, SCRIPTS, sample_file
from jaxnets.export.page.render import Model, render
from jaxnets.export.page.samples import samples
from jaxnets.export.write import Refused
from jaxnets.files import atomic

Export = Callable[[Path], Any]
"""Writes a file of the network, proved; what it returns has its `about`."""


def write_page(
    folder: Path, exports: Mapping[str, Export], config: Any, runtime: Mapping[str, bytes]
) -> dict[str, Any]:
    """Writes a page that runs a network.

    Args:
        folder: replaced if it exists; see `check_folder`.
        exports: what writes the network's files, by keys of MODELS.
        config: whose data the samples are of.
        runtime: what `read_runtime` gives.

    Returns: what the exports have returned, by the same keys.

    Raises:
        UserError: it cannot be written.  There is then no folder, or the older one.
        Refused: by an export; the same.
    """
    target = folder.resolve()  # of a link, what it points to is replaced
    aside = target.with_name(f".{target.name[:40]}.{os.getpid()}.tmp")
    with atomic.writing(f"--page {folder}"), atomic.removing(aside):
        aside.mkdir()
        try:
            done = {name: export(aside / MODELS[name]) for name, export in exports.items()}
        except (UserError, Refused) as e:
            raise type(e)(str(e).replace(str(aside), str(folder))) from e
        for part in (SAMPLES, RUNTIME):
            (aside / part).mkdir()
        offered = samples(config)
        for i, image in enumerate(offered.images):
            Image.fromarray(image).save(aside / sample_file(i), "PNG")
        for name, data in runtime.items():
            (aside / RUNTIME / name).write_bytes(data)
        for name in SCRIPTS:
            (aside / name).write_bytes((Path(__file__).parent / name).read_bytes())
        models = [
            Model(name, MODELS[name], (aside / MODELS[name]).stat().st_size, made.about)
            for name, made in done.items()
        ]
        page = render(models, offered, runtime)
        (aside / INDEX).write_text(page, encoding="utf-8", errors="replace")
        atomic.replace(aside, target)
    return done
