"""Results that are kept in a folder."""

from pathlib import Path

import pytest
import torch
from torch import nn

from plainvision.data.kept import kept, network_facts


def counted(folder: Path | None, about: dict, calls: list[int]) -> tuple[torch.Tensor, str]:
    def compute():
        calls.append(1)
        return torch.arange(3.0), "word"

    return kept(
        folder,
        about,
        compute,
        taken_apart=lambda pair: ({"values": pair[0]}, {"word": pair[1]}),
        put_together=lambda tensors, plain: (tensors["values"], plain["word"]),
    )


def test_a_result_is_computed_once_for_all_that_decides_it(tmp_path):
    calls: list[int] = []
    folder = tmp_path / "new" / "folder"
    for about in ({"a": 1, "b": [2]}, {"b": [2], "a": 1}):
        values, word = counted(folder, about, calls)
        assert (values.tolist(), word) == ([0, 1, 2], "word")
    assert len(calls) == 1
    counted(folder, {"a": 2}, calls)
    counted(None, {"a": 2}, calls)
    assert len(calls) == 3
    assert len([*folder.iterdir()]) == 2


@pytest.mark.parametrize("damage", [b"", b"no file of ours", None])
def test_a_damaged_result_is_computed_anew(tmp_path, damage):
    calls: list[int] = []
    counted(tmp_path, {"a": 1}, calls)
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + b"?" if damage is None else damage)
    assert counted(tmp_path, {"a": 1}, calls)[1] == "word"
    assert len(calls) == 2
    assert file.read_bytes() == whole


def test_a_network_without_weights_of_its_own_is_known_by_nothing():
    one, other = nn.Linear(2, 2), nn.Linear(2, 2)
    assert network_facts(one) == network_facts(one) != network_facts(other)
    with pytest.raises(ValueError, match=r"ReLU shows none: a runtime has them\. Drop --keep, or give the network"):
        network_facts(nn.ReLU())
