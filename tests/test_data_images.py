"""Image files of every kind as square RGB arrays; what cannot be read is named."""

import os
import sys
import time

import numpy as np
import pytest
from PIL import Image

from jaxnets.data import images
from jaxnets.data.images import find_images, read_image, read_images
from jaxnets.errors import UserError

RED, WHITE = [255, 0, 0], [255, 255, 255]


def noise(height: int, width: int, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, channels), dtype=np.uint8)


def save(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(path, **options)
    return path


def test_images_are_found_sorted_in_all_folders_without_hidden_ones(tmp_path):
    for name in ("b/2.PNG", "b/10.jpeg", "a.gif", "c/d/e.WebP", ".hidden/x.png", "b/._2.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "notes.txt").touch()
    (tmp_path / "png").touch()
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "elsewhere").symlink_to(tmp_path / "c")
    (tmp_path / "c" / "loop").symlink_to(tmp_path)
    found = [path.relative_to(tmp_path).as_posix() for path in find_images(tmp_path)]
    assert found == ["a.gif", "b/10.jpeg", "b/2.PNG", "c/d/e.WebP"]
    with pytest.raises(UserError, match="nowhere: no such folder"):
        find_images(tmp_path / "nowhere")


@pytest.mark.parametrize("suffix", ["png", "bmp", "ppm", "tif", "gif"])
def test_images_of_the_right_size_keep_their_pixels(suffix, tmp_path):
    pixels = noise(32, 32) & 0x80  # few enough colours for a GIF
    got, resized = read_image(save(tmp_path / f"x.{suffix}", pixels), 32)
    np.testing.assert_array_equal(got, pixels)
    assert got.dtype == np.uint8
    assert not resized


def test_the_central_square_is_kept(tmp_path):
    pixels = noise(20, 31)
    got, resized = read_image(save(tmp_path / "wide.png", pixels), 20)
    np.testing.assert_array_equal(got, pixels[:, 5:25])
    assert resized
    got, _ = read_image(save(tmp_path / "tall.png", pixels.transpose(1, 0, 2)), 20)
    np.testing.assert_array_equal(got, pixels.transpose(1, 0, 2)[5:25])


def test_shrinking_averages_and_does_not_skip_pixels(tmp_path):
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    got, _ = read_image(save(tmp_path / "stripes.png", stripes), 16)
    assert np.abs(got.astype(int) - 127).max() <= 16


def test_enlarging_is_bilinear(tmp_path):
    pixels = np.zeros((1, 2, 3), np.uint8)
    pixels[:, 1] = 200
    got, _ = read_image(save(tmp_path / "two.png", np.repeat(pixels, 2, 0)), 4)
    np.testing.assert_array_equal(got[0, :, 0], [0, 50, 150, 200])


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr", "LA", "PA", "RGBA"])
def test_every_mode_becomes_rgb(mode, tmp_path):
    black_and_white = np.zeros((8, 8, 3), np.uint8)
    black_and_white[2:5] = 255
    image = Image.fromarray(black_and_white)
    image = image.convert("P").convert(mode) if mode == "PA" else image.convert(mode)
    path = save(tmp_path / "x.tif", image)
    with Image.open(path) as stored:
        assert stored.mode == mode
    np.testing.assert_array_equal(read_image(path, 8)[0], black_and_white)


def test_transparency_is_laid_on_white(tmp_path):
    rgba = np.zeros((2, 2, 4), np.uint8)
    rgba[0, 0], rgba[0, 1], rgba[1, 0], rgba[1, 1] = (
        (255, 0, 0, 255), (255, 0, 0, 0), (0, 0, 0, 0), (0, 0, 0, 51),
    )  # fmt: skip
    got, _ = read_image(save(tmp_path / "rgba.png", rgba), 2)
    np.testing.assert_array_equal(got, [[RED, WHITE], [WHITE, [204] * 3]])
    palette = Image.new("P", (2, 1))
    palette.putpalette([255, 0, 0, 0, 0, 0])
    palette.putpixel((1, 0), 1)
    path = save(tmp_path / "palette.gif", palette.resize((2, 2), 0), transparency=1)
    np.testing.assert_array_equal(read_image(path, 2)[0], [[RED, WHITE]] * 2)


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_sixteen_bits_are_scaled(suffix, tmp_path):
    rows = [[0, 257 * 3, 257 * 200 + 100], [40000, 65535, 129], [128, 1, 65406]]
    values = np.array(rows, np.uint16)
    got, _ = read_image(save(tmp_path / f"x.{suffix}", values), 3)
    np.testing.assert_array_equal(got[..., 0], np.rint(values / 257))
    assert (got == got[..., :1]).all()


def test_the_orientation_of_the_camera_is_applied(tmp_path):
    pixels, exif = noise(8, 8), Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by a quarter
    path = save(tmp_path / "turned.png", pixels, exif=exif)
    np.testing.assert_array_equal(read_image(path, 8)[0], np.rot90(pixels, -1))


def test_of_an_animation_the_first_frame_counts(tmp_path):
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "lime")]
    path = save(tmp_path / "x.gif", frames[0], save_all=True, append_images=frames[1:])
    assert (read_image(path, 4)[0] == RED).all()


