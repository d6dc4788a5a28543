"""The figures of dynamic networks draw what they are given, name the oracle, and refuse what cannot be drawn."""

import itertools

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from plainvision.figures.outcomes import efficiency, greedy_curves, layer_choice, unique_predictions
from plainvision.figures.preferences import preference_by_scale, preferred_permutations
from plainvision.figures.style import save
from plainvision.layers.dynamic_conv import Option

SITES = ("A", "B", "C", "D")
STRIDES = tuple(Option(stride=stride) for stride in (0.5, 1, 2, 3, 4))
PERMUTATIONS = tuple(itertools.product(STRIDES[1:], STRIDES[1:], STRIDES, STRIDES))[:361]
SHARES = np.random.default_rng(0).dirichlet(np.full(361, 0.5))
DEFAULT = PERMUTATIONS[142]
CURVES = {"stride": [76.5, 81.0, 85.0, 93.7], "size": [76.5, 80.0]}
BOUNDS = {"A": (40.0, 70.0, 82.0), "D": (60.0, 74.0, 80.5), "AD": (20.0, 50.0, 88.0)}
POINTS = [
    ("pre-trained", 4.1e9, 76.5, "static"),
    ("pre-trained", 0.4e9, 76.5, "static, cheapest"),
    ("pre-trained", 3.3e9, 93.0, "best case"),
    ("fine-tuned", 0.3e9, 94.0, "best case, cheapest"),
]
SCALES = {scale: {site: {o: 0.1 * i for i, o in enumerate(STRIDES)} for site in SITES} for scale in (4, 0.5, 1)}

ALL = {
    "preferred_permutations": lambda: preferred_permutations(SITES, PERMUTATIONS, SHARES, DEFAULT),
    "unique_predictions": lambda: unique_predictions({"before": np.array([1, 9, 4]), "after": np.array([1, 1, 2])}),
    "greedy_curves": lambda: greedy_curves(CURVES, 76.5, controls={"input zooms": [76.5, 79.0]}),
    "layer_choice": lambda: layer_choice(BOUNDS, 76.5, controls={"best of as many zooms": {"A": 79.0}}),
    "efficiency": lambda: efficiency([1e9, 2e9, 4e9], [20.0, 76.0, 50.0], POINTS),
    "preference_by_scale": lambda: preference_by_scale(SITES, {"stride": SCALES, "again": SCALES}),
}


def keys(figure: Figure) -> list[str]:
    return [text.get_text().replace("\n", " ") for text in figure.legends[0].get_texts()]


def words(figure: Figure) -> str:
    found = [figure.get_supxlabel(), figure.get_supylabel(), *(keys(figure) if figure.legends else [])]
    return " ".join([*found, *(axes.get_xlabel() + " " + axes.get_ylabel() for axes in figure.axes)])


@pytest.mark.parametrize("name", ALL)
def test_a_figure_is_as_wide_as_a_column_or_two_and_can_be_written(name, tmp_path):
    figure = ALL[name]()
    assert figure.get_figwidth() in (3.3, 6.8)
    for suffix in (".png", ".svg"):
        save(figure, tmp_path / f"one{suffix}")
        assert (tmp_path / f"one{suffix}").stat().st_size > 1000


@pytest.mark.parametrize("name", sorted(set(ALL) - {"unique_predictions"}))
def test_what_an_oracle_chose_says_so(name):
    assert "oracle" in words(ALL[name]())


@pytest.mark.parametrize("name", ALL)
def test_nothing_is_cut_off(name):
    figure = ALL[name]()
    figure.draw_without_rendering()
    box = figure.get_tightbbox()
    assert box.x0 >= -0.02
    assert box.y0 >= -0.02
    assert box.x1 <= figure.get_figwidth() + 0.02
    assert box.y1 <= figure.get_figheight() + 0.02


# Figure 1


def test_lines_are_as_wide_as_their_shares_and_the_default_is_black_and_on_top():
    shares = SHARES.copy()
    shares[7] = 0
    figure = preferred_permutations(SITES, PERMUTATIONS, shares / shares.sum(), DEFAULT)
    (axes,) = figure.axes
    (lines,) = axes.collections
    widths = np.array(lines.get_linewidths())
    others = np.delete(shares, [7, 142])
    assert len(widths) == 360
    assert widths / widths.sum() == pytest.approx(np.append(np.sort(others), shares[142]) / shares.sum())
    colours = [to_hex(colour) for colour in lines.get_edgecolors()]
    assert [i for i, colour in enumerate(colours) if colour == "#1a1a1a"] == [359]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["½", "1", "2", "3", "4"]
    assert [label.get_text() for label in axes.get_xticklabels()] == list(SITES)
    assert axes.get_ylabel() == "stride"


