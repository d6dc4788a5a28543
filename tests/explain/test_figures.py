"""Explanations say what was answered, and figures show all of it: in three formats, at fixed sizes, at any name."""

from dataclasses import replace

import numpy as np
import pytest
import timm
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

import plainvision as pv
from plainvision.explain import (
    Explanation,
    attention_maps,
    class_maps,
    class_names,
    compare,
    deletion,
    explain_image,
    gradcam,
    save,
)
from plainvision.figures.style import folded, inches

NAMES = ("dress", "hat", "pants", "shirt", "shoes")


def column(per_class: bool = False) -> torch.nn.Module:
    return pv.create_model("patchconvnet_s20", embed_dim=16, depth=1, num_classes=5, per_class=per_class).eval()


@pytest.fixture
def picture() -> torch.Tensor:
    return torch.rand(3, 64, 96)


def explanation(maps: torch.Tensor, classes: tuple[str, ...], picture: torch.Tensor, method="attention") -> Explanation:
    return Explanation(picture, maps, classes, tuple(0.5**n for n in range(1, len(classes) + 1)), method)


def texts(figure) -> list[str]:
    return [text.get_text() for text in figure.texts] + [t.get_text() for axes in figure.axes for t in axes.texts]


# Explanations


def test_classes_come_with_their_confidences_the_likeliest_first(picture):
    model = column(per_class=True)
    one = explain_image(model, picture, picture, names=NAMES, top=2)
    confidences, order = model(picture[None])[0].softmax(0).topk(2)
    assert one.method == "attention"
    assert one.classes == tuple(NAMES[index] for index in order)
    assert one.confidences == pytest.approx(confidences.tolist())
    assert torch.equal(one.maps, attention_maps(model, picture[None], order)[0])
    assert torch.equal(one.picture, picture)
    first, second = (f"{NAMES[index]} {value:.1%}" for index, value in zip(order, confidences.tolist(), strict=True))
    assert str(one) == f"{first}, {second}"


def test_confidences_are_those_of_the_temperature(picture):
    model = column()
    one = explain_image(model, picture, picture, names=NAMES, temperature=0.1)
    assert one.confidences == pytest.approx((model(picture[None])[0] / 0.1).softmax(0).topk(3).values.tolist())


def test_a_single_token_has_one_map_for_all_classes(picture):
    model = column()
    one = explain_image(model, picture, picture, names=NAMES)
    assert torch.equal(one.maps, attention_maps(model, picture[None]))
    assert len(one.classes) == 3


def test_grad_cam_serves_networks_without_attention_and_those_that_are_asked(picture):
    plain = timm.create_model("test_resnet", num_classes=5)
    one = explain_image(plain, picture, picture, classes=[4, 0])
    assert (one.method, one.classes) == ("gradcam", ("class 4", "class 0"))
    assert torch.equal(one.maps, gradcam(plain, picture[None], [4, 0])[0])
    assert plain.training
    assert explain_image(column(), picture, picture, method="gradcam", top=9).maps.shape == (5, 4, 6)
    earlier = explain_image(column(), picture, picture, layer="stem.4", top=1)
    assert (earlier.method, earlier.maps.shape) == ("gradcam", (1, 8, 12))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"top": 0}, "top=0 leaves no class to explain"),
        ({"names": NAMES[:3]}, "there are 3 names for 5 classes of PatchConvNet"),
        ({"classes": [5]}, "there is no class 5"),
        ({"classes": [0]}, "a single class token"),
        ({"method": "attention", "layer": "stem"}, "layer='stem' goes with method='gradcam'"),
    ],
)
def test_what_cannot_be_explained_is_said(options, message, picture):
    with pytest.raises(ValueError, match=message):
        explain_image(column(), picture, picture, **options)


def test_a_batch_is_not_one_image(picture):
    with pytest.raises(ValueError, match=r"images are a tensor \(1, 1, 3, 64, 96\)"):
        explain_image(column(), picture[None], picture)


def test_classes_of_imagenet_have_names_that_tell_them_apart():
    names = class_names(1000)
    assert (names[33], names[963]) == ("loggerhead", "pizza")
    assert len(set(names)) == 999  # a bird and a machine are both called crane
    assert class_names(2) == ("class 0", "class 1")


# Figures


