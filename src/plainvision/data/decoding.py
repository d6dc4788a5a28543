"""Decode one image, in the same way from every source and in every command.

The result is turned as a viewer shows it (EXIF), has 8 bits a channel, and is the first frame. An image that cannot be
decoded so is an error that says why.
"""

import os
import re
import warnings
from typing import BinaryIO

import numpy as np
from PIL import Image

from plainvision.data.settings import Data

_ENDINGS = Image.registered_extensions()
# No other decoder is started, whatever a file claims to be: some of Pillow's run other programs.
_WANTED = ("AVIF", "BMP", "DIB", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
_FORMATS = tuple(name for name in _WANTED if name in Image.OPEN)  # an old Pillow lacks some
EXTENSIONS = tuple(sorted(ending for ending, name in _ENDINGS.items() if name in (*_FORMATS, "MPO")))  # MPO is a JPEG
_ALL_IMAGES = {
    *EXTENSIONS,
    *(".3fr", ".arw", ".avif", ".bpg", ".cr2", ".cr3", ".dds", ".dng", ".eps", ".exr", ".hdr", ".heic", ".heif"),
    *(".hif", ".icns", ".ico", ".jls", ".jp2", ".jxl", ".jxr", ".nef", ".orf", ".pcx", ".pef", ".psd", ".qoi", ".raf"),
    *(".ras", ".rw2", ".sgi", ".srw", ".svg", ".tga", ".wdp", ".webp", ".xbm", ".xcf", ".xpm"),
}
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ORIENTATION, _BITS_PER_SAMPLE, _PHOTOMETRIC, _WHITE_IS_ZERO = 0x0112, 258, 262, 0  # names of EXIF and TIFF


def decode(file: BinaryIO, mode: str, max_pixels: int = Data.max_pixels) -> Image.Image:
    """Return the picture in ``file``, in Pillow's ``mode`` L or RGB; the file is closed.

    Raises:
        ValueError: it has more than ``max_pixels``, or pixels that mean nothing in 8 bits.
        Exception: a damaged file makes decoders raise nearly anything.
    """
    if Image.MAX_IMAGE_PIXELS is not None and max_pixels > Image.MAX_IMAGE_PIXELS:
        Image.MAX_IMAGE_PIXELS = max_pixels  # Pillow has a bound of its own, for the whole process
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a million photos, many have metadata that is worth a warning
        with file, Image.open(file, formats=_FORMATS) as image:
            width, height = image.size
            if width * height > max_pixels:
                raise ValueError(f"{width} x {height} pixels are more than data.max_pixels={max_pixels}")
            return picture_of(image, mode)


def picture_of(image: Image.Image, mode: str) -> Image.Image:
    """Return an opened image upright, with 8 bits a channel, in Pillow's ``mode`` L or RGB.

    Raises:
        ValueError: its pixels mean nothing in 8 bits.
        Exception: a damaged file makes decoders raise nearly anything.
    """
    image.load()
    turn = _TURNS.get(_orientation(image))
    picture = _eight_bits(image)
    # Pillow warns when a palette with transparency loses it in one step.
    if picture.mode == "P" and "transparency" in picture.info:
        picture = picture.convert("RGBA")
    picture = picture.convert(mode)
    return picture if turn is None else picture.transpose(turn)


def check_bytes(size: int, max_pixels: int) -> None:
    """Raise a `ValueError`, before a file is read into memory, where no image of ``max_pixels`` is so long."""
    if size > 4 * max_pixels + 2**20:
        raise ValueError(f"{size} bytes are more than an image of data.max_pixels={max_pixels} takes")


def is_image(path: str) -> bool:
    """Return whether a file's name ends like an image that can be read."""
    return os.path.splitext(path)[1].lower() in EXTENSIONS


def looks_like_image(path: str) -> bool:
    """Return whether a file's name ends like an image's, of a kind that is read or of another."""
    return os.path.splitext(path)[1].lower() in _ALL_IMAGES


def reason(error: Exception) -> str:
    """Return why an image could not be read, the same in every run: without memory addresses and paths."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return re.sub(r" ?<_io\.[^>]*>", "", str(error)) or type(error).__name__


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # damaged metadata, which a viewer passes over
        return 1


def _eight_bits(image: Image.Image) -> Image.Image:
    """Return an image of more bits a pixel scaled to 8, which Pillow would clip."""
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        tags = getattr(image, "tag_v2", {})  # of a TIFF
        (bits,) = tags.get(_BITS_PER_SAMPLE, (16,))
        values = np.asarray(image).astype(np.float64) * (255 / (2**bits - 1))
        if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
            values = 255 - values
        return Image.fromarray(np.round(values).astype(np.uint8))
    if image.mode in ("I", "F"):
        kind = "32-bit integers" if image.mode == "I" else "floating-point numbers"
        raise ValueError(f"its pixels are {kind}, which have no meaning in 8 bits; save it with 8 or 16 bits a pixel")
    return image
