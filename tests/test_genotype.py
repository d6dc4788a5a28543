import json
from dataclasses import replace

import pytest
from search.searches_for_tests import INDIVIDUAL, TINY, cells

from plainvision.genotype import (
    OPERATIONS,
    CellSpace,
    Edge,
    Genotype,
    has_parameters,
    load_genotype,
    random_genotype,
    reductions,
)
from plainvision.search import operation_counts
from plainvision.search.choices import parameter_free_share


@pytest.mark.parametrize("search", [TINY, INDIVIDUAL], ids=["shared", "individual"])
def test_a_genotype_comes_back_from_its_file_and_from_its_text(tmp_path, search):
    genotype = replace(cells(search.space), origin={"epoch": 3, "search": search.to_dict()})
    genotype.save(tmp_path / "genotype.json")
    assert load_genotype(tmp_path / "genotype.json", space=search.space) == genotype
    assert load_genotype(genotype.text()) == replace(genotype, origin={})
    assert "\n" not in genotype.text()


def test_a_node_sees_the_inputs_and_the_nodes_before_it():
    assert CellSpace(nodes=2).edges == ((0, 0), (0, 1), (1, 0), (1, 1), (1, 2))
    assert len(CellSpace(nodes=4).edges) == 14  # as in DARTS
    assert [reductions(depth) for depth in (3, 5, 8, 20)] == [(1, 2), (1, 3), (2, 5), (6, 13)]


def test_individual_cells_have_their_own_places_and_shared_ones_repeat():
    own = cells(INDIVIDUAL.space)
    assert own.cells() == [own.normal[0], own.reduction, own.normal[1], own.reduction, own.normal[2]]
    shared = cells()
    assert [cell == shared.reduction for cell in shared.cells(8)] == [place in (2, 5) for place in range(8)]
    assert set(shared.cells(8)) == {shared.normal[0], shared.reduction}
    with pytest.raises(ValueError, match=r"depth=8, but these are the individual cells of a network of 5.*Leave depth"):
        own.cells(8)


def test_random_cells_follow_from_their_seed_and_use_every_choice():
    space = CellSpace("individual", depth=20)
    assert random_genotype(space, 1) == random_genotype(space, 1) != random_genotype(space, 2)
    drawn = [edge for cell in random_genotype(space, 0).normal for node in cell for edge in node]
    assert {edge.operation for edge in drawn} == set(OPERATIONS) - {"none"}
    assert {edge.source for edge in drawn} == set(range(5))
    only = random_genotype(replace(space, operations=("none", "skip")), 0)
    assert {edge.operation for cell in only.normal for node in cell for edge in node} == {"skip"}


def test_what_has_parameters_depends_on_the_cell_only_for_a_skip():
    assert [name for name in OPERATIONS if has_parameters(name, 2, reduction=True)] == list(OPERATIONS[4:])
    assert has_parameters("skip", 1, reduction=True)
    assert not has_parameters("skip", 1, reduction=False)
    assert not has_parameters("max_pool_3x3", 0, reduction=True)


POOLS = ((Edge("max_pool_3x3", 0), Edge("max_pool_3x3", 1)), (Edge("avg_pool_3x3", 0), Edge("skip", 2)))
CONVOLUTIONS = ((Edge("sep_conv_3x3", 0), Edge("skip", 1)), (Edge("sep_conv_3x3", 0), Edge("dil_conv_5x5", 2)))


def test_choices_are_counted_for_each_cell_and_for_all_normal_ones():
    first, second, reduction, normal = operation_counts(
        [Genotype(CellSpace("individual", 4, 2), (POOLS, CONVOLUTIONS), CONVOLUTIONS)]
    )
    assert [row["cell"] for row in (first, second, reduction, normal)] == ["normal", "normal", "reduction", "normal"]
    assert [row["places"] for row in (first, second, reduction, normal)] == [[1], [4], [2, 3], [1, 4]]
    counts = {"skip": 1, "max_pool_3x3": 2, "avg_pool_3x3": 1, "sep_conv_3x3": 0, "sep_conv_5x5": 0}
    assert first["counts"] == counts | {"dil_conv_3x3": 0, "dil_conv_5x5": 0}
    assert [row["parameter_free"] for row in (first, second, reduction, normal)] == [1, 0.25, 0, 0.625]
    assert normal["counts"]["skip"] == 2


