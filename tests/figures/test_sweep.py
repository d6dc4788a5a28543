"""The figure of a sweep."""

import pytest
from matplotlib.figure import Figure

from plainvision.figures.sweep import draw_sweep


def row(values, top1=(80.0, 81.0), diverged=(), published=None):
    spread = {"top1_mean": sum(top1) / len(top1) if top1 else None, "top1_std": 0.7 if len(top1) > 1 else None}
    ended = {"n": len(top1), "top1": list(top1), "diverged_epochs": list(diverged), "published": published}
    return {**values, **spread, **ended}


def test_one_field_is_a_line_in_the_order_of_its_values():
    rows = [row({"lr": lr}, published=82.0) for lr in (1e-2, 1e-3, 2e-3)] + [row({"lr": 0.1}, (), (3,), "failed@34")]
    figure = draw_sweep(rows, ["lr"])
    assert isinstance(figure, Figure)
    (axes,) = figure.axes
    assert (axes.get_xscale(), axes.get_xlabel(), axes.get_ylabel()) == ("log", "lr", "best top-1 (%)")
    (bars,) = axes.containers
    assert list(bars.lines[0].get_xdata()) == [1e-3, 2e-3, 1e-2]
    assert [text.get_text() for text in axes.texts] == ["@3"]
    named = [text.get_text() for text in figure.legends[0].get_texts()]
    assert named == ["published, ImageNet-1k", "mean ± standard deviation", "diverged @ epoch"]


def test_a_sweep_of_which_nothing_is_left_has_no_scores():
    (axes,) = draw_sweep([row({"lr": lr}, (), (1,)) for lr in (1.0, 2.0)], ["lr"]).axes
    assert list(axes.get_yticks()) == []
    (axes,) = draw_sweep([row({"lr": lr, "wd": wd}, (), (1,)) for lr in (1, 2) for wd in (0, 1)], ["lr", "wd"]).axes
    assert {text.get_text() for text in axes.texts} == {"diverged@1"}


def test_words_are_points_without_a_line():
    figure = draw_sweep([row({"optimizer": name}, (80.0,)) for name in ("sgd", "lamb")], ["optimizer"])
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["sgd", "lamb"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["this sweep"]
    assert axes.containers[0].lines[0].get_linestyle() == "None"


def test_two_fields_are_a_heat_map_whose_cells_say_what_they_are():
    rows = [row({"lr": lr, "wd": wd}, published=82.0) for lr in (1, 2) for wd in (0, 1)]
    rows[3] = row({"lr": 2, "wd": 1}, (), (4, 5), "failed@9")
    (axes,) = draw_sweep(rows, ["lr", "wd"]).axes
    texts = [text.get_text() for text in axes.texts]
    assert texts[0] == "80.50\n± 0.70\n(82.00)"
    assert texts[3] == "diverged@4,5\n(failed@9)"


def test_two_fields_that_are_not_combined_are_two_lines_through_the_common_row():
    rows = [row({"lr": lr, "wd": 0.1}) for lr in (1, 2, 3)] + [row({"lr": 2, "wd": wd}) for wd in (0.2, 0.3)]
    first, second = draw_sweep(rows, ["lr", "wd"]).axes
    assert list(first.containers[0].lines[0].get_xdata()) == [1, 2, 3]
    assert list(second.containers[0].lines[0].get_xdata()) == [0.1, 0.2, 0.3]


def test_a_field_of_one_value_counts_for_nothing_and_three_are_not_drawn():
    rows = [row({"a": a, "b": b, "c": c, "d": 1}) for a in (1, 2) for b in (1, 2) for c in (1, 2)]
    assert draw_sweep(rows, ["a", "b", "c", "d"]) is None
    assert len(draw_sweep([one for one in rows if one["c"] == 1], ["a", "b", "c", "d"]).axes[0].texts) == 4
    with pytest.raises(ValueError, match="there is nothing to draw"):
        draw_sweep([], ["a"])