def test_lines_of_one_option_lie_side_by_side_within_its_row():
    figure = preferred_permutations(SITES, PERMUTATIONS, SHARES, DEFAULT)
    (axes,) = figure.axes
    (lines,) = axes.collections
    per_point = np.ptp(axes.get_ylim()) / (axes.bbox.height / figure.dpi * 72)
    widths = np.array(lines.get_linewidths()) * per_point
    assert widths.sum() == pytest.approx(1)  # the axis counts shares
    places = np.array([[path.vertices[0, 1], *path.vertices[4::4, 1]] for path in lines.get_paths()])
    for site in range(4):
        order = np.argsort(places[:, site])
        ends = places[order, site] + widths[order] / 2
        begins = places[order, site] - widths[order] / 2
        gaps = begins[1:] - ends[:-1]
        assert gaps.min() > -1e-9
        assert (gaps > 1e-9).sum() == len({permutation[site] for permutation in PERMUTATIONS}) - 1


def test_the_legend_names_the_most_preferred_permutation_and_a_width():
    shares = np.zeros(361)
    shares[[0, 142]] = 0.6, 0.012
    figure = preferred_permutations(SITES, PERMUTATIONS, shares, DEFAULT)
    named, most, colours, scale = keys(figure)
    assert named == "as trained: A 2, B 2, C 3, D 2 (1.2%)"
    assert most == "most preferred: A 1, B 1, C ½, D ½ (60%)"
    assert colours == "colour: the option at A, 1 to 2"
    assert scale.startswith("preferred by an oracle for ")
    elsewhere = preferred_permutations(SITES, PERMUTATIONS, shares, (Option(stride=7),) * 4)
    assert keys(elsewhere)[0] == most


def test_permutations_of_one_site_and_of_several_attributes_are_drawn():
    options = [Option(stride=stride, size=size) for stride in (1, 2) for size in (1, 3)]
    figure = preferred_permutations(
        ["layer4.0.conv2"], [(o,) for o in options], [0.5, 0.25, 0.25, 0], (Option(size=3),)
    )
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == [str(option) for option in options]
    assert axes.get_ylabel() == "stride, size"
    assert len(axes.collections[0].get_paths()) == 3


@pytest.mark.parametrize(
    ("shares", "sites", "message"),
    [
        ([0.5], SITES, "361 permutations and 1 shares of sum 0.5. Give the share of images, from 0 to 1"),
        (np.zeros(361), SITES, "361 shares of sum 0. Give"),
        (100 * SHARES, SITES, "361 shares of sum 100. Give"),
        (SHARES, SITES[:2], "a permutation has 4 options for 2 sites. Give one for each"),
    ],
)
def test_shares_that_do_not_fit_are_refused(shares, sites, message):
    with pytest.raises(ValueError, match=message):
        preferred_permutations(sites, PERMUTATIONS, shares, DEFAULT)


# Figure 2


def test_histograms_are_in_per_cent_of_the_images_and_their_means_are_named():
    counts = {"stride": np.array([1, 2, 2, 5], np.uint8), "size": np.array([3, 3, 2])}
    figure = unique_predictions(counts)
    (axes,) = figure.axes
    drawn = [patch.get_data() for patch in axes.patches if not patch.get_fill()]
    assert [list(one.values) for one in drawn] == [[25, 50, 0, 0, 25], [0, pytest.approx(100 / 3), 200 / 3, 0, 0]]
    assert list(drawn[0].edges) == [0.5, 1.5, 2.5, 3.5, 4.5, 5.5]
    assert keys(figure) == ["stride (mean 2.5)", "size (mean 2.7)"]
    assert axes.get_yscale() == "linear"


def test_a_peak_far_above_another_makes_shares_logarithmic():
    steep, wide = np.ones(100, int), np.arange(1, 101)
    assert unique_predictions({"after": steep, "before": wide}).axes[0].get_yscale() == "log"
    assert unique_predictions({"after": steep}).axes[0].get_yscale() == "linear"


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({}, "no counts to draw. Give the unique predictions"),
        ({"size": []}, "'size' has no images. Give a count"),
        ({"size": [1, 0]}, "'size' has an image with 0 predictions. Give a count from 1"),
    ],
)
def test_counts_that_are_none_are_refused(counts, message):
    with pytest.raises(ValueError, match=message):
        unique_predictions(counts)


# Figure 3


def test_curves_begin_at_one_permutation_and_controls_are_dashed():
    figure = greedy_curves(CURVES, 76.5, controls={"input zooms": [76.5, 79.0, 80.0]})
    (axes,) = figure.axes
    stride, size, zooms, static = axes.lines
    assert list(zip(*stride.get_data(), strict=True)) == list(enumerate(CURVES["stride"], start=1))
    assert list(size.get_ydata()) == CURVES["size"]
    assert list(zooms.get_ydata()) == [76.5, 79.0, 80.0]
    assert stride.get_linestyle() == "-" != zooms.get_linestyle()
    assert set(static.get_ydata()) == {76.5}
    assert axes.get_xscale() == "log"
    assert keys(figure) == ["stride", "size", "input zooms", "as trained, no oracle"]