@pytest.mark.parametrize(
    ("name", "blob", "says"),
    [
        ("empty.png", b"", "is empty"),
        ("text.jpg", b"<html>not found</html>", "is no image of a known kind"),
        ("bomb.ppm", b"P6 20000 20000 255 ", "more than 178 million pixels"),
        ("cut.png", 0.5, "truncated"),
        ("cut.jpg", 0.9, "truncated"),
        ("cut.gif", 0.5, "truncated"),
        ("cut.bmp", 0.5, "truncated"),
        ("cut.tif", 0.5, "cannot be read"),
        ("cut.webp", 0.5, "cannot be read"),
    ],
)
def test_bad_files_are_named_in_one_line(name, blob, says, tmp_path):
    path = tmp_path / name
    if isinstance(blob, float):
        whole = save(path, noise(64, 64)).read_bytes()
        blob = whole[: int(blob * len(whole))]
    path.write_bytes(blob)
    with pytest.raises(UserError, match=says) as error:
        read_image(path, 32)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


def test_what_is_no_file_is_named(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "self.png").symlink_to(tmp_path / "self.png")
    for name, says in (
        ("none.png", "No such file"),
        (".", "is a folder"),
        ("pipe.png", "is no regular file"),
        ("self.png", "symbolic links"),
    ):
        with pytest.raises(UserError, match=says):
            read_image(tmp_path / name, 32)


@pytest.mark.parametrize(
    ("pixels", "says"),
    [(np.ones((4, 4), np.float32), "floating-point"), (np.full((4, 4), 1 << 16, "i4"), "32-bit")],
    ids=["float", "int"],
)
def test_pixels_without_a_range_are_refused(pixels, says, tmp_path):
    path = save(tmp_path / "x.tif", pixels)
    with pytest.raises(UserError, match=says):
        read_image(path, 4)


def test_many_at_once(tmp_path):
    paths = [save(tmp_path / f"{i}.png", noise(8, 8 + i) // (i + 1)) for i in range(20)]
    result = read_images(paths, 8)
    assert result.images.shape == (20, 8, 8, 3)
    for path, image in zip(paths, result.images, strict=True):
        np.testing.assert_array_equal(image, read_image(path, 8)[0])
    assert (result.kept, result.bad, result.resized) == (paths, {}, 19)
    assert read_images([], 8).images.shape == (0, 8, 8, 3)


def test_bad_ones_among_many_are_counted_and_named_or_skipped(tmp_path):
    paths = [save(tmp_path / f"{i}.png", noise(8, 8) // (i + 1)) for i in range(10)]
    for bad in (paths[1], paths[4], paths[5], paths[9]):
        bad.write_bytes(b"noise")
    with pytest.raises(UserError) as error:
        read_images(paths, 8)
    text = str(error.value)
    assert text.startswith("4 of 10 images cannot be read (")
    assert [f"{i}.png: is no image" in text for i in (1, 4, 5, 9)] == [True, True, True, False]
    assert "and 1 more" in text
    result = read_images(paths, 8, skip_bad=True)
    good = [paths[i] for i in (0, 2, 3, 6, 7, 8)]
    assert (result.kept, list(result.bad)) == (good, [paths[1], paths[4], paths[5], paths[9]])
    np.testing.assert_array_equal(result.images[3], read_image(paths[6], 8)[0])


def test_an_interruption_does_not_wait_for_the_rest(tmp_path, monkeypatch):
    read = []

    class Interrupted:
        def __iter__(self):  # within the main thread
            raise KeyboardInterrupt

    def slow(path, size):
        read.append(path)
        time.sleep(0.01)
        return Interrupted()

    monkeypatch.setattr(images, "read_image", slow)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)  # shows the bar
    with pytest.raises(KeyboardInterrupt):
        read_images([tmp_path] * 1000, 4)
    assert len(read) < 500
