"""Leave the group of processes in order."""

import atexit

import torch


def leave_at_exit() -> None:
    """Leave the group when Python ends: a process that just ends while its threads still talk to others can crash."""
    atexit.register(_leave)


def _leave() -> None:
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
