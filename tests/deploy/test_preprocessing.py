import numpy as np
import pytest
from PIL import Image
from torch.testing import assert_close

from plainvision.data.rows import evaluation_transform
from plainvision.data.settings import Data, crop_ratio_of, resized_side
from plainvision.deploy import Preprocessing


@pytest.mark.parametrize("size", [(64, 64), (97, 61), (61, 97), (33, 200), (20, 400), (30, 31)])
@pytest.mark.parametrize("ratio", [0.875, 0.95, 1.0])
@pytest.mark.parametrize("resize", ["short", "squash"])
def test_it_prepares_images_as_evaluation_does(size, ratio, resize):
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    data = Data(image_size=32, crop_ratio=ratio, resize=resize, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4))
    ours = Preprocessing.of(data)
    found = ours.normalised(ours.pixels(image)[None])[0]
    assert_close(found, evaluation_transform(data)(image).numpy(), rtol=1e-5, atol=1e-6)


def test_it_turns_an_image_upright_and_makes_it_grey():
    image = Image.fromarray(np.arange(64 * 48 * 3, dtype=np.uint8).reshape(48, 64, 3))
    exif = Image.Exif()
    exif[0x0112] = 6  # as a phone writes that was held upright
    image.info["exif"] = exif.tobytes()
    turned = Preprocessing(image_size=32, channels=1, mean=(0.5,), std=(0.5,)).pixels(image)
    assert turned.shape == (32, 32, 1)


def test_values_out_of_range_are_refused():
    with pytest.raises(ValueError, match=r"preprocessing\.crop_ratio=0\.0 must"):
        Preprocessing(image_size=32, crop_ratio=0.0)
    with pytest.raises(ValueError, match=r"3 means and 3 deviations for 1 channels"):
        Preprocessing(image_size=32, channels=1)


def test_squashing_keeps_the_whole_image():
    halves = Image.new("RGB", (200, 50), "black")
    halves.paste("white", (100, 0, 200, 50))
    found = Preprocessing(image_size=32, crop_ratio=1.0, resize="squash").pixels(halves)
    assert (found[:, :12] < 20).all()
    assert (found[:, 20:] > 235).all()


@pytest.mark.parametrize("side", [235, 236, 256, 342])
def test_a_crop_of_a_whole_number_of_pixels_is_resized_to_just_that(side):
    for image_size in range(side // 10 + 1, side + 1):
        assert resized_side(image_size, crop_ratio_of(image_size, side)) == side
    assert crop_ratio_of(224, 256) == 0.875