def test_counts_of_several_searches_are_added():
    one = Genotype(TINY.space, (POOLS,), CONVOLUTIONS)
    other = Genotype(TINY.space, (CONVOLUTIONS,), CONVOLUTIONS)
    normal, reduction = operation_counts([one, other])
    assert (normal["places"], reduction["places"]) == ([1], [2, 3])
    assert (sum(normal["counts"].values()), normal["parameter_free"]) == (8, 0.625)
    assert (parameter_free_share(one), parameter_free_share(other)) == (1, 0.25)
    with pytest.raises(ValueError, match=r"counts of 2 genotypes cannot be added: they need to be of one space"):
        operation_counts([one, cells(INDIVIDUAL.space)])


def changed(**changes) -> str:
    return json.dumps(cells().to_dict() | changes)


def with_first_edge(*edge) -> str:
    plain = cells().to_dict()
    plain["normal"][0][0][0] = list(edge)
    return json.dumps(plain)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"kind": "plainvision cells", "ver', r"is not whole JSON.*Copy it again, or make it anew"),
        ("[1, 2]", r"it holds JSON, but no object\. Copy it again"),
        (json.dumps({"figures": []}), r"JSON of another kind"),
        (changed(version=9), r"has version 9 of the format, and this is plainvision's version 1"),
        (
            with_first_edge("conv_7x7", 0),
            r"node 1 of normal cell 1 has 'conv_7x7', which was no candidate of this search; there are skip, ",
        ),
        (with_first_edge("none", 0), r"has 'none', which means no edge at all"),
        (with_first_edge("skip", 2), r"node 1 of normal cell 1 reads the sources \[2, 1\]; it needs 2 different ones"),
        (with_first_edge("skip", 1), r"reads the sources \[1, 1\]"),
        (changed(normal=[]), r"0 normal cells, where a network of 3 shared cells has 1"),
        (changed(reduction=cells().to_dict()["reduction"][:1]), r"reduction cell has 1 nodes, .* this search have 2"),
        (changed(reduction=[[["skip"]]]), r"reduction\[0\]\[0\] is \['skip'\], and must be a list"),
        (changed(space={"cells": "shared"}), r"space lacks the field 'depth'"),
        (changed(normal=None), r"normal is None, and must be a list"),
    ],
)
def test_a_file_that_holds_no_genotype_is_explained(tmp_path, content, message):
    file = tmp_path / "genotype.json"
    file.write_text(content)
    with pytest.raises(ValueError, match=message) as error:
        load_genotype(file)
    assert str(file) in str(error.value)


def test_a_genotype_of_another_search_is_refused(tmp_path):
    cells().save(tmp_path / "genotype.json")
    space = replace(TINY.space, nodes=4, operations=("skip", "sep_conv_3x3"))
    with pytest.raises(
        ValueError, match=r"belongs to another search; it differs in nodes \(2 there, 4 here\), operations"
    ):
        load_genotype(tmp_path / "genotype.json", space=space)
    plain = cells().to_dict()
    plain["space"]["operations"] = ["skip", "sep_conv_3x3"]
    with pytest.raises(ValueError, match=r"which was no candidate of this search; there are skip, sep_conv_3x3"):
        load_genotype(json.dumps(plain))


def test_a_genotype_that_is_not_there_is_named():
    with pytest.raises(FileNotFoundError, match=r"no genotype at runs/none/genotype\.json. Give the genotype\.json"):
        load_genotype("runs/none/genotype.json")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cells": "some"}, r"cells='some' must be shared or individual"),
        ({"depth": 2}, r"depth=2: a network has two reduction cells and a normal one at least. Give 3 or more"),
        ({"nodes": 0}, r"nodes=0: a cell is made of its nodes"),
        ({"operations": ("skip", "conv")}, r"unknown operation 'conv'; there are none, skip, "),
        ({"operations": ("skip", "skip")}, r"names skip twice"),
        ({"operations": ("none",)}, r"leaves nothing to choose, because `none` is never chosen"),
    ],
)
def test_a_space_without_networks_is_explained(changes, message):
    with pytest.raises(ValueError, match=message):
        CellSpace(**changes)
