"""Which options sites have, and the permutations of them."""

import itertools
import json

import pytest

from plainvision.dynamic import Space
from plainvision.dynamic.space import to_plain
from plainvision.fields import from_plain
from plainvision.layers.dynamic_conv import Option, describe

# What ResNet-50 was trained with.
RESNET = {
    "A": Option(stride=1, dilation=1, size=3),
    "B": Option(stride=2, dilation=1, size=3),
    "C": Option(stride=2, dilation=1, size=3),
    "D": Option(stride=2, dilation=1, size=3),
}
TWO = {site: RESNET[site] for site in "AB"}


def strides(*values: float) -> tuple[Option, ...]:
    return tuple(Option(stride=value) for value in values)


def test_the_papers_strides_make_400_permutations_of_four_sites():
    space = Space.paper("stride")
    options = space.options(RESNET)
    assert options["A"] == options["B"] == strides(1, 2, 3, 4)
    assert options["C"] == options["D"] == strides(0.5, 1, 2, 3, 4)
    permutations = space.permutations(RESNET)
    assert len(permutations) == len(set(permutations)) == 4 * 4 * 5 * 5 == 400
    assert space.default(RESNET) == strides(1, 2, 2, 2)
    assert space.default(RESNET) in permutations


@pytest.mark.parametrize(("attribute", "values"), [("dilation", (1, 2, 3, 4, 5)), ("size", (1, 3, 5, 7, 9))])
def test_the_papers_dilations_and_sizes_make_625_permutations_of_four_sites(attribute, values):
    space = Space.paper(attribute)
    options = tuple(Option(**{attribute: value}) for value in values)
    assert space.options(RESNET) == dict.fromkeys("ABCD", options)
    permutations = space.permutations(RESNET)
    assert set(permutations) == set(itertools.product(options, repeat=4))
    assert len(permutations) == 625
    assert space.default(RESNET) in permutations
    assert space.max_activations is None  # only strides need more memory


def test_an_unknown_attribute_is_refused():
    with pytest.raises(ValueError, match=r"unknown attribute 'width': it is one of stride, dilation, size\."):
        Space.paper("width")


def test_permutations_are_listed_with_the_last_site_changing_fastest():
    space = Space(stride=(2, 1))
    assert space.permutations(TWO) == (strides(2, 2), strides(2, 1), strides(1, 2), strides(1, 1))


def test_a_site_may_have_its_own_values_and_keeps_its_trained_one_without_any():
    space = Space(stride={"B": (1, 4)}, dilation={"A": (3,), "B": (1, 2)})
    assert space.attributes == ("stride", "dilation")
    options = space.options(TWO)
    assert options["A"] == (Option(stride=1, dilation=3),)
    assert options["B"] == (Option(1, 1), Option(1, 2), Option(4, 1), Option(4, 2))
    assert space.default(TWO) == (Option(stride=1, dilation=1), Option(stride=2, dilation=1))
    assert Space(stride={"A": (3,)}).options(TWO) == {"A": strides(3), "B": strides(2)}


def test_several_attributes_are_combined_in_every_way():
    space = Space(stride=(1, 2), dilation=(1, 2, 3), size=(3, 5))
    options = space.options(TWO)["A"]
    assert options == tuple(Option(*values) for values in itertools.product((1, 2), (1, 2, 3), (3, 5)))
    assert len(space.permutations(TWO)) == 12**2


def test_a_stride_of_a_half_can_be_left_out_at_the_first_sites():
    for count in range(4):
        options = Space(stride=(0.5, 2), upsample_from=count).options(RESNET)
        assert [Option(stride=0.5) in options[site] for site in RESNET] == [place >= count for place in range(4)]


def test_chosen_permutations_are_taken_as_they_are():
    chosen = (
        (Option(stride=2, size=5), Option(stride=1, size=3)),
        (Option(stride=1, size=3), Option(stride=2, size=7)),
        (Option(stride=2, size=5), Option(stride=2, size=7)),
    )
    space = Space(chosen=chosen)
    assert space.attributes == ("stride", "size")
    assert space.permutations(TWO) == chosen
    assert space.options(TWO) == {"A": (chosen[0][0], chosen[1][0]), "B": (chosen[0][1], chosen[1][1])}
    assert space.default(TWO) == (Option(stride=1, size=3), Option(stride=2, size=3))


def test_chosen_permutations_must_fit_the_sites():
    space = Space(chosen=(strides(1, 2), strides(2, 2)))
    match = r"the permutations of this space are for 2 sites, and the network has 4: A, B, C, D\. Use the sites"
    with pytest.raises(ValueError, match=match):
        space.permutations(RESNET)


def test_an_unknown_site_is_refused():
    with pytest.raises(ValueError, match=r"unknown site 'E' in dilation: the sites are A, B, C, D\."):
        Space(dilation={"A": (1,), "E": (1, 2)}).options(RESNET)


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({}, r"nothing changes in this space\. Give stride, dilation or size.*Space\.paper\('stride'\)"),
        ({"chosen": ()}, "nothing changes in this space"),
        ({"chosen": ((Option(), Option()),)}, "nothing changes in this space"),
        ({"stride": ()}, r"stride=\(\): give one value or more, each once, for instance stride=\(1, 2, 3\)"),
        ({"size": {"A": (3,), "B": []}}, r"size=\[\]: give one value or more"),
        ({"dilation": "123"}, r"dilation='123': give one value or more"),
        ({"stride": (1, 2), "chosen": (strides(1, 2),)}, "a product of options or a list of permutations: give one"),
    ],
)
def test_a_space_that_cannot_work_is_refused(values, match):
    with pytest.raises(ValueError, match=match):
        Space(**values)


def test_permutations_are_described_and_survive_json():
    permutations = ((Option(stride=2), Option(stride=0.5)), (Option(stride=1, size=5), Option(dilation=2)))
    assert describe(permutations[0], "AB") == "A 2, B ½"
    assert describe(permutations[1], "AB") == "A stride 1 size 5, B 2"
    plain = to_plain(permutations)
    assert plain[1] == [{"stride": 1, "size": 5}, {"dilation": 2}]
    known = from_plain(Space, {"chosen": json.loads(json.dumps(plain))}, "space")
    assert known.chosen == permutations
