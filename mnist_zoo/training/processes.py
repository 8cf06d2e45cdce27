"""The processes that train together."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ..data.digits import Digits
from ..evaluation import logits_of
from ..pictures.preprocessing import Preprocessing


def shared_logits(
    model: nn.Module, digits: Digits, preprocessing: Preprocessing, batch_size: int, team: Team
) -> Tensor:
    """Logits (N, classes) of all the pictures, computed by all the processes together."""
    mine = logits_of(model, digits.images[team.share], preprocessing, batch_size)
    if team.size == 1:
        return mine
    logits = mine.new_zeros(len(digits), mine.shape[1])
    logits[team.share] = mine
    return team.sum(logits)


@dataclass(frozen=True)
class Team:
    """The processes that train together; one alone where there is no torchrun."""

    device: torch.device
    rank: int = 0
    size: int = 1

    @property
    def share(self) -> slice:
        """This process's rows of a whole: every size-th one."""
        return slice(self.rank, None, self.size)

    def sum(self, tensor: Tensor, *, highest: bool = False) -> Tensor:
        """The sum (or the highest value) over the processes."""
        if self.size > 1:
            tensor = tensor.to(self.device)
            dist.all_reduce(tensor, dist.ReduceOp.MAX if highest else dist.ReduceOp.SUM)
        return tensor

    def follow_first(self, tensors: Sequence[Tensor]) -> None:
        """Gives every process the first one's values."""
        if self.size > 1:
            for tensor in tensors:
                dist.broadcast(tensor, 0)


GROUPS = itertools.count()  # numbers those that this process joins


def _join(backend: str) -> None:
    """Joins the process group that torchrun describes in the environment."""
    # The group is a default of these functions. Imported later, which DistributedDataParallel does,
    # they would keep it for good, and its threads could end the process as Python shuts down.
    import torch.distributed.nn.functional  # noqa: F401

    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        dist.init_process_group(backend)
        return
    # torchrun's own store outlives a restart, and so do the addresses of the workers that died:
    # each attempt keeps its addresses under its own prefix, and so does each group of one attempt.
    if int(os.environ.get("GROUP_WORLD_SIZE", "1")) > 1:
        raise ValueError(
            "on several machines set TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 where torchrun starts: "
            "otherwise its workers may wait for each other forever after a restart"
        )
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    attempt = os.environ["TORCHELASTIC_RESTART_COUNT"]
    store = dist.TCPStore(address, port, is_master=False)  # type: ignore[attr-defined]
    dist.init_process_group(
        backend,
        store=dist.PrefixStore(f"attempt_{attempt}_{next(GROUPS)}", store),  # type: ignore[attr-defined]
        rank=int(os.environ["RANK"]),
        world_size=int(os.environ["WORLD_SIZE"]),
    )


@contextmanager
def joined_team(device: torch.device) -> Iterator[Team]:
    """Joins the processes that torchrun started, unless the caller has, and leaves them after."""
    launched = int(os.environ.get("WORLD_SIZE", "1")) > 1 and "RANK" in os.environ
    joins = launched and not dist.is_initialized()
    if device.type == "cuda" and (launched or dist.is_initialized()):
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    if joins:
        _join("nccl" if device.type == "cuda" else "gloo")
    try:
        if dist.is_initialized():
            yield Team(device, dist.get_rank(), dist.get_world_size())
        else:
            yield Team(device)
    finally:
        if joins:
            dist.destroy_process_group()
