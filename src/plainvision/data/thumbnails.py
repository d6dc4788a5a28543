"""Small pictures for pages."""

from io import BytesIO

from PIL import Image


def thumbnail(picture: Image.Image, side: int = 96) -> bytes:
    """Return a picture in a few kilobytes: no side longer than ``side``, as JPEG, or as PNG where it is tiny."""
    made, is_tiny = BytesIO(), max(picture.size) <= side // 2
    small = picture.copy()
    small.thumbnail((side, side))
    small.save(made, "PNG" if is_tiny else "JPEG", quality=80)
    return made.getvalue()
