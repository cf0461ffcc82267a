"""Where the file of a SQLiteStore may lie."""

from __future__ import annotations

import os
import re

from fastcache._redact import shown

#: File systems whose locks and shared memory do not hold between hosts, or not at all.
_NETWORK = frozenset(
    {
        "9p",
        "afs",
        "beegfs",
        "ceph",
        "cifs",
        "coda",
        "davfs",
        "drvfs",
        "gfs",
        "gfs2",
        "glusterfs",
        "gpfs",
        "lustre",
        "ncpfs",
        "nfs",
        "nfs4",
        "ocfs2",
        "orangefs",
        "pvfs2",
        "smb2",
        "smb3",
        "smbfs",
        "vboxsf",
        "vmhgfs",
    }
)
#: Of those in user space all but these are taken for such.
_LOCAL_FUSE = frozenset(
    {
        "fuseblk",
        "fuse.bindfs",
        "fuse.ext2",
        "fuse.fuse-overlayfs",
        "fuse.gocryptfs",
        "fuse.mergerfs",
        "fuse.ntfs-3g",
    }
)
_MOUNTS = "/proc/self/mounts"


def checked_path(path: object) -> str:
    """The real path of a database. TypeError, ValueError: it can be none."""
    text = os.fspath(path) if isinstance(path, (str, os.PathLike)) else None
    if not isinstance(text, str):
        raise TypeError(f"path must be a str or a path, got {shown(path)}")
    if not text or "\0" in text:
        raise ValueError(f"path must name a file, got {path!r}")
    if "://" in text:
        raise ValueError(f"path must name a file, got the URL {shown(text)}")
    if text == ":memory:" or text.startswith("file:"):
        raise ValueError(f"path must name a file that processes can share, got {path!r}")
    real = os.path.realpath(text)
    folder = os.path.dirname(real)
    if os.path.isdir(real):
        raise ValueError(f"path must name a file, got the directory {path!r}")
    if not os.path.isdir(folder):
        raise ValueError(f"path: there is no directory {folder!r} for {path!r}")
    if (kind := network_file_system(folder)) is not None:
        raise ValueError(
            f"path: {path!r} lies in a network file system ({kind}), where processes cannot share memory and locks"
        )
    return real


def network_file_system(folder: str) -> str | None:
    """The type of the file system that a real path lies in, if that is none of this host's."""
    try:
        with open(_MOUNTS, encoding="utf-8", errors="surrogateescape") as file:
            lines = file.read().splitlines()
    except OSError:  # a system that does not tell
        return None
    best, kind = "", ""
    for line in lines:
        _, point, this, *_ = line.split(" ")
        point = re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), point)
        inside = folder == point or folder.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):  # of several on one point, the last one shows
            best, kind = point, this
    fuse = kind.startswith("fuse") and kind not in _LOCAL_FUSE
    return kind if kind in _NETWORK or fuse else None
