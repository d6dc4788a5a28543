"""How an image becomes what a network is given, in numpy and Pillow alone: where it is deployed there is no torch.

The same as `plainvision.data.rows.evaluation_transform`, which a test compares with it.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image, ImageOps

from plainvision.data.settings import Data, resized_side
from plainvision.fields import Ranges, check_ranges

_RANGES: Ranges = {
    "image_size": (8, 4096),
    "crop_ratio": (0.1, 1.0),
    "mean": (-1e3, 1e3),
    "std": (1e-6, 1e3),
}
# So many times as long as high, an image is cut to its middle before it is resized, as in training.
_LONGEST = 8


@dataclass(frozen=True)
class Preprocessing:
    """What is done to an image before the network sees it."""

    image_size: int
    """Side of the square that the network sees, in pixels."""
    channels: Literal[1, 3] = 3
    """1 for grey, 3 for RGB."""
    crop_ratio: float = 0.875
    """The share of the resized side that the centre crop keeps."""
    resize: Literal["short", "squash"] = "short"
    """Whether the short side is resized and the aspect kept, or both sides are."""
    interpolation: Literal["bilinear", "bicubic"] = "bicubic"
    """How images are resized."""
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    """Subtracted from pixels in [0, 1], one value per channel."""
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    """Divides the centred pixels, one value per channel."""

    def __post_init__(self) -> None:
        check_ranges(self, _RANGES, "preprocessing.")
        if not len(self.mean) == len(self.std) == self.channels:
            raise ValueError(
                f"preprocessing has {len(self.mean)} means and {len(self.std)} deviations for {self.channels} "
                "channels. Give one of each per channel."
            )

    @classmethod
    def of(cls, data: Data) -> "Preprocessing":
        """Return how ``data`` has its images evaluated."""
        return cls(**{name: getattr(data, name) for name in cls.__dataclass_fields__})

    def pixels(self, image: Image.Image) -> np.ndarray:
        """Return the bytes of an image, (image_size, image_size, channels) uint8: upright, resized, cropped."""
        image = ImageOps.exif_transpose(image).convert("L" if self.channels == 1 else "RGB")
        width, height = image.size
        most = _LONGEST * min(width, height)
        image = _centre(image, min(width, most), min(height, most)) if max(width, height) > most else image
        width, height = image.size
        side, short = resized_side(self.image_size, self.crop_ratio), min(width, height)
        size = (side * width // short, side * height // short) if self.resize == "short" else (side, side)
        if image.size != size:
            image = image.resize(size, getattr(Image.Resampling, self.interpolation.upper()))
        return np.asarray(_centre(image, self.image_size, self.image_size)).reshape(
            self.image_size, self.image_size, -1
        )

    def normalised(self, pixels: np.ndarray) -> np.ndarray:
        """Return bytes (B, H, W, C) as the network takes them: (B, C, H, W) float32."""
        scaled = pixels.astype(np.float32) / 255
        mean, std = (np.asarray(values, np.float32) for values in (self.mean, self.std))
        return np.ascontiguousarray(((scaled - mean) / std).transpose(0, 3, 1, 2))

    def bytes_of(self, images: np.ndarray) -> np.ndarray:
        """Return the bytes (B, H, W, C) whose normalised form (B, C, H, W) is given."""
        mean, std = (np.asarray(values, np.float32) for values in (self.mean, self.std))
        scaled = images.transpose(0, 2, 3, 1) * std + mean
        return np.ascontiguousarray(np.rint(255 * scaled).clip(0, 255).astype(np.uint8))


def _centre(image: Image.Image, width: int, height: int) -> Image.Image:
    left, top = round((image.width - width) / 2), round((image.height - height) / 2)
    return image.crop((left, top, left + width, top + height))
