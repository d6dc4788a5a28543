"""How memory and time grow, on figures whose growth is known."""

import io
from typing import Any

import pytest
from matplotlib.figure import Figure
from torch import nn

from plainvision.bench import growth_exponents, measure
from plainvision.figures.growth import growth_figure

SIDES = (64, 96, 128, 256)


def grown(name: str, power: float, sides: tuple[int, ...] = SIDES, **changed: object) -> list[dict[str, Any]]:
    """Return rows of a network whose memory grows with ``power`` of the surface, its time with half of that."""
    return [
        {
            "name": name,
            "image_size": [side, side],
            "batch_size": 1,
            "peak_memory_mb": 1e-3 * side ** (2 * power),
            "p50_ms": 3 * side**power,
            **changed,
        }
        for side in sides
    ]


def drawn(figure: Figure) -> list[dict[str, tuple[list[float], list[float]]]]:
    """Return the points of each panel's lines by their names."""
    return [
        {str(line.get_label()): (list(line.get_xdata()), list(line.get_ydata())) for line in panel.get_lines()}
        for panel in figure.axes
    ]


def texts(figure: Figure) -> list[str]:
    (legend,) = figure.legends
    return [text.get_text() for text in legend.get_texts()]


def test_exponents_are_the_powers_of_the_surface():
    linear, quadratic = growth_exponents([*grown("linear", 1), *grown("quadratic", 2)])
    assert linear == {
        "name": "linear",
        "memory_exponent": pytest.approx(1),
        "time_exponent": pytest.approx(0.5),
    }
    assert quadratic == {
        "name": "quadratic",
        "memory_exponent": pytest.approx(2),
        "time_exponent": pytest.approx(1),
    }


def test_exponents_do_not_depend_on_the_order_or_on_a_square():
    rows = grown("a", 1)
    oblong = {**rows[0], "image_size": [32, 128]}
    assert growth_exponents([*reversed(rows[1:]), oblong]) == [
        {"name": "a", "memory_exponent": pytest.approx(1), "time_exponent": pytest.approx(0.5)}
    ]


def test_memory_that_is_unknown_or_too_little_to_be_seen_is_no_point():
    unseen = [{**row, "peak_memory_mb": 0.0} if row["image_size"] == [64, 64] else row for row in grown("a", 1)]
    assert growth_exponents(unseen)[0]["memory_exponent"] == pytest.approx(1)
    for little in (None, 0.0):
        (found,) = growth_exponents(grown("a", 1, peak_memory_mb=little))
        assert found == {"name": "a", "memory_exponent": None, "time_exponent": pytest.approx(0.5)}


def test_measurements_of_a_convolution_have_exponents_and_a_figure():
    model = nn.Conv2d(3, 64, 3, padding=1)
    rows = [measure(model, image_size=size, runs=1, warmup=1)[0].to_dict() for size in (128, 192, 384)]
    (found,) = growth_exponents(rows)
    if found["memory_exponent"] is None:
        pytest.skip("the system does not tell the peak")
    assert found["memory_exponent"] == pytest.approx(1, abs=0.15)
    assert len(growth_figure(rows).axes) == 2


def test_the_figure_has_a_line_per_network_over_the_surface():
    figure = growth_figure([*reversed(grown("a", 1)), *grown("b", 2)])
    memory, time = drawn(figure)
    surfaces = [side**2 for side in SIDES]
    assert memory["a"] == (surfaces, pytest.approx([1e-3 * surface for surface in surfaces]))
    assert time["b"] == (surfaces, pytest.approx([3 * surface for surface in surfaces]))
    assert texts(figure) == ["a", "b", "proportional to surface"]
    # One dashed line through the first point of each network, in the panel of memory alone.
    dashed = [line for line in figure.axes[0].get_lines() if line.get_linestyle() == "--"]
    assert [list(line.get_ydata()) for line in dashed] == [
        pytest.approx([0, 1e-3 * 256**2]),
        pytest.approx([0, 1e-3 * 64**2 * 256**2]),
    ]
    assert len(time) == 2


def test_the_axes_say_what_and_in_which_unit():
    figure = growth_figure(grown("a", 1))
    assert [panel.get_ylabel() for panel in figure.axes] == ["peak memory per image (MB)", "time per image (ms)"]
    for panel in figure.axes:
        assert panel.get_xlabel() == "side of the image (px), placed by surface"
        assert list(panel.get_xticks()) == [side**2 for side in SIDES]
        assert [tick.get_text() for tick in panel.get_xticklabels()] == ["64", "96", "128", "256"]
        assert not panel.spines["top"].get_visible()
        assert not panel.spines["right"].get_visible()
    batches = growth_figure(grown("a", 1, batch_size=8))
    assert [panel.get_ylabel() for panel in batches.axes] == ["peak memory per 8 images (MB)", "time per 8 images (ms)"]


def test_sides_that_stand_too_close_are_not_written_over_each_other():
    (panel, _) = growth_figure(grown("a", 1, sides=(32, 64, 96, 512, 1024))).axes
    assert [tick.get_text() for tick in panel.get_xticklabels()] == ["", "", "96", "512", "1024"]


def test_without_known_memory_time_stands_alone():
    figure = growth_figure(grown("a", 1, peak_memory_mb=None))
    assert [panel.get_ylabel() for panel in figure.axes] == ["time per image (ms)"]
    assert texts(figure) == ["a"]
    partly = growth_figure([*grown("a", 1, peak_memory_mb=None), *grown("b", 1, peak_memory_mb=0.0)])
    assert drawn(partly)[0]["a"] == ([], [])
    partly.savefig(io.BytesIO())


def test_many_networks_differ_in_color_or_marker_and_the_legend_stays_inside():
    figure = growth_figure([row for number in range(20) for row in grown(f"vanillanet_{number}_ada_pool", 1)])
    lines = figure.axes[1].get_lines()
    assert len({(line.get_color(), line.get_marker()) for line in lines}) == 20
    figure.savefig(io.BytesIO())
    inside, legend = figure.bbox, figure.legends[0].get_window_extent()
    assert inside.x0 <= legend.x0 <= legend.x1 <= inside.x1
    assert min(panel.get_window_extent().height for panel in figure.axes) > 1.5 * figure.dpi


@pytest.mark.parametrize("act", [growth_exponents, growth_figure])
def test_one_size_shows_no_growth(act):
    with pytest.raises(ValueError, match=r"cannot tell how b grows: it was measured at 64 px only\. Measure each"):
        act([*grown("a", 1), *grown("b", 1, sides=(64,))])
    with pytest.raises(ValueError, match=r"nothing was measured.*Give a row per network and image size"):
        act([])
