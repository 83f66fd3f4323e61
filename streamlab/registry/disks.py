"""What kind of disk a folder lies on, as Linux tells it; elsewhere nothing is known."""

from __future__ import annotations

import re
from pathlib import Path

# Several machines may mount these, and shared memory does not reach from one to the next.
NETWORK_KINDS = frozenset(
    (
        *("9p", "afs", "beegfs", "ceph", "cifs", "davfs", "glusterfs", "gpfs", "lustre", "ncpfs"),
        *("nfs", "nfs4", "smb2", "smb3", "smbfs", "fuse.ceph", "fuse.davfs", "fuse.glusterfs"),
        *("fuse.rclone", "fuse.s3fs", "fuse.sshfs"),
    )
)
MOUNTS = Path("/proc/self/mountinfo")


def find_disk_kind(folder: Path, *, mounts: Path = MOUNTS) -> str | None:
    """Return the type of the file system that holds `folder`, or None where it is not known.

    `mounts`: a file of the form of proc(5)'s mountinfo.
    """
    try:
        lines = mounts.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return None
    folder = folder.resolve()
    found: tuple[int, str] | None = None
    for line in lines:
        before, _, after = line.partition(" - ")
        point = Path(_unescape(before.split(" ")[4]))
        # The deepest mount point wins; of two on the same one, the later hides the earlier.
        if folder.is_relative_to(point) and (found is None or len(point.parts) >= found[0]):
            found = len(point.parts), after.split(" ")[0]
    return None if found is None else found[1]


def _unescape(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)
