"""Moved to `plainvision.data`; older scripts find its names here."""

from plainvision.data.decoding import decode as _decode
from plainvision.data.images import open_images

__all__ = ["_decode", "open_images"]