def test_a_row_shows_the_image_and_its_classes(picture):
    rows = [explanation(torch.rand(3, 4, 6), NAMES[:3], picture), explanation(torch.rand(3, 4, 6), NAMES[2:], picture)]
    figure = class_maps(rows, titles=["a.jpg", "b.jpg"], label="a_network")
    assert len(figure.axes) == 2 * 4 + 1  # and the colours' scale
    said = texts(figure)
    assert said.count("pants (12.5%)") == said.count("pants (50.0%)") == 1
    assert {"a.jpg", "b.jpg", "dress (50.0%)", "hat (25.0%)", "attention of a_network", "0"} <= set(said)
    shown = [axes.images[0].get_array() for axes in figure.axes]
    assert sum(np.allclose(image, picture.permute(1, 2, 0)) for image in shown if image.shape == (64, 96, 3)) == 2


def test_one_map_for_all_classes_has_them_all_beneath(picture):
    figure = class_maps([explanation(torch.rand(1, 4, 6), NAMES[:3], picture)])
    assert len(figure.axes) == 3
    assert {"dress (50.0%)", "hat (25.0%)", "pants (12.5%)", "attention"} <= set(texts(figure))


def test_networks_are_rows_and_images_columns(picture):
    first = [explanation(torch.rand(1, 4, 6), NAMES[:3], picture)] * 3
    second = [explanation(torch.rand(2, 2, 3), NAMES[3:], torch.rand(3, 32, 48), "gradcam")] * 3
    figure = compare({"one": first, "another": second}, titles=["a", "b", "c"])
    assert len(figure.axes) == 3 * 3 + 1
    said = texts(figure)
    assert {"one", "another", "attention", "Grad-CAM", "a", "b", "c"} <= set(said)
    assert said.count("dress (50.0%)") == said.count("shirt (50.0%)") == 3
    assert not any(text.startswith(("hat", "shoes")) for text in said)


def test_a_map_is_drawn_in_patches_from_zero_to_its_largest(picture):
    grey = torch.full((1, 64, 96), 0.5)
    maps = torch.tensor([[[0.0, 0.02], [0.01, 0.0]], [[0.0, 2.0], [1.0, 0.0]]])
    figure = class_maps([explanation(maps, NAMES[:2], grey, "gradcam")])
    small, large = [axes.images[0].get_array() for axes in figure.axes if axes.images[0].get_array().shape[0] == 64][1:]
    assert np.allclose(small, large)  # the same picture at every scale
    assert len(np.unique(np.asarray(small).reshape(-1, 3).round(6), axis=0)) == 3
    assert small[0, 48].sum() > small[32, 0].sum() > small[0, 0].sum()
    smooth = class_maps([explanation(maps, NAMES[:2], grey, "gradcam")], smooth=True)
    blended = [axes.images[0].get_array() for axes in smooth.axes if axes.images[0].get_array().shape[0] == 64][1]
    assert len(np.unique(np.asarray(blended).reshape(-1, 3).round(6), axis=0)) > 100


def test_attention_that_is_nearly_uniform_stays_dark(picture):
    level, peak = torch.full((4, 6), 1 / 24), torch.full((4, 6), 0.1 / 23)
    level[0, 0], peak[0, 0] = 1.2 / 24, 0.9
    figure = class_maps([explanation(torch.stack([level, peak]), NAMES[:2], torch.zeros(3, 64, 96))])
    said = texts(figure)
    assert {"largest 1.2 x mean weight", "largest 21.6 x mean weight"} <= set(said)
    assert "or to 4 x the mean weight where that is more" in " ".join(said)
    dim, bright = [axes.images[0].get_array().max() for axes in figure.axes[1:3]]
    assert dim < 0.5 < bright


def test_a_map_has_its_curve_beneath_and_the_figure_says_what_that_is(picture):
    model, image = column(per_class=True), torch.rand(3, 64, 96)
    one = explain_image(model, image, picture, names=NAMES, top=2)
    found = deletion(model, image, one.maps, one.indices)
    figure = class_maps([replace(one, deletions=found)])
    curves = [axes.lines for axes in figure.axes if axes.lines]
    assert [len(lines) for lines in curves] == [2, 2]
    for lines, each in zip(curves, found, strict=True):
        assert tuple(lines[1].get_ydata()) == pytest.approx(each.by_map)
    said = " ".join(texts(figure))
    assert f"deletion {found[0].score:.2f}, random {found[0].random_mean:.2f} ± {found[0].random_spread:.2f}" in said
    assert "covered with the image's mean colour" in said
    assert len(figure.axes) == len(class_maps([one]).axes) + 2
    shown = compare({"a": [replace(one, deletions=found)], "b": [one]})
    assert len([axes for axes in shown.axes if axes.lines]) == 1


