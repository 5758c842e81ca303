"""Who takes part: every contender by its name, and why one cannot."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from importlib.util import find_spec
from typing import Final

from .contender import Contender
from .dcp import DcpAsync, DcpAsyncKeptStager, DcpOverRelight, DcpSave
from .files import FabricSave, TorchSave
from .floors import MemoryCopy, RawCachedRead, RawDisk
from .object_stores import Boto3Upload, ObstoreUpload, S3Connector
from .ours import Relight, RelightOverlapping, knows

OURS: Final = "relight"
OVERLAPPING: Final = "relight_overlap"
MEMCPY: Final = "memcpy"

CONTENDERS: Final[dict[str, type[Contender]]] = {
    MEMCPY: MemoryCopy,
    "raw": RawDisk,
    "raw_cached": RawCachedRead,
    "boto3": Boto3Upload,
    "obstore": ObstoreUpload,
    OURS: Relight,
    OVERLAPPING: RelightOverlapping,
    "torch_save": TorchSave,
    "dcp_save": DcpSave,
    "dcp_over_relight": DcpOverRelight,
    "dcp_async": DcpAsync,
    "dcp_async_stager": DcpAsyncKeptStager,
    "fabric": FabricSave,
    "s3torchconnector": S3Connector,
}
FLOORS: Final = (MEMCPY, "raw", "raw_cached", "boto3", "obstore")
PEERS: Final = tuple(name for name in CONTENDERS if name not in (*FLOORS, OURS, OVERLAPPING))

_LOCAL_ONLY: Final = {"raw", "raw_cached", "torch_save", "fabric"}
_REMOTE_ONLY: Final = {"boto3", "obstore", "s3torchconnector"}
_NEEDS: Final = {
    "boto3": "boto3",
    "obstore": "obstore",
    "fabric": "lightning_fabric",
    "s3torchconnector": "s3torchconnector",
}

_SHARED: Final = (
    "torch._dynamo",  # DDP imports it when it is first built.
    "torch.distributed.checkpoint",
    "relight.workers.checkpoint.checkpointer",
    "s3fs",  # fsspec imports it when Fabric first asks whose a path is.
    "torch.utils.serialization",
)


def preload(names: Iterable[str]) -> None:
    """Import what the contenders import, once: all ranks are forked from here."""
    for module in (*_SHARED, *(_NEEDS[name] for name in names if name in _NEEDS)):
        import_module(module)


def absence(name: str, *, remote: bool) -> str:
    """Why a contender cannot take part here; empty when it can."""
    if name == OVERLAPPING and not knows("overlap"):
        return "this Relight has no setting `overlap`"
    if name in (_LOCAL_ONLY if remote else _REMOTE_ONLY):
        return "local files only" if remote else "object stores only"
    if name in _NEEDS and find_spec(_NEEDS[name]) is None:
        command = "-c constraints.txt boto3" if name == "boto3" else "-e '.[bench]'"
        return f"{_NEEDS[name]} is not installed: pip install {command}"
    return ""


def choose(peers: str, *, remote: bool) -> tuple[list[str], dict[str, str]]:
    """Those who take part, in the order of the tables, and why the others do not.

    `peers`: `all`, `none`, or names with commas between them. Raises ValueError for a name that is none.
    """
    wanted = {"all": PEERS, "none": ()}.get(peers, tuple(name for name in peers.split(",") if name))
    if unknown := [name for name in wanted if name not in PEERS]:
        message = f"no such peer: {', '.join(unknown)}. There are {', '.join(PEERS)}, or all, or none"
        raise ValueError(message)
    names = [name for name in CONTENDERS if name in wanted or name not in PEERS]
    absent = {name: reason for name in names if (reason := absence(name, remote=remote))}
    return [name for name in names if name not in absent], absent
