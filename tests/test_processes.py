"""Processes that read images, and the group of those that share a run."""

import pytest
from torch.utils.data import Dataset, IterableDataset

from plainvision import processes
from plainvision.processes import Loader


class Numbers(Dataset[int]):
    def __getitem__(self, index: int) -> int:
        return index

    def __len__(self) -> int:
        return 4


class Stream(IterableDataset[int]):
    def __iter__(self):
        return iter(range(4))


@pytest.mark.parametrize(("images", "asked", "started"), [(Numbers, 3, 1), (Numbers, 0, 0), (Stream, 2, 2)])
def test_a_process_reads_with_no_more_others_than_it_may_use_except_a_stream(monkeypatch, images, asked, started):
    """A stream's order depends on their number; and what torch would say about too many is said by nobody."""
    monkeypatch.setattr(processes, "_processors", lambda: 1)
    loader = Loader(images(), list, workers=asked, batch_size=2, persistent=True)
    assert (loader.num_workers, loader.persistent_workers) == (started, started > 0)
    assert next(iter(loader)) == [0, 1]
