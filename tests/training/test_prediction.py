"""Predictions are those of evaluation, one by one; what cannot be read is named, and the rest is done."""

import io
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from data.pictures_for_tests import CLASSES, SMALL, encoded, picture, tarred, zipped
from networks_for_tests import trained
from PIL import Image
from torch import Tensor, nn

import plainvision as pv
from plainvision.data.photographs import Photographs, paths_of_lines
from plainvision.deploy import Preprocessing
from plainvision.deploy.folder import Answer
from plainvision.inspection.foreign import Foreign
from plainvision.recipes import get_recipe
from plainvision.training.recipe import Data
from plainvision.training.weights_file import Origin, build_network, save_network

DATA = Data(**SMALL)


class Colours(nn.Module):
    """Answers the mean of each colour: images (B, 3, H, W) -> logits (B, 3)."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(4.0))
        self.part = nn.Dropout()
        self.seen: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        assert (self.training, self.part.training, torch.is_grad_enabled()) == (False, False, False)
        self.seen.append(len(x))
        return x.mean((2, 3)) * self.scale


@pytest.fixture
def photos(tmp_path) -> Path:
    """``photos/{b/1,b/2,a}.png``, beside what is no image, is damaged, or of a kind that is not read."""
    place = tmp_path / "photos"
    (place / "b").mkdir(parents=True)
    for number, name in enumerate(("b/1.png", "b/2.png", "a.png")):
        (place / name).write_bytes(encoded(number))
    (place / "notes.txt").write_text("not an image")
    (place / ".hidden.png").write_bytes(encoded(9))
    (place / "torn.jpg").write_bytes(b"torn")
    (place / "new.heic").write_bytes(b"heic")
    return place


def names(found: "pv.training.prediction.Predictions") -> list[str]:
    return [one.name for one in found]


@pytest.mark.parametrize("packed", [None, zipped, tarred], ids=["folder", "zip", "tar"])
def test_it_answers_as_evaluation_does(tmp_path, packed):
    folder = tmp_path / "clothes"
    for number in range(6):
        place = folder / "validation" / CLASSES[number // 2] / f"{number}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(encoded(number))
    model = trained(pv.create_model("vanillanet_5", width=1 / 64, num_classes=3))
    data = Data(**{**SMALL, "image_size": 32}, root=str(folder))
    scored = pv.training.evaluate(model, data, classes=CLASSES, batch_size=4).predictions
    source = folder / "validation" if packed is None else packed(folder)
    found = list(pv.predict(model, source, classes=CLASSES, data=data, batch_size=4))
    assert len(found) == len(scored) == 6
    by_name = {one.name.split("validation/")[1]: one for one in found}
    for one in scored:
        mine = by_name[one.name.split("validation/")[1]]
        assert mine.classes[0] == one.predicted
        assert mine.confidences[0] == pytest.approx(one.confidence, abs=1e-6)


def test_a_folder_is_read_whole_and_in_order_and_what_cannot_be_read_is_named(photos):
    found = pv.predict(Colours(), photos, data=DATA)
    assert names(found) == [str(photos / name) for name in ("a.png", "b/1.png", "b/2.png")]
    assert found.skipped == [
        f"{photos}/new.heic (a kind of image that is not read)",
        f"{photos}/torn.jpg (cannot identify image file)",
    ]


def test_an_answer_has_the_likeliest_classes_and_their_shares():
    red = Image.new("RGB", (20, 20), (255, 60, 0))
    (one,) = pv.predict(Colours(), red, classes=("red", "green", "blue"), data=DATA)
    assert isinstance(one, Answer)
    assert one.classes == ("red", "green", "blue")
    logits = 4 * (torch.tensor([255.0, 60, 0]) / 255 - torch.tensor(DATA.mean)) / torch.tensor(DATA.std)
    assert one.confidences == pytest.approx(logits.softmax(0).tolist(), abs=1e-6)
    (two,) = pv.predict(Colours(), red, data=DATA, top=2)
    assert (two.classes, two.confidences) == (("0", "1"), one.confidences[:2])


def test_pictures_files_and_generators_are_images_too(tmp_path):
    upright = Image.fromarray(np.random.default_rng(0).integers(0, 255, (12, 20, 3), dtype=np.uint8))
    turned = Image.Exif()
    turned[0x0112] = 6
    upright.save(tmp_path / "turned.png", exif=turned)
    with Image.open(tmp_path / "turned.png") as opened:
        given = (one for one in (tmp_path / "turned.png", opened, Image.open(tmp_path / "turned.png"), upright))
        found = list(pv.predict(Colours(), given, data=DATA))
    assert [one.name for one in found] == [str(tmp_path / "turned.png")] * 3 + ["image 3"]
    assert found[1].confidences == found[2].confidences == found[0].confidences
    damaged = tmp_path / "damaged.png"
    damaged.write_bytes(encoded(1)[:90])
    with Image.open(damaged) as opened:
        answers = pv.predict(Colours(), [opened, upright], data=DATA)
        assert names(answers) == ["image 1"]
    assert answers.skipped[0].startswith(f"{damaged} (")


def test_a_picture_has_no_more_pixels_than_a_file_may_have():
    answers = pv.predict(Colours(), [picture(0), Image.new("L", (40, 40))], data=Data(**SMALL, max_pixels=1000))
    assert names(answers) == ["image 0"]
    assert answers.skipped == ["image 1 (40 x 40 pixels are more than data.max_pixels=1000)"]


def test_a_source_is_read_only_so_far_as_answers_are_asked_for():
    taken = []

    def endless() -> Iterator[Image.Image]:
        while True:
            taken.append(1)
            yield picture(0)

    model = Colours().train()
    answers = pv.predict(model, endless(), data=DATA, batch_size=3)
    assert taken == []
    for _ in range(7):
        next(answers)
    assert len(taken) <= 3 * 3 + 1
    assert model.seen == [3, 3, 3]
    assert model.training  # between two answers it is as it was


@pytest.mark.parametrize("workers", [0, 2])
def test_the_number_of_processes_and_the_size_of_batches_change_nothing(photos, workers):
    data = Data(**{**SMALL, "workers": workers})
    archive = zipped(photos)
    sources = [photos, archive, photos / "a.png", tarred(photos), archive, "nowhere.png"]
    answers = pv.predict(Colours(), sources, data=data, batch_size=2)
    found = [(one.name, one.confidences) for one in answers]
    whole = pv.predict(Colours(), sources, data=DATA, batch_size=64)
    assert [(one.name, pytest.approx(one.confidences, abs=1e-6)) for one in whole] == found
    assert len(found) == 13
    assert sorted(set(answers.skipped)) == sorted(set(whole.skipped))
    assert answers.skipped[-1] == "nowhere.png (No such file or directory)"


def test_a_member_of_an_archive_is_never_a_path(tmp_path):
    (tmp_path / "secret.png").write_bytes(encoded(7))
    with zipfile.ZipFile(tmp_path / "odd.zip", "w") as archive:
        archive.writestr("../secret.png", encoded(1))
        archive.writestr(f"{tmp_path}/secret.png", encoded(2))
        link = zipfile.ZipInfo("link.png")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, f"{tmp_path}/secret.png")
    answers = pv.predict(Colours(), tmp_path / "odd.zip", data=DATA)
    found = list(answers)
    assert [one.name for one in found] == [f"{tmp_path}/odd.zip/secret.png", f"{tmp_path}/odd.zip{tmp_path}/secret.png"]
    contents = []
    for one in found:
        with answers.open(one) as file:
            contents.append(file.read())
    assert contents == [encoded(1), encoded(2)]
    assert answers.skipped == [f"{tmp_path}/odd.zip/link.png (a link that leads to no image here)"]


def test_what_would_be_waited_for_and_what_is_damaged_is_named(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "torn.zip").write_bytes(b"torn")
    (tmp_path / "empty").mkdir()
    (tmp_path / "image.png").write_bytes(encoded(0))
    (tmp_path / "text.txt").write_text("text")
    order = ("pipe.png", "torn.zip", "empty", "image.png", "text.txt", "nowhere\0.png")
    answers = pv.predict(Colours(), [str(tmp_path / name) for name in order], data=DATA)
    assert names(answers) == [str(tmp_path / "image.png")]
    reasons = [skipped.removeprefix(f"{tmp_path}/") for skipped in answers.skipped]
    assert reasons[0] == "pipe.png (is no file)"
    assert reasons[1].startswith(f"torn.zip (cannot read {tmp_path}/torn.zip: File is not a zip file. Download or pack")
    assert reasons[2:] == [
        "empty (holds no image)",
        "text.txt (cannot identify image file)",
        "nowhere\0.png (embedded null byte)",
    ]


def test_no_image_is_an_error_that_names_the_reason(tmp_path, photos):
    with pytest.raises(ValueError, match=r"no image was given\. Give photographs, folders or archives"):
        list(pv.predict(Colours(), [], data=DATA))
    with pytest.raises(ValueError, match=r"no image could be read; it is nowhere\.png \(No such file or directory\)\."):
        list(pv.predict(Colours(), "nowhere.png", data=DATA))
    with pytest.raises(ValueError, match=r"none of 2 images could be read; the first is .*torn\.jpg \(cannot identify"):
        list(pv.predict(Colours(), [photos / "torn.jpg", "nowhere.png"], data=DATA))


def test_a_line_of_a_list_is_a_path():
    assert list(paths_of_lines(io.BytesIO(b"a.png\n\nb c.png\r\ncaf\xe9.png"))) == ["a.png", "b c.png", "caf\udce9.png"]
    with pytest.raises(ValueError, match=r"line 2 of the list is longer than 65536 bytes.*Give one path a line"):
        list(paths_of_lines(io.BytesIO(b"a.png\n" + b"x" * 2**17)))


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """The folder of a run on clothing, as far as its weights."""
    place = tmp_path_factory.mktemp("predicted") / "run"
    recipe = get_recipe("vanillanet_clothing")
    recipe.model_options["width"] = 1 / 16
    place.mkdir()
    network = trained(build_network(recipe, 3, recipe.epochs))
    save_network(place / "best.safetensors", network.state_dict(), Origin(recipe, CLASSES, recipe.epochs))
    return place


def test_a_run_its_file_and_its_deployed_folder_answer_alike(run, photos, tmp_path):
    found = [list(pv.predict(place, photos, device="cpu")) for place in (run, str(run), run / "best.safetensors")]
    assert found[0] == found[1] == found[2]
    assert set(found[0][0].classes) == set(CLASSES)
    network, origin = pv.training.weights_file.load_network(run)
    how = Preprocessing.of(origin.recipe.data)
    pv.deploy.export(
        pv.fuse(network, images=2), tmp_path / "deployed", format="torch", preprocessing=how, classes=CLASSES
    )
    deployed = list(pv.predict(tmp_path / "deployed", photos))
    for one, other in zip(found[0], deployed, strict=True):
        assert one.classes == other.classes
        assert one.confidences == pytest.approx(other.confidences, abs=1e-4)
    (named,) = pv.predict(run, photos / "a.png", classes=("x", "y", "z"), data=how, top=1, device="cpu")
    assert named.confidences[0] == pytest.approx(found[0][0].confidences[0], abs=1e-6)
    assert named.classes[0] in ("x", "y", "z")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"top": 0}, r"top=0 must be above zero"),
        ({"batch_size": 0}, r"batch_size=0 must be above zero"),
        ({"data": None}, r"Colours does not say how its images are prepared\. Give a `Data` yourself"),
        (
            {"classes": ("a", "b")},
            r"has 3 classes and 2 names were given \(a, b\)\. Give a name for each, in the order",
        ),
    ],
)
def test_what_cannot_be_is_refused(more, message):
    with pytest.raises(ValueError, match=message):
        list(pv.predict(Colours(), picture(0), **{"data": DATA, **more}))


def test_a_model_that_is_not_there_is_told_so():
    with pytest.raises(
        ValueError, match=r"no run, weights file or deployed folder 'resnet18'\..*create_model\('resnet18'"
    ):
        pv.predict("resnet18", picture(0))
    with pytest.raises(FileNotFoundError, match=r"no weights at runs/nothing"):
        pv.predict("runs/nothing", picture(0))


def test_an_answer_that_is_no_number_is_an_error():
    model = Colours()
    model.scale.data.fill_(float("nan"))
    with pytest.raises(ValueError, match=r"the network's answer for image 0 is no number: its weights are damaged"):
        list(pv.predict(model, picture(0), data=DATA))


def test_images_that_a_network_does_not_take_are_an_error_with_its_reason():
    def run(_: Tensor) -> Tensor:
        raise RuntimeError("Got: 8\n  Expected: 32.")

    model = Foreign(run, parameters=0, macs=0, process_mb=lambda _: None)
    with pytest.raises(
        ValueError, match=r"does not take images of 3 x 8 x 8 \(Got: 8 Expected: 32\)\. Give the image_size"
    ):
        list(pv.predict(model, picture(0), data=DATA))


def test_few_archives_stay_open(photos, tmp_path):
    archive = zipped(photos)
    several = [archive.rename(tmp_path / "0.zip")]
    for number in range(1, 8):
        several.append(tmp_path / f"{number}.zip")
        several[-1].write_bytes(several[0].read_bytes())
    photographs = Photographs(several, DATA, batch_size=2)
    read = [one for _, its in photographs.batches() for one in its if not one.unread]
    assert len(read) == 8 * 4
    assert len(photographs._reading.archives._open) <= 4
    with photographs.open(read[0]) as file:  # of an archive that was closed since
        assert file.read() == encoded(2)
