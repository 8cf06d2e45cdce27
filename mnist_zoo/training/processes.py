"""The processes that train one network together."""

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


@contextmanager
def process_group(device: torch.device) -> Iterator[ProcessGroup]:
    """Joins the processes that torchrun started, and leaves them at the end.

    If the caller has already joined them, they are used and not left. Without torchrun the group
    is this process alone.
    """
    launched = int(os.environ.get("WORLD_SIZE", "1")) > 1 and "RANK" in os.environ
    joins = launched and not dist.is_initialized()
    if device.type == "cuda" and (launched or dist.is_initialized()):
        place, gpus = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
        if place >= gpus:
            known = f"this is process {place}, of GPUs 0 to {gpus - 1}"
            raise ValueError(f"`device` (='cuda') needs one GPU per process: {known}")
        device = torch.device("cuda", place)
        torch.cuda.set_device(device)
    if joins:
        _join("nccl" if device.type == "cuda" else "gloo")
        dist.barrier()  # one that is refused leaves at once, and others would still be connecting
    try:
        if dist.is_initialized():
            yield ProcessGroup(device, dist.get_rank(), dist.get_world_size())
        else:
            yield ProcessGroup(device)
    finally:
        if joins:
            dist.destroy_process_group()


@dataclass(frozen=True)
class ProcessGroup:
    """The processes that train together, as one of them sees them.

    Attributes:
        device: Device of this process.
        rank: Number of this process, from 0.
        size: Number of processes.
    """

    device: torch.device
    rank: int = 0
    size: int = 1

    @property
    def share(self) -> slice:
        """The rows of a batch that this process computes: every size-th one, from its rank on."""
        return slice(self.rank, None, self.size)

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum over the processes."""
        return self._reduce(tensor, dist.ReduceOp.SUM)

    def max(self, tensor: Tensor) -> Tensor:
        """The highest value over the processes."""
        return self._reduce(tensor, dist.ReduceOp.MAX)

    def _reduce(self, tensor: Tensor, operation: dist.ReduceOp.RedOpType) -> Tensor:
        if self.size > 1:
            tensor = tensor.to(self.device)
            dist.all_reduce(tensor, operation)
        return tensor

    def broadcast(self, tensors: Sequence[Tensor]) -> None:
        """Overwrites the tensors of every process with those of the first."""
        if self.size > 1:
            for tensor in tensors:
                dist.broadcast(tensor, 0)

    def logits_of(
        self, model: nn.Module, digits: Digits, preprocessing: Preprocessing, batch_size: int
    ) -> Tensor:
        """Logits (N, classes) of all the images; each process computes its share of them."""
        own = logits_of(model, digits.images[self.share], preprocessing, batch_size)
        if self.size == 1:
            return own
        logits = own.new_zeros(len(digits), own.shape[1])
        logits[self.share] = own
        return self.sum(logits)


GROUPS = itertools.count()  # numbers those that this process joins


def _join(backend: str) -> None:
    """Joins the process group that torchrun describes in the environment."""
    # This import must come before init_process_group. The functions of that module have the group
    # as a default argument: imported later, as DistributedDataParallel does, they would hold the
    # group for ever, and its threads could abort the process while Python shuts down.
    import torch.distributed.nn.functional  # noqa: F401

    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        dist.init_process_group(backend)
        return
    # The store of torchrun survives a restart, and with it the addresses of the dead workers. So
    # each attempt keeps its addresses under a prefix of its own, and so does each of its groups.
    if int(os.environ.get("GROUP_WORLD_SIZE", "1")) > 1:
        raise ValueError(
            "on several machines set TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 where torchrun starts; "
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