def test_long_names_wrap_behind_what_separates_their_parts():
    lines = folded("experiments/2026-11-03/clothing_resnet18", 1.6)
    assert lines == ["experiments/2026-11-03/", "clothing_resnet18"]
    assert all(inches(line) <= 1 for line in folded("x" * 90, 1))


def test_a_map_of_few_places_says_that_the_image_is_too_small():
    small = torch.rand(3, 64, 64)
    plain = timm.create_model("test_resnet", num_classes=5)
    one = explain_image(plain, small, small)
    assert one.maps.shape[1:] == (2, 2)
    assert one.doubt == (
        "Grad-CAM at the layer layer4 has only 2 x 2 places: images of 64 x 64 pixels are too small for it. Give "
        "larger ones, or an earlier layer."
    )
    assert "Grad-CAM at layer4" in " ".join(texts(class_maps([one])))
    assert "too small for it" in " ".join(texts(class_maps([one])))
    larger = torch.rand(3, 128, 128)
    assert explain_image(plain, larger, larger).doubt == ""


def test_a_map_of_zeros_says_so(picture):
    figure = class_maps([explanation(torch.stack([torch.zeros(2, 3), torch.ones(2, 3)]), NAMES[:2], picture)])
    assert texts(figure).count("zero everywhere") == 1


def test_everything_written_lies_inside_whatever_its_length(picture):
    long = ("American Staffordshire terrier", "x" * 70, "$x_1$ of a $ sign", "experiments/2024-05-03/clothing_resnet18")
    tall = torch.rand(1, 96, 48)
    rows = [explanation(torch.rand(4, 4, 6), long, picture), explanation(torch.rand(1, 6, 3), long, tall)]
    titles = ["a_very_long_name_of_a_file-0001.jpeg", "b.png"]
    for figure in (
        class_maps(rows, titles=titles, label=long[-1] * 4),
        class_maps(rows[1:], label=long[-1] * 4),
        compare({long[-1]: rows, "a" * 60: rows}, titles=titles),
    ):
        FigureCanvasAgg(figure).draw()
        canvas = figure.bbox
        for text in figure.texts:
            box = text.get_window_extent()
            assert canvas.x0 <= box.x0 <= box.x1 <= canvas.x1, text
            assert canvas.y0 <= box.y0 <= box.y1 <= canvas.y1, text
        boxes = [text.get_window_extent() for text in figure.texts]
        inner = [box.shrunk(0.98, 0.7) for box in boxes]
        assert not any(a.overlaps(b) for n, a in enumerate(inner) for b in inner[n + 1 :])


@pytest.mark.parametrize(
    ("suffix", "begins"), [(".png", b"\x89PNG"), (".pdf", b"%PDF"), (".svg", b"<?xml"), (".PNG", b"\x89PNG")]
)
def test_figures_are_written_as_pictures_and_as_vectors(suffix, begins, picture, tmp_path):
    path = tmp_path / f"maps{suffix}"
    save(class_maps([explanation(torch.rand(2, 4, 6), NAMES[:2], picture)]), path)
    assert path.read_bytes().startswith(begins)
    if begins.endswith(b"PNG"):
        image = np.asarray(Image.open(path).convert("RGB"))
        assert image.shape[1] > 1000
        edges = [image[0], image[-1], image[:, 0], image[:, -1]]
        assert all((edge == 255).all() for edge in edges)


def test_another_format_is_refused(picture, tmp_path):
    with pytest.raises(ValueError, match=r"maps\.gif: its suffix must be one of \.png, \.pdf, \.svg"):
        save(class_maps([explanation(torch.rand(1, 4, 6), NAMES[:1], picture)]), tmp_path / "maps.gif")
    assert list(tmp_path.iterdir()) == []


def test_what_does_not_go_together_is_said(picture):
    one = explanation(torch.rand(1, 4, 6), NAMES[:1], picture)
    with pytest.raises(ValueError, match="0 explanations and 0 titles"):
        class_maps([])
    with pytest.raises(ValueError, match="2 explanations and 1 titles"):
        class_maps([one, one], titles=["a"])
    with pytest.raises(ValueError, match="and there are a 1, b 2"):
        compare({"a": [one], "b": [one, one]})
    with pytest.raises(ValueError, match="there are no networks"):
        compare({})
