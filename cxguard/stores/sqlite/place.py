"""Whether a file can be a store where it lies: folder, rights, file system, free space. Asked before it is opened."""

from __future__ import annotations

import os
from pathlib import Path

from cxguard.errors import ConfigurationError

MOUNTS = Path("/proc/mounts")
NETWORK_FILE_SYSTEMS = frozenset({
    "nfs", "nfs4", "cifs", "smb3", "smbfs", "ncpfs", "afs", "ceph", "lustre", "glusterfs", "9p",
    "fuse.sshfs", "fuse.glusterfs", "fuse.s3fs", "fuse.gcsfuse", "fuse.rclone", "fuse.grpcfuse", "fuse.davfs",
})  # fmt: skip


def check_place(path: Path) -> None:
    """Refuse a place where the store can never work.

    Raises:
        ConfigurationError: no such folder, no right to write, a network file system.
    """
    folder = path.parent
    if not folder.is_dir():
        raise ConfigurationError(f"there is no folder {folder} for the store: make it (mkdir -p {folder}), or name another file")
    if path.is_dir():
        raise ConfigurationError(f'{path} is a folder: name a file in it, "sqlite:///{path}/shop.db"')
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ConfigurationError(f"cannot write to the folder {folder}: SQLite keeps files beside the store; give this user the right")
    if path.exists() and not os.access(path, os.R_OK | os.W_OK):
        raise ConfigurationError(f"cannot write to {path}: give this user the right to read and write it")
    check_file_system(folder, mounts=read_mounts())


def check_file_system(folder: Path, *, mounts: str) -> None:
    """Refuse a network file system: its locks do not hold what SQLite's write-ahead log needs."""
    kind = file_system_of(folder.resolve(), mounts)
    if kind in NETWORK_FILE_SYSTEMS:
        raise ConfigurationError(f"{folder} is on a network file system ({kind}): put the store on a disk of this machine")


def file_system_of(folder: Path, mounts: str) -> str | None:
    """The type of the file system that *folder* (absolute, resolved) is on, by the text of /proc/mounts."""
    kind, longest = None, -1
    for line in mounts.splitlines():
        parts = line.split(" ")
        if len(parts) < 3:
            continue
        point = Path(_unescaped(parts[1]))
        if (folder == point or point in folder.parents) and len(point.parts) >= longest:
            kind, longest = parts[2], len(point.parts)
    return kind


def read_mounts() -> str:
    """What is mounted where; nothing where the system does not tell (other than Linux)."""
    try:
        return MOUNTS.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ""


def free_bytes(folder: Path) -> int:
    """What an ordinary user may still write there."""
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


def _unescaped(point: str) -> str:
    """/proc/mounts writes a space as \\040, and three more characters likewise."""
    for escape, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        point = point.replace(escape, character)
    return point
