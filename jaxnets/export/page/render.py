"""index.html of a page: what stands there before its script runs."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Any, NamedTuple

from jaxnets.export.page.folder import RUNTIME, SCRIPTS, sample_file
from jaxnets.export.page.runtime import MODULE, WASM
from jaxnets.export.page.samples import Samples
from jaxnets.report import html
from jaxnets.report.html import escape
from jaxnets.report.page import document, selection

# Nothing comes from elsewhere or goes there, and no code runs but the files of the folder.
_POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; connect-src 'self'; "
    "img-src 'self' data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
)
_HERE = Path(__file__).parent


class Model(NamedTuple):
    """A file of the network that the page can run."""

    name: str
    """What it computes in: float32 or int8."""
    file: str
    size: int
    """Bytes."""
    about: Mapping[str, Any]
    """What it says of itself, see `jaxnets.export.about`."""


def render(models: Sequence[Model], samples: Samples, runtime: Mapping[str, bytes]) -> str:
    """The page.

    Args:
        models: the first of which is run at first.
        runtime: what `read_runtime` gives.
    """
    about = models[0].about
    origin, size = about["origin"], about["image_size"]
    title = str(origin.get("weights") or origin.get("workdir"))
    data = {
        "size": size,
        "classes": about["class_names"],
        "models": [{"name": m.name, "file": m.file, "size": m.size} for m in models],
        "runtime": {
            "module": f"{RUNTIME}/{MODULE}",
            "wasm": f"{RUNTIME}/{WASM}",
            "size": len(runtime[WASM]),
        },
    }
    content = Template((_HERE / "body.html").read_text()).substitute(
        title=escape(title),
        about=escape(
            f"{about['model']} tells {len(about['class_names']):,} classes apart. It runs in this "
            "browser; no image is sent anywhere."
        ),
        size=size,
        origin=escape(samples.origin),
        samples="".join(map(_sample, range(len(samples.names)), samples.names)),
        switch=_switch(models),
        tiles=html.tiles(_tiles(models)),
        facts=html.details("About this network", html.facts(_facts(models))),
        # A class may be called </script>.
        data=json.dumps(data).replace("<", "\\u003c"),
    )
    style = (_HERE / "page.css").read_text()
    return document(title, [content], policy=_POLICY, style=style, script=SCRIPTS[0])


def _sample(index: int, name: str) -> str:
    return (
        f'<li><button type="button" aria-pressed="false"><img src="{sample_file(index)}" alt="">'
        f"{escape(name)}</button></li>"
    )


def _switch(models: Sequence[Model]) -> str:
    if len(models) == 1:
        return ""
    radios = "".join(
        f'<label><input type="radio" name="model" value="{i}"{" checked" * (i == 0)}>'
        f"{escape(model.name)} <small>{model.size / 1e6:.2f} MB</small></label>"
        for i, model in enumerate(models)
    )
    return f'<fieldset class="switch" id="switch"><legend>Precision</legend>{radios}</fieldset>'


def _tiles(models: Sequence[Model]) -> dict[str, str]:
    about = models[0].about
    tiles = {"one image": "...", "file": "..."}  # said by the script
    accuracy = about["origin"].get("test_accuracy")
    if accuracy is not None:
        whose = "" if len(models) == 1 else f", {models[0].name}"
        tiles[f"test accuracy{whose}"] = f"{accuracy:.2%}"
    return tiles | {"parameters": f"{about['parameters']:,}"}


def _facts(models: Sequence[Model]) -> dict[str, str]:
    about = models[0].about
    origin = about["origin"]
    options = ", ".join(f"{k}={v}" for k, v in about["options"].items())
    epoch = "" if origin.get("epoch") is None else f"After epoch {origin['epoch']}. "
    int8 = next((m.about["int8"] for m in models if "int8" in m.about), None)
    return {
        "network": f"{about['model']}: {options}",
        "weights": f"{epoch}{selection(origin.get('selected_on'))}",
        **({} if int8 is None else {"int8": _int8(int8)}),
        "SHA-256": f"{about['weights_sha256']}, of all tensors",
        "made with": ", ".join(f"{k} {v}" for k, v in about["versions"].items()),
    }


def _int8(said: Mapping[str, Any]) -> str:
    kept = ", ".join(said["layers_in_float"])
    return (  # not from which folder: the page may be for everybody
        f"{said['accuracy_int8']:.2%} right, and {said['accuracy_float32']:.2%} in float32, of "
        f"{said['images']:,} {said['split']} images; {said['agreement']:.1%} of the predictions "
        f"are the same. Layers left in float: {kept or 'none'}."
    )
