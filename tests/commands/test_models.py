"""`plainvision models`: the cards, as a table and as JSON."""

import json
from dataclasses import asdict

from commands.running import plainvision, rows, said

import plainvision as pv


def test_models_prints_the_cards_as_a_table():
    table = rows(plainvision("models").out)
    for name in pv.list_models():
        card = pv.card(name)
        assert table[name] == [
            f"{card.params / 1e6:.1f}",
            f"{card.macs / 1e9:.2f}",
            f"{card.training_macs / 1e9:.2f}",
            str(card.image_size),
            *([] if card.top1 is None else [f"{card.top1:.2f}"]),
        ]


def test_models_prints_the_cards_as_json():
    cards = [asdict(pv.card(name)) for name in pv.list_models()]
    assert json.loads(plainvision("models", "--json").out) == json.loads(json.dumps(cards))  # JSON has no tuples
    family = json.loads(plainvision("models", "vanillanet", "--json").out)
    assert [card["name"] for card in family] == pv.list_models("vanillanet")
    assert said(plainvision("models", "vanilla"), "unknown family 'vanilla'; there are", "vanillanet")