def test_each_curve_may_have_a_static_network_of_its_own():
    figure = greedy_curves(CURVES, {"stride": 76.1, "size": 75.2})
    stride, its, size, other = figure.axes[0].lines
    assert (set(its.get_ydata()), its.get_color()) == ({76.1}, stride.get_color())
    assert (set(other.get_ydata()), other.get_color()) == ({75.2}, size.get_color())


@pytest.mark.parametrize(
    ("curves", "static", "message"),
    [
        ({}, 76.5, "there is no curve to draw. Give the best case"),
        ({"size": []}, 76.5, "no curve to draw of 'size'. Give"),
        ({"size": [1.0]}, {"stride": 76.5}, "no static accuracy of 'size': there is stride. Give it too"),
    ],
)
def test_curves_that_are_none_are_refused(curves, static, message):
    with pytest.raises(ValueError, match=message):
        greedy_curves(curves, static)


# Figure 4


def test_bars_reach_from_the_worst_to_the_best_case():
    controls = {"zooms": {"A": 79.0, "AD": 85.0}, "crops": {"D": 78.0}}
    figure = layer_choice(BOUNDS, 76.5, controls=controls)
    (axes,) = figure.axes
    bars = [(bar.get_y(), bar.get_y() + bar.get_height()) for bar in axes.patches]
    assert bars == [(worst, best) for worst, _, best in BOUNDS.values()]
    best, median, worst = ([line[0, 1] for line in marks.get_segments()] for marks in axes.collections)
    assert list(zip(worst, median, best, strict=True)) == list(BOUNDS.values())
    zooms, crops, static = axes.lines
    assert (list(zooms.get_ydata()), list(crops.get_ydata())) == ([79.0, 85.0], [78.0])
    assert [round(x) for x in zooms.get_xdata()] == [0, 2]
    assert [round(x) for x in crops.get_xdata()] == [1]
    assert set(static.get_ydata()) == {76.5}
    assert [label.get_text() for label in axes.get_xticklabels()] == list(BOUNDS)
    assert keys(figure)[:3] == ["best", "median", "worst"]
    assert keys(figure)[-1] == "as trained, no oracle"
    assert axes.get_ylabel() == "top-1 of an oracle (%)"


def test_the_legend_of_bounds_takes_little_of_the_figure():
    figure = ALL["layer_choice"]()
    figure.draw_without_rendering()
    assert figure.legends[0].get_window_extent().height < 0.2 * figure.bbox.height


def test_marks_beside_a_bar_do_not_reach_its_neighbour():
    figure = layer_choice(
        BOUNDS, 76.5, controls={"zooms": dict.fromkeys(BOUNDS, 80), "crops": dict.fromkeys(BOUNDS, 80)}
    )
    (axes,) = figure.axes
    ends = [bar.get_x() for bar in axes.patches][1:]
    assert all(x < end for x, end in zip(axes.lines[1].get_xdata(), ends, strict=False))


def test_a_choice_of_fifteen_takes_two_columns():
    names = ["".join(one) for count in range(1, 5) for one in itertools.combinations(SITES, count)]
    assert layer_choice(dict.fromkeys(names, (1.0, 2.0, 3.0)), 2.5).get_figwidth() == 6.8
    assert layer_choice(BOUNDS, 2.5).get_figwidth() == 3.3


def test_bounds_that_are_none_are_refused():
    with pytest.raises(ValueError, match=r"no bounds to draw. Give"):
        layer_choice({}, 76.5)
    with pytest.raises(
        ValueError, match=r"'zooms' has a control for 'B', and there are bounds for A, D, AD. Leave it out"
    ):
        layer_choice(BOUNDS, 76.5, controls={"zooms": {"B": 1.0}})


# Figure 6


def test_points_have_a_marker_per_kind_and_what_is_cheapest_is_joined_to_what_it_stands_for():
    figure = efficiency([1e9, 2e9, 4e9, 8e9], [20.0, 76.0, 50.0, 77.0], POINTS)
    (axes,) = figure.axes
    dots, frontier, *kinds, join = axes.lines
    assert list(zip(*dots.get_data(), strict=True)) == [(1, 20), (2, 76), (4, 50), (8, 77)]
    assert list(zip(*frontier.get_data(), strict=True)) == [(1, 20), (2, 76), (8, 77)]
    assert [(line.get_marker(), line.get_xdata()[0], line.get_ydata()[0]) for line in kinds] == [
        ("o", 4.1, 76.5),
        ("*", 0.4, 76.5),
        ("o", 3.3, 93.0),
        ("*", 0.3, 94.0),
    ]
    assert list(zip(*join.get_data(), strict=True)) == [(0.4, 76.5), (4.1, 76.5)]
    assert [text.get_text() for text in axes.texts] == ["pre-trained", "pre-trained", "fine-tuned"]
    assert [key for key in keys(figure) if "oracle" in key] == ["cheapest (oracle)", "best case (oracle)"]
    assert axes.get_xlabel().startswith("multiply-adds per image (G)\ncheapest: each image's cheapest permutation")


