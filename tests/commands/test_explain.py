"""`plainvision explain` from files of images and weights to a figure, and what it says when something is missing."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from commands.running import killed
from PIL import Image
from safetensors.torch import save_file

from plainvision.commands import main
from plainvision.data.rows import evaluation_transform
from plainvision.explain import class_names, explanation
from plainvision.figures import maps as figures
from plainvision.training import chosen_images
from plainvision.training.evaluation import evaluate
from plainvision.training.recipe import Data, Recipe
from plainvision.training.weights_file import Origin, build_network, load_network, save_network

NAMES = ("dress", "hat", "pants", "shirt", "shoes")
GREY = Data(image_size=48, channels=1, crop_ratio=0.75, mean=(0.25,), std=(0.5,))


@dataclass(frozen=True)
class Place:
    """Images, runs of three kinds of networks, and weights without a run, in one folder."""

    folder: Path
    image: Path
    other: Path
    torn: Path
    column: Path
    tokens: Path
    plain: Path
    weights: Path


@pytest.fixture
def labelled(tmp_path) -> Path:
    """Ten images in class folders, validation images alone."""
    pixels = np.random.default_rng(1)
    for number in range(10):
        folder = tmp_path / "images" / "validation" / NAMES[number % 5]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.integers(0, 256, (70, 64, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    return tmp_path / "images"


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Place:
    folder = tmp_path_factory.mktemp("explain")
    names = ("a.jpg", "b.png", "torn.jpg", "column", "tokens", "plain", "resnet.safetensors")
    found = Place(folder, *(folder / name for name in names))
    torch.manual_seed(0)
    pixels = np.random.default_rng(0)
    Image.fromarray(pixels.integers(0, 256, (80, 100, 3), dtype=np.uint8)).save(found.image)
    Image.fromarray(pixels.integers(0, 256, (60, 48, 4), dtype=np.uint8)).save(found.other)
    found.torn.write_bytes(found.image.read_bytes()[:400])
    small = {"embed_dim": 16, "depth": 1}
    for run, model, options, data in (
        (found.column, "patchconvnet_s20", small, Data(image_size=64)),
        (found.tokens, "patchconvnet_s20", {**small, "per_class": True}, Data(image_size=64)),
        (found.plain, "vanillanet_5", {"width": 1 / 16, "in_chans": 1}, GREY),
    ):
        recipe = Recipe(name=run.name, model=model, model_options=options, data=data)
        run.mkdir()
        weights = build_network(recipe, len(NAMES), 0).state_dict()
        save_network(run / "best.safetensors", weights, Origin(recipe, NAMES, 0))
    save_file(timm.create_model("test_resnet").state_dict(), found.weights)
    return found


@pytest.fixture
def drawn(monkeypatch) -> list:
    """What the command hands to the figures."""
    calls: list = []

    def kept(real):
        def keep(explanations, **options):
            calls.append((real.__name__, explanations, options))
            return real(explanations, **options)

        return keep

    for name in ("class_maps", "compare"):
        monkeypatch.setattr(figures, name, kept(getattr(figures, name)))
    return calls


def explain(*words: object) -> None:
    main(["explain", *map(str, words)])


def failure(capsys, *words: object) -> str:
    """Return what the command says when it gives up, as bad input makes it."""
    with pytest.raises(SystemExit) as ended:
        explain(*words)
    assert ended.value.code == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "Traceback" not in said
    return said.removeprefix("plainvision: ")


@pytest.mark.parametrize("suffix", ["png", "pdf", "svg"])
def test_a_run_explains_images_by_the_names_of_its_classes(place, drawn, tmp_path, capsys, suffix):
    out = tmp_path / "new" / f"maps.{suffix}"
    explain(place.image, place.other, "--model", place.tokens, "--out", out)
    assert out.stat().st_size > 5000
    ((kind, explanations, options),) = drawn
    assert (kind, options) == (
        "class_maps",
        {"titles": ["a.jpg", "b.png"], "label": str(place.tokens), "smooth": False},
    )
    assert [one.maps.shape for one in explanations] == [(3, 4, 4)] * 2
    assert capsys.readouterr().out.splitlines() == [
        *(
            line
            for path, one in zip((place.image, place.other), explanations, strict=True)
            for line in (
                f"{path}  {place.tokens}, attention: {one}",
                *(f"  {name}: {found}" for name, found in zip(one.classes, one.deletions, strict=True)),
            )
        ),
        f"figure in {out}",
    ]
    explain(place.image, "--model", place.tokens, "--no-deletion", "--out", out)
    assert capsys.readouterr().out.splitlines() == [
        f"{place.image}  {place.tokens}, attention: {explanations[0]}",
        f"figure in {out}",
    ]
    assert set(explanations[0].classes) < set(NAMES)


def test_the_picture_is_what_the_network_saw(place, drawn, tmp_path):
    explain(place.image, "--model", place.plain, "--out", tmp_path / "maps.png")
    ((_, (one,), _),) = drawn
    pixels = evaluation_transform(GREY)(Image.open(place.image).convert("L"))
    torch.testing.assert_close(one.picture, pixels * 0.5 + 0.25)
    assert one.picture.shape == (1, 48, 48)
    model, _ = load_network(place.plain)
    confidences = model(pixels[None])[0].softmax(0)
    assert one.confidences == pytest.approx(confidences.topk(3).values.tolist())
    assert one.method == "gradcam"


def test_networks_of_all_kinds_are_compared_each_by_its_own_maps(place, drawn, tmp_path, capsys):
    file = place.plain / "best.safetensors"
    networks = (place.column, "test_resnet", place.tokens, file)
    out = tmp_path / "maps.png"
    explain(place.image, place.other, "--model", *networks, "--checkpoint", place.weights, "--smooth", "--out", out)
    ((kind, rows, options),) = drawn
    assert (kind, options) == ("compare", {"titles": ["a.jpg", "b.png"], "smooth": True})
    assert list(rows) == [str(name) for name in networks]
    assert [row[0].method for row in rows.values()] == ["attention", "gradcam", "attention", "gradcam"]
    assert [len(row) for row in rows.values()] == [2] * 4
    printed = capsys.readouterr().out.splitlines()
    assert len([line for line in printed if not line.startswith("  ")]) == 9
    assert len([line for line in printed if "deletion" in line]) == 8
    assert set(rows["test_resnet"][0].classes) < set(class_names(1000))
    assert rows["test_resnet"][0].picture.shape == (3, 160, 160)


def test_two_weights_of_one_network_have_names_of_their_own(place, drawn, tmp_path):
    again = tmp_path / "again.safetensors"
    again.write_bytes(place.weights.read_bytes())
    words = ("--model", "test_resnet", "test_resnet", "--checkpoint", place.weights, again)
    explain(place.image, *words, "--top", 1, "--out", tmp_path / "maps.png")
    ((_, rows, _),) = drawn
    assert list(rows) == ["test_resnet resnet.safetensors", "test_resnet again.safetensors"]


def test_classes_methods_and_layers_can_be_chosen(place, drawn, tmp_path):
    end = ("--out", tmp_path / "maps.png")
    explain(place.image, "--model", place.tokens, "--classes", "Shoes", 0, *end)
    explain(place.image, "--model", place.column, "--method", "gradcam", "--classes", "hat", *end)
    explain(place.image, "--model", place.column, "--layer", "stem.4", "--top", 2, *end)
    chosen = [one for _, (one,), _ in drawn]
    assert [one.classes for one in chosen[:2]] == [("shoes", "dress"), ("hat",)]
    assert [one.method for one in chosen] == ["attention", "gradcam", "gradcam"]
    assert [one.maps.shape for one in chosen] == [(2, 4, 4), (1, 4, 4), (2, 8, 8)]


def test_an_image_with_a_transparent_palette_is_read(place, tmp_path):
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8), "P").save(
        tmp_path / "p.png", transparency=bytes(range(64))
    )
    explain(tmp_path / "p.png", "--model", place.column, "--out", tmp_path / "maps.png")
    assert (tmp_path / "maps.png").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            "",
            "give images and networks, for instance: plainvision explain shoe.jpg --model runs/clothing --out maps.png",
        ),
        ("{image}", "give images and networks"),
        ("--model {column}", "give images and networks"),
        (
            "{image} --model {column} --out maps.gif",
            "cannot write a figure to maps.gif: its suffix must be one of .png",
        ),
        ("{image} --model {column} --out {image}/maps.png", "cannot write {image}/maps.png"),
        ("{folder}/aa.jpg --model {column}", "no image at {folder}/aa.jpg. Nearby: a.jpg. Give files of images."),
        ("{folder} --model {column}", "no image at {folder}."),
        ("{torn} --model {column}", "cannot read the image {torn}: "),
        ("{weights} --model {column}", "cannot read the image {weights}: cannot identify image file"),
        (
            "{image} --model resnet18",
            "no weights for resnet18: what random weights could do means nothing. Give the path or",
        ),
        ("{image} --model test_resnet resnet18 --checkpoint {weights}", "no weights for resnet18"),
        ("{image} --model {column} --checkpoint {weights}", "--checkpoint gives 1 files for 0 networks by name"),
        ("{image} --model resnt18 --checkpoint {weights}", "unknown model 'resnt18'. Did you mean resnet18"),
        ("{image} --model resnet18 --checkpoint {weights}", "does not fit this ResNet"),
        ("{image} --model test_resnet --checkpoint {folder}/no.pth", "no checkpoint at {folder}/no.pth"),
        ("{image} --model {folder}/colum", "no weights at {folder}/colum. Nearby: column"),
        ("{image} --model {weights}", "does not say which network its weights belong to"),
        ("{image} --model {column} --top 0", "top=0 leaves no class to explain"),
        (
            "{image} --model {column} --classes hat",
            "single class token, whose map serves all classes. Leave classes out",
        ),
        (
            "{image} --model {column} --wrong 2",
            "--wrong and --correct choose images of --data.root, and {image}",
        ),
        ("--model {column} --wrong -1", "wrong=-1 and correct=0 are numbers of images, and must not be below 0"),
        ("--model {column} --wrong 1 --data.root {folder}/nowhere", "there are no images at '{folder}/nowhere'"),
        ("{image} --model {tokens} --classes shoe", "unknown class 'shoe'. Did you mean shoes"),
        ("{image} --model {tokens} --classes zzz", "unknown class 'zzz'. There are dress, hat, pants, shirt, shoes"),
        ("{image} --model {tokens} --classes 5", "there is no class 5: the network has 5, from 0 to 4"),
        (
            "{image} --model test_resnet --checkpoint {weights} --classes crane",
            "2 classes are called 'crane': 134, 517. Give the number.",
        ),
        ("{image} --model {plain} --method attention", "VanillaNet has no attention maps"),
        ("{image} --model {plain} --layer stages.9", "VanillaNet has no layer 'stages.9'. Did you mean stages."),
        ("{image} --model {column} --layer stem --method attention", "layer='stem' goes with method='gradcam'"),
    ],
)
def test_what_cannot_work_is_explained(place, capsys, monkeypatch, tmp_path, words, message):
    monkeypatch.chdir(tmp_path)
    said = failure(capsys, *words.format(**vars(place)).split())
    assert message.format(**vars(place)) in said
    assert list(tmp_path.iterdir()) == []


def test_wrong_and_correct_images_are_chosen_by_their_loss(place, labelled, capsys, tmp_path):
    model, origin = load_network(place.plain)
    data = replace(origin.recipe.data, root=str(labelled), workers=0)
    all_of_them = evaluate(model, data, classes=NAMES).predictions
    wrong = sorted((one for one in all_of_them if one.label != one.predicted), key=lambda one: -one.loss)
    right = sorted((one for one in all_of_them if one.label == one.predicted), key=lambda one: one.loss)
    assert len(wrong) > 2
    words = f"--model {place.plain} {place.column} --data.root {labelled} --data.workers 0 --wrong 2 --correct 1"
    main(["explain", *words.split(), "--no-deletion", "--out", str(tmp_path / "chosen.png")])
    said = capsys.readouterr().out
    for one in (*wrong[:2], *right[:1]):
        assert said.count(f"{one.name}  ") == 2  # once for each network
        assert f"its class is {one.label}; {place.plain} says {one.predicted}" in said
    assert not any(one.name in said for one in (*wrong[2:], *right[1:]))
    with Image.open(tmp_path / "chosen.png") as figure:
        assert figure.size[0] > 200


def test_images_that_were_explained_before_a_kill_are_not_explained_again(
    place, labelled, drawn, capsys, tmp_path, monkeypatch
):
    keep = tmp_path / "new" / "keep"
    words = f"--model {place.plain} {place.column} --data.root {labelled} --data.workers 0 --wrong 4".split()
    command = ("explain", *words, "--keep", keep, "--out", tmp_path / "killed.png")
    killed(command, lambda: len([*keep.glob("*.safetensors")]) >= 3)  # the choice and two explanations
    there = len([*keep.glob("*.safetensors")]) - 1
    assert 2 <= there < 8
    counted = {"explained": 0, "chosen": 0}

    def noted(name, real):
        def count(*given, **named):
            counted[name] += 1
            return real(*given, **named)

        return count

    monkeypatch.setattr(explanation, "explain_image", noted("explained", explanation.explain_image))
    monkeypatch.setattr(chosen_images, "evaluate", noted("chosen", chosen_images.evaluate))
    main([*map(str, command)])
    said = capsys.readouterr().out
    assert counted == {"explained": 8 - there, "chosen": 0}
    main(["explain", *words, "--out", str(tmp_path / "plain.png")])
    assert counted == {"explained": 16 - there, "chosen": 1}
    assert capsys.readouterr().out.replace("plain.png", "killed.png") == said
    (_, first, _), (_, second, _) = drawn
    for name in first:
        for one, other in zip(first[name], second[name], strict=True):
            torch.testing.assert_close((one.maps, one.picture), (other.maps, other.picture), rtol=0, atol=0)
            assert (one.classes, one.indices, one.method) == (other.classes, other.indices, other.method)
            assert one.deletions == other.deletions
    main([*map(str, command), "--top", "1"])  # another question has other answers
    assert counted["explained"] == 24 - there
