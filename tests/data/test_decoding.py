"""One picture from every source: upright, of 8 bits, bounded, and by no other program."""

import io
import subprocess
import tarfile

import numpy as np
import pytest
import timm.data
import torch
from data.pictures_for_tests import add, evaluation, names, recipe, tarred, zipped
from PIL import EpsImagePlugin, Image, ImageOps

from plainvision.data.batches import TrainingBatches
from plainvision.data.decoding import EXTENSIONS, check_bytes, decode
from plainvision.data.rows import evaluation_transform
from plainvision.explain.pictures import read_picture
from plainvision.training.recipe import Data

RAMP = np.tile(np.linspace(0, 65535, 64).astype(np.uint16), (4, 1))  # black on the left, white on the right


def file_of(image: Image.Image, kind: str, **options: object) -> io.BytesIO:
    file = io.BytesIO()
    image.save(file, kind, **options)
    file.seek(0)
    return file


def turned(orientation: int) -> Image.Exif:
    tag = Image.Exif()
    tag[0x0112] = orientation
    return tag


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_stands_as_a_viewer_shows_it(kind, orientation):
    stored = Image.fromarray(np.arange(96, dtype=np.uint8).reshape(4, 8, 3) * 2)
    options = {"lossless": True} if kind == "WEBP" else {}
    file = file_of(stored, kind, exif=turned(orientation), **options)
    shown = np.asarray(ImageOps.exif_transpose(Image.open(file)))
    file.seek(0)
    assert np.array_equal(np.asarray(decode(file, "RGB")), shown)
    assert shown.shape == ((8, 4, 3) if orientation > 4 else (4, 8, 3))


def test_a_picture_stands_the_same_way_from_every_source(tmp_path, hub):
    pytest.importorskip("webdataset")
    pixels = np.zeros((8, 16, 3), np.uint8)
    pixels[:, :8] = 255  # the left is white as stored, the top as shown
    phone = file_of(Image.fromarray(pixels), "JPEG", exif=turned(6)).getvalue()
    root, shards = tmp_path / "phone", tmp_path / "shards"
    for split in ("train", "validation"):
        for name in ("a", "b"):
            (root / split / name).mkdir(parents=True)
            (root / split / name / "0.jpg").write_bytes(phone)
    shards.mkdir()
    with tarfile.open(shards / "0.tar", "w") as archive:
        for key in (0, 1):
            add(archive, f"{key}.jpg", phone)
            add(archive, f"{key}.cls", str(key).encode())
    sources = [root, zipped(root), tarred(root), f"hfds/{root}", f"hfids/{root}"]
    seen = [next(iter(evaluation(source, batch_size=2))).images for source in sources]
    options = {"validation_split": "0.tar|2", "classes": ("a", "b")}
    seen.append(next(iter(evaluation(f"wds/{shards}", batch_size=2, **options))).images)
    data = Data(image_size=8, crop_ratio=1.0)
    seen.append(read_picture(root / "train" / "a" / "0.jpg", data)[0].expand(2, 3, 8, 8))
    for images in seen:
        assert torch.equal(images, seen[0])
        assert images[:, :, :3].min() > images[:, :, 5:].max()


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM", "JPEG2000"])
def test_sixteen_bits_are_scaled_to_eight(kind):
    row = np.asarray(decode(file_of(Image.fromarray(RAMP), kind), "L"))[0]
    assert np.abs(row - np.linspace(0, 255, 64)).max() <= 0.5
    assert np.asarray(decode(file_of(Image.fromarray(RAMP), kind), "RGB")).shape == (4, 64, 3)


def test_a_sixteen_bit_tiff_whose_zero_is_white_keeps_its_picture():
    row = np.asarray(decode(file_of(Image.fromarray(RAMP), "TIFF", tiffinfo={262: 0}), "L"))[0]
    assert np.abs(row - np.linspace(255, 0, 64)).max() <= 0.5


@pytest.mark.parametrize(("type_", "kind"), [(np.int32, "32-bit integers"), (np.float32, "floating-point numbers")])
def test_pixels_without_a_meaning_in_eight_bits_are_an_unreadable_image(folder, type_, kind):
    Image.fromarray(RAMP.astype(type_)).save(folder / "validation" / "hat" / "9.tiff")
    Image.fromarray(RAMP.astype(type_)).save(folder / "train" / "hat" / "9.tiff")
    (batch,) = evaluation(folder, batch_size=9)
    assert len(batch.names) == 6
    (told,) = batch.skipped
    assert told.startswith(f"clothes/validation/hat/9.tiff (its pixels are {kind}, which have no meaning in 8 bits")
    batches = list(TrainingBatches(recipe(folder, batch_size=13)).epoch(0))
    assert [name.split(" ")[0] for batch in batches for name in batch.skipped] == ["clothes/train/hat/9.tiff"]


