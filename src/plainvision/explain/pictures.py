"""Files of images, as a network takes them and as they are shown."""

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from plainvision.data.decoding import decode, reason
from plainvision.data.rows import evaluation_transform, pixel_mode
from plainvision.data.settings import Data
from plainvision.files import nearby


def check_files(paths: Sequence[Path]) -> None:
    """Check that each path is a file.

    Raises:
        FileNotFoundError: one is a folder, or is not there.
    """
    for path in paths:
        if path.is_dir():
            raise FileNotFoundError(
                f"no image at {path}. It is a folder: give files of images, for instance {path}/*.jpg."
            )
        if not path.is_file():
            raise FileNotFoundError(f"no image at {path}.{nearby(path)} Give files of images.")


def read_picture(path: Path, data: Data) -> tuple[Tensor, Tensor]:
    """Return an image as a network takes it and as it is shown: resized and cropped alike, (C, H, W).

    Raises:
        ValueError: it cannot be read.
    """
    try:
        picture = decode(path.open("rb"), pixel_mode(data), data.max_pixels)
    except Exception as error:  # a damaged file makes decoders raise nearly anything
        raise ValueError(f"cannot read the image {path}: {reason(error)}. Give another, or save it anew.") from error
    return as_seen(picture, data)


def as_seen(picture: Image.Image, data: Data) -> tuple[Tensor, Tensor]:
    """Return a picture as a network takes it and as it is shown: resized and cropped alike, (C, H, W)."""
    pixels = evaluation_transform(data)(picture.convert(pixel_mode(data)))
    mean, std = (torch.tensor(values)[:, None, None] for values in (data.mean, data.std))
    return pixels, (pixels * std + mean).clamp(0, 1)
