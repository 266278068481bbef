"""Image files as the square uint8 arrays that networks are trained on."""

import os
import re
import warnings
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxnets.errors import UserError
from jaxnets.files.regular import open_file

_IMAGE_NAME = re.compile(r"[^.].*\.(bmp|gif|jpe?g|p[bgpn]m|png|tiff?|webp)", re.I | re.S)
_THREADS = 8  # each holds one decoded image at most
_NAMED = 3  # bad files that a message names; the others are counted


class Images(NamedTuple):
    """What `read_images` made of some paths.

    images: uint8 (N, size, size, 3), a row for each of `kept`.
    kept: the paths that could be read, in the order given.
    bad: why each of the other paths could not be read.
    resized: how many of `kept` were not size x size already.
    """

    images: np.ndarray
    kept: list[Path]
    bad: dict[Path, str]
    resized: int


def find_images(folder: Path) -> list[Path]:
    """The image files in `folder` and in all folders below it, sorted.

    They are known by their names: bmp, gif, jpeg, jpg, pbm, pgm, png, pnm, ppm, tif, tiff, webp.

    Raises:
        UserError: no such folder, or one that cannot be listed.
    """
    return [path for path in find_files(folder) if is_image_name(path.name)]


def find_files(folder: Path) -> list[Path]:
    """All files in `folder` and below it, sorted; see `find_images`.

    Hidden files and folders are left out. Links are followed, but no folder is entered twice, so
    loops of links end.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    found, seen = [], set()
    for here, folders, files in os.walk(folder, followlinks=True, onerror=_refuse_folder):
        status = os.stat(here)
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(here, name) for name in files if not name.startswith(".")]
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def is_image_name(name: str) -> bool:
    """Whether a file of this name is taken for an image.

    >>> is_image_name("Cat.JPG"), is_image_name("._cat.jpg"), is_image_name("notes.txt")
    (True, False, False)
    """
    return _IMAGE_NAME.fullmatch(name) is not None


def read_images(paths: Iterable[Path], size: int, *, skip_bad: bool = False) -> Images:
    """All of `paths` as `read_image` reads them.

    Args:
        skip_bad: leave out what cannot be read, and say so in the result, instead of raising.

    Raises:
        UserError: files that cannot be read, the first ones named; without `skip_bad`.
    """
    from tqdm import tqdm

    paths = list(paths)
    try:
        images = np.empty((len(paths), size, size, 3), np.uint8)
    except MemoryError as error:
        raise UserError(
            f"{len(paths):,} images of {size}x{size} need {len(paths) * size**2 * 3 / 1e9:.0f} GB "
            "of memory; make them smaller"
        ) from error
    kept, bad, resized = [], {}, 0

    def attempt(path: Path) -> tuple[np.ndarray, bool] | UserError:
        try:
            return read_image(path, size)
        except UserError as error:
            return error

    pool = ThreadPoolExecutor(_THREADS)
    try:
        # Filters of warnings belong to the process: set around the threads, not within them.
        with warnings.catch_warnings(action="ignore"):
            results = tqdm(
                pool.map(attempt, paths), "reading images", len(paths), leave=False, disable=None
            )
            for path, result in zip(paths, results, strict=True):
                if isinstance(result, UserError):
                    bad[path] = str(result)
                    continue
                images[len(kept)], was_resized = result
                kept.append(path)
                resized += was_resized
    finally:
        pool.shutdown(cancel_futures=True)  # Ctrl-C must not wait for the images still to come
    if bad and not skip_bad:
        raise UserError(f"{describe_bad(bad, len(paths))}; mend or remove them")
    return Images(images[: len(kept)], kept, bad, resized)


def describe_bad(bad: Mapping[Path, str], total: int) -> str:
    """How many of `total` images are bad, and the first of them with what is wrong.

    >>> describe_bad({Path("a.png"): "a.png: is empty"}, 20)
    '1 of 20 images cannot be read (a.png: is empty)'
    """
    named = "; ".join(islice(bad.values(), _NAMED))
    more = f"; and {len(bad) - _NAMED} more" if len(bad) > _NAMED else ""
    return f"{len(bad)} of {total:,} images cannot be read ({named}{more})"


def _refuse_folder(error: OSError) -> None:
    raise UserError(f"{error.filename}: cannot be listed ({error.strerror})") from error


def read_image(path: Path, size: int) -> tuple[np.ndarray, bool]:
    """The image as RGB, uint8 (size, size, 3), and whether it had another size.

    The central square is cut out and resized, bilinearly and antialiased, so the shorter side
    fits and the ends of the longer one are lost; an image of size x size keeps its pixels. The
    camera's orientation (EXIF) is applied, transparency is laid on white, 16 bits are scaled to 8,
    grey becomes three equal channels, and of an animation the first frame counts.

    Raises:
        UserError: a file that cannot be read, is damaged or cut short, has more than 178 million
            pixels, or pixels without a known range (32 bits, floating point).
    """
    from PIL import Image, ImageOps

    try:
        with open_file(path) as file:
            if not os.fstat(file.fileno()).st_size:
                raise UserError(f"{path}: is empty")
            with Image.open(file) as image:
                image = _rgb(ImageOps.exif_transpose(image), path)
    except UserError:
        raise
    except Image.UnidentifiedImageError as error:
        raise UserError(f"{path}: is no image of a known kind") from error
    except Image.DecompressionBombError as error:
        raise UserError(f"{path}: has more than 178 million pixels") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
    except Exception as error:  # whatever Pillow's decoders make of a damaged file
        raise UserError(f"{path}: is damaged ({error})") from error
    if image.size == (size, size):
        return np.asarray(image), False
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    box = (left, top, left + side, top + side)
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR, box=box)), True


def _rgb(image: Any, path: Path) -> Any:
    """A Pillow image of any mode as mode RGB."""
    from PIL import Image

    if image.mode.startswith("I"):  # 16 bits, which Pillow would clip to 8
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise UserError(f"{path}: has 32-bit pixels; save it with 8 or 16 bits")
        return Image.fromarray(np.rint(values / 257).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise UserError(f"{path}: has floating-point pixels; save it with 8 or 16 bits")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")