def test_damaged_metadata_does_not_cost_the_picture():
    exif = b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\x01\x03\0"
    assert decode(file_of(Image.new("RGB", (4, 8), "red"), "JPEG", exif=exif), "RGB").size == (4, 8)


def test_an_image_of_too_many_pixels_is_told_by_its_header(folder, monkeypatch):
    Image.new("1", (2000, 1000)).save(folder / "validation" / "hat" / "9.png")
    Image.new("1", (2000, 1000)).save(folder / "train" / "hat" / "9.png")
    loaded = []
    load = Image.Image.load
    monkeypatch.setattr(Image.Image, "load", lambda image: (loaded.append(image.size), load(image))[1])
    bound = {"max_pixels": 1_999_999, "workers": 0}
    (batch,) = evaluation(folder, batch_size=9, **bound)
    why = "2000 x 1000 pixels are more than data.max_pixels=1999999"
    assert batch.skipped == (f"clothes/validation/hat/9.png ({why})",)
    (batch,) = TrainingBatches(recipe(folder, batch_size=13, **bound)).epoch(0)
    assert batch.skipped == (f"clothes/train/hat/9.png ({why})",)
    assert (2000, 1000) not in loaded
    assert len(names(list(evaluation(folder, max_pixels=2_000_000, workers=0)))) == 7


def test_more_pixels_than_pillow_takes_can_be_asked_for(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)  # it refuses twice as many
    with pytest.raises(Image.DecompressionBombError):
        decode(file_of(Image.new("L", (8, 8)), "PNG"), "L", 9)
    assert decode(file_of(Image.new("L", (8, 8)), "PNG"), "L", 64).size == (8, 8)


def test_bytes_are_bounded_by_the_pixels():
    check_bytes(4 * 1000 + 2**20, 1000)
    with pytest.raises(ValueError, match=r"are more than an image of data\.max_pixels=1000 takes"):
        check_bytes(4 * 1000 + 2**20 + 1, 1000)


def test_no_program_is_started_for_an_image(tmp_path, monkeypatch):
    def started(*words: object, **options: object) -> None:
        raise AssertionError(f"a program was started: {words}")

    monkeypatch.setattr(subprocess, "Popen", started)
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", started)
    (tmp_path / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")
    with Image.open(tmp_path / "a.png") as image:
        assert image.format == "EPS"  # what Pillow does when left to itself
    with pytest.raises(OSError, match="cannot identify image file"):
        decode((tmp_path / "a.png").open("rb"), "RGB")
    with pytest.raises(ValueError, match=r"cannot read the image .*a\.png: cannot identify image file"):
        read_picture(tmp_path / "a.png", Data())


def test_what_counts_as_an_image_is_what_pillow_reads():
    assert {".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm"} <= set(EXTENSIONS)
    assert not {".eps", ".ps", ".pdf", ".psd", ".wmf", ".ico", ".heic", ".h5"} & set(EXTENSIONS)


def whole(data: Data) -> object:
    """timm's own transform, which resizes an image of any length whole."""
    return timm.data.create_transform((3, 16, 16), crop_pct=data.crop_ratio, interpolation=data.interpolation)


@pytest.mark.parametrize("size", [(48, 20), (20, 48), (160, 20), (20, 160)])
def test_images_of_usual_shapes_are_prepared_as_by_timm(size):
    data = Data(image_size=16)
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (*size, 3), dtype=np.uint8))
    assert torch.equal(evaluation_transform(data)(picture), whole(data)(picture))


@pytest.mark.parametrize("size", [(8, 640), (640, 8), (2, 4000)])
def test_a_strip_is_cut_before_it_is_resized_and_gives_the_same_pixels(monkeypatch, size):
    data = Data(image_size=16)
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (*size, 3), dtype=np.uint8))
    expected = whole(data)(picture)
    sizes = []
    resize = Image.Image.resize

    def noted(image: Image.Image, size: tuple[int, int], *rest: object, **options: object) -> Image.Image:
        sizes.append(size)
        return resize(image, size, *rest, **options)

    monkeypatch.setattr(Image.Image, "resize", noted)
    torch.testing.assert_close(evaluation_transform(data)(picture), expected, rtol=0, atol=0.02)
    assert max(sizes[0]) <= 8 * min(sizes[0])