def test_small_networks_are_counted_in_millions():
    (axes,) = efficiency([3e8, 3e8], [70.0, 70.0], []).axes
    assert axes.get_xlabel() == "multiply-adds per image (M)"
    assert list(axes.lines[0].get_xdata()) == [300, 300]


def test_names_of_points_do_not_overlap():
    points = [(f"network {i}", 1e9 * (1 + 0.1 * i), 80.0 + i, "best case") for i in range(4)]
    figure = efficiency([1e8, 5e9], [10.0, 70.0], points)
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    assert len(boxes) == 4
    assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))


def test_costs_that_are_none_are_refused():
    with pytest.raises(ValueError, match=r"multiply-adds of 0 permutations and accuracies of 0. Give both"):
        efficiency([], [], POINTS)
    with pytest.raises(ValueError, match=r"multiply-adds of 1 permutations and accuracies of 2"):
        efficiency([1], [1, 2], POINTS)
    with pytest.raises(ValueError, match=r"'net' is of the unknown kind 'best': it is one of static; static, cheapest"):
        efficiency([1], [2], [("net", 1, 2, "best")])


# Figures 5 and 7


def test_a_panel_per_site_has_a_line_per_option_in_per_cent():
    figure = preference_by_scale(SITES, {"stride": SCALES})
    assert [axes.get_title() for axes in figure.axes] == list(SITES)
    for axes in figure.axes:
        *lines, trained = axes.lines
        assert set(trained.get_xdata()) == {1}
        assert [list(line.get_xdata()) for line in lines] == [[0.5, 1, 4]] * 5
        assert [line.get_ydata()[0] for line in lines] == pytest.approx([0, 10, 20, 30, 40])
        assert len({line.get_color() for line in lines}) == 5
        assert axes.get_xscale() == "log"
    legend = figure.axes[-1].get_legend()
    assert legend.get_title().get_text() == "stride"
    assert [text.get_text() for text in legend.get_texts()] == ["4", "3", "2", "1", "½"]
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["½", "1", "2", "4"]


def test_context_is_in_pixels_and_an_option_that_a_site_lacks_has_no_line_there():
    series = {size: {"A": {STRIDES[1]: 1.0}, "B": {STRIDES[0]: 0.4, STRIDES[1]: 0.6}} for size in (50, 250)}
    figure = preference_by_scale(("A", "B"), {"stride": series}, axis="context")
    first, second = figure.axes
    assert (len(first.lines), len(second.lines)) == (1, 2)
    assert first.lines[0].get_color() == second.lines[1].get_color()
    assert first.get_xscale() == "linear"
    assert figure.get_supxlabel() == "side of the centre crop (pixels)"


def test_options_may_be_given_by_their_words_and_stand_in_their_order():
    series = {scale: {"A": {"1": 0.7, "10": 0.3}, "B": {"½": 0.2, "1": 0.5, "2": 0.3}} for scale in (1, 2)}
    figure = preference_by_scale(("A", "B"), {"stride": series})
    assert [text.get_text() for text in figure.axes[-1].get_legend().get_texts()] == ["10", "2", "1", "½"]
    assert [line.get_ydata()[0] for line in figure.axes[1].lines[:-1]] == pytest.approx([20, 50, 30])


def test_every_attribute_has_a_row():
    figure = preference_by_scale(SITES, {"stride": SCALES, "again": SCALES})
    assert len(figure.axes) == 8
    assert [a.get_legend().get_title().get_text() for a in figure.axes if a.get_legend()] == ["stride", "again"]


def test_preferences_that_are_none_are_refused():
    with pytest.raises(ValueError, match=r"nothing to draw in 4 sites and 0 rows. Give"):
        preference_by_scale(SITES, {})
    with pytest.raises(ValueError, match=r"nothing to draw in 4 sites and 1 rows. Give .* at one context or more"):
        preference_by_scale(SITES, {"stride": {}}, axis="context")
    with pytest.raises(
        ValueError, match=r"stride at scale 4 has no preferences of site 'E': there is A, B, C, D. Give"
    ):
        preference_by_scale(("E",), {"stride": SCALES})
