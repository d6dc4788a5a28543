import pytest
import timm

import plainvision as pv
from plainvision.models.registry import Published, add_family


def test_ours_and_timms_networks_are_built_by_name():
    assert type(pv.create_model("vanillanet_5", width=1 / 64)).__name__ == "VanillaNet"
    assert type(pv.create_model("resnet18.a1_in1k")).__name__ == "ResNet"
    assert "vanillanet_13_x1_5_ada_pool" in pv.list_models("vanillanet")
    assert set(pv.list_models()) <= set(timm.list_models())


@pytest.mark.parametrize(
    ("typo", "hint"),
    [
        ("vanilanet_6", "vanillanet_6"),
        ("resnet5", "resnet50|resnet51|resnet15"),
        ("zzzzz", "plainvision models"),
        ("vanillanet_5:deployd", "vanillanet_5"),
    ],
)
def test_a_typo_gets_the_nearest_names(typo, hint):
    with pytest.raises(ValueError, match=rf"unknown model '{typo}'.*({hint})"):
        pv.create_model(typo)


def test_an_unknown_option_is_named():
    with pytest.raises(ValueError, match=r"resnet18 has no option 'width'"):
        pv.create_model("resnet18", width=0.5)


def test_an_unknown_family_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match=r"unknown family 'vgg'; there are .*vanillanet"):
        pv.list_models("vgg")


def test_a_name_that_is_taken_is_refused():
    with pytest.raises(ValueError, match=r"cannot add the network 'vanillanet_5'.*the family 'vanillanet' has it"):
        add_family("other", {"vanillanet_5": Published(None, "")})


def test_a_card_of_timms_network_counts_and_quotes_nothing():
    card = pv.card("resnet18")
    assert card.params == 11_689_512
    assert card.top1 is None
    assert card.family == "timm"
