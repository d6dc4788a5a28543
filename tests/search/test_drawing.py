import itertools

import pytest
from search.searches_for_tests import INDIVIDUAL, TINY, cells

from plainvision.figures.cells import _FREE, _LEARNED
from plainvision.figures.cells_layout import NODE, TRACK, lay_out
from plainvision.figures.style import save
from plainvision.search import Space, draw_cells


def words(figure) -> list[str]:
    (axes,) = figure.axes
    return [text.get_text() for text in axes.texts if text.get_text()]


def test_a_figure_names_every_operation_of_every_different_cell():
    for search, titles in (
        (TINY, ["normal cell, place 1 of 3", "reduction cell, places 2, 3 of 3"]),
        (
            INDIVIDUAL,
            [f"normal cell, place {place} of 5" for place in (1, 3, 5)] + ["reduction cell, places 2, 4 of 5"],
        ),
    ):
        genotype = cells(search.space)
        drawn = words(draw_cells(genotype))
        assert [word for word in drawn if " cell, place" in word] == titles
        names = [
            edge.operation.replace("_", " ")
            for cell in (*genotype.normal, genotype.reduction)
            for node in cell
            for edge in node
        ]
        assert sorted(word for word in drawn if word in names) == sorted(names)
        assert drawn.count("output") == drawn.count("cell k-1") == drawn.count("cell k-2") == len(titles)


def test_the_colours_tell_what_has_parameters():
    genotype = cells(Space(nodes=4, operations=("skip", "sep_conv_3x3")))
    (axes,) = draw_cells(genotype).axes
    fills = [patch.get_facecolor()[:3] for patch in axes.patches]
    edges = [edge for cell in (*genotype.normal, genotype.reduction) for node in cell for edge in node]
    free = sum(e.operation == "skip" for e in edges) - sum(
        e.operation == "skip" and e.source < 2 for node in genotype.reduction for e in node
    )
    from matplotlib.colors import to_rgb

    assert fills.count(to_rgb(_FREE[0])) == free + 1  # and the legend
    assert fills.count(to_rgb(_LEARNED[0])) == len(edges) - free + 1


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("nodes", [1, 4, 8])
def test_nothing_in_a_column_overlaps(nodes, seed):
    cell = cells(Space(nodes=nodes), seed).normal[0]
    layout = lay_out(cell)
    for here in range(1, layout.columns + 1):
        things = [(height, NODE) for source, height in layout.height.items() if layout.column[source] == here]
        things += [(height, TRACK) for (_, column), height in layout.tracks.items() if column == here]
        for (low, size), (high, other) in itertools.pairwise(sorted(things)):
            assert high - low >= (size + other) / 2 - 1e-6
    assert all(
        layout.column[node + 2] > layout.column[edge.source] for node, edges in enumerate(cell) for edge in edges
    )
    assert sorted(layout.ends) == list(range(2, nodes + 2))


@pytest.mark.parametrize("suffix", ["png", "pdf", "svg"])
def test_a_figure_is_written_in_each_format(tmp_path, suffix):
    save(draw_cells(cells()), tmp_path / f"cells.{suffix}")
    assert (tmp_path / f"cells.{suffix}").stat().st_size > 1000
