"""The figure of cells names every operation, and nothing on it is covered or cut."""

import itertools

import pytest
from matplotlib.colors import to_rgb
from search.searches_for_tests import INDIVIDUAL, TINY, cells

from plainvision.figures.cells import _FREE, _LEARNED
from plainvision.figures.style import save
from plainvision.search import CellSpace, draw_cells


def words(figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def test_a_figure_names_every_operation_of_every_different_cell():
    for search, titles in (
        (TINY, ["normal cell, place 1 of 3", "reduction cell, places 2, 3 of 3"]),
        (
            INDIVIDUAL,
            [f"normal cell, place {place} of 5" for place in (1, 3, 5)] + ["reduction cell, places 2, 4 of 5"],
        ),
    ):
        genotype = cells(search.space)
        figure = draw_cells(genotype)
        assert [axes.get_title(loc="left") for axes in figure.axes] == titles
        for axes, cell in zip(figure.axes, (*genotype.normal, genotype.reduction), strict=True):
            drawn = [text.get_text() for text in axes.texts]
            names = [edge.operation.replace("_", " ") for node in cell for edge in node]
            numbers = [str(number + 1) for number in range(len(cell))]
            assert sorted(drawn) == sorted([*names, *numbers, "output", "cell k-1", "cell k-2"])


def test_a_line_leads_from_each_source_through_an_operation_to_its_node():
    genotype = cells(CellSpace(nodes=4))
    for axes, cell in zip(draw_cells(genotype).axes, (genotype.normal[0], genotype.reduction), strict=True):
        place = {text.get_text(): text.get_position() for text in axes.texts}
        columns = [place[name][0] for name in ("cell k-2", "cell k-1", "1", "2", "3", "4")]
        boxes = {
            text.get_position()[1]: text for text in axes.texts if " " in text.get_text() or text.get_text() == "skip"
        }
        lines = [line.get_data() for line in axes.lines]
        edges = [(number + 2, edge) for number, node in enumerate(cell) for edge in node]
        for (node, edge), y in zip(edges, sorted((y for y in boxes if y), reverse=True), strict=True):
            assert boxes[y].get_text() == edge.operation.replace("_", " ")
            assert columns[edge.source] < boxes[y].get_position()[0] < columns[edge.source + 1]
            assert any(list(x) == [columns[edge.source], columns[node]] and list(ys) == [y, y] for x, ys in lines)


def test_the_colours_tell_what_has_parameters():
    genotype = cells(CellSpace(nodes=4, operations=("skip", "sep_conv_3x3")))
    fills = [to_rgb(text.get_bbox_patch().get_facecolor()) for axes in draw_cells(genotype).axes for text in axes.texts]
    edges = [edge for cell in (*genotype.normal, genotype.reduction) for node in cell for edge in node]
    free = sum(e.operation == "skip" for e in edges) - sum(
        e.operation == "skip" and e.source < 2 for node in genotype.reduction for e in node
    )
    assert fills.count(to_rgb(_FREE[0])) == free
    assert fills.count(to_rgb(_LEARNED[0])) == len(edges) - free


@pytest.mark.parametrize("space", [TINY.space, INDIVIDUAL.space, CellSpace(nodes=1), CellSpace(nodes=8)])
def test_nothing_overlaps_or_is_cut(space):
    longest = tuple(name for name in space.choices if name != "skip")
    figure = draw_cells(cells(CellSpace(space.cells, space.depth, space.nodes, longest)))
    figure.draw_without_rendering()
    boxes = [text.get_bbox_patch().get_window_extent() for axes in figure.axes for text in axes.texts]
    boxes += [axes._left_title.get_window_extent() for axes in figure.axes]
    boxes += [text.get_window_extent() for text in figure.legends[0].get_texts()]
    for one, other in itertools.combinations(boxes, 2):
        assert not one.overlaps(other)
    for box in boxes:
        assert 0 <= box.x0 < box.x1 <= figure.bbox.x1
        assert 0 <= box.y0 < box.y1 <= figure.bbox.y1


@pytest.mark.parametrize("suffix", ["png", "pdf", "svg"])
def test_a_figure_is_written_in_each_format(tmp_path, suffix):
    save(draw_cells(cells()), tmp_path / f"cells.{suffix}")
    assert (tmp_path / f"cells.{suffix}").stat().st_size > 1000
