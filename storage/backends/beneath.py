"""Opening what lies beneath a folder, and never what a symbolic link inside it leads to.

Each component is opened in the folder that the one before it gave, so nobody can swap one for a link in between. The
folder itself may be reached through links: where a run is, its user says.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
"""A pipe in a file's place must not hang who opens it."""


@contextmanager
def open_folder(root: Path, inside: str) -> Iterator[int]:
    """A descriptor of the folder `inside` (`a/b`, or empty for the root itself).

    Raises OSError as the system gives it; at a link ELOOP, with the name of the link for its text.
    """
    descriptor = os.open(root, _FOLDER)
    try:
        for name in inside.split("/") if inside else ():
            below = _open(name, _FOLDER, descriptor)
            os.close(descriptor)
            descriptor = below
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def open_file(root: Path, key: str) -> Iterator[int]:
    """A descriptor of the file, to be read; what is no plain file can be opened, too. Raises as `open_folder` does."""
    inside, _, name = key.rpartition("/")
    with open_folder(root, inside) as folder:
        descriptor = _open(name, _FILE, folder)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _open(name: str, flags: int, folder: int) -> int:
    try:
        return os.open(name, flags | os.O_NOFOLLOW, dir_fd=folder)
    except OSError as error:
        # ENOTDIR, where a folder was wanted, may also be a file.
        if error.errno in {errno.ELOOP, errno.ENOTDIR} and _is_link(name, folder):
            raise OSError(errno.ELOOP, f"{name} is a symbolic link") from None
        raise


def _is_link(name: str, folder: int) -> bool:
    return stat.S_ISLNK(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
