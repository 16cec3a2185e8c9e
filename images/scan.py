"""Look through an image for files that raise rights (set-uid, set-gid) and for paths that its user can write to.

    docker run --rm --entrypoint python IMAGE -c "$(cat images/scan.py)"

Prints each and exits 1 where there is one. /tmp, and what the kernel shows as files, are left out.
"""

import os
import stat
import sys
from collections.abc import Collection, Iterator
from pathlib import Path

LEFT_OUT = frozenset({"proc", "sys", "dev", "tmp"})


def scan(root: Path, user: int, groups: Collection[int]) -> Iterator[str]:
    """A line for each such path below `root`. Links are judged by what they lead to."""
    for folder, folders, files in os.walk(root):
        if folder == str(root):
            folders[:] = [name for name in folders if name not in LEFT_OUT]
        for name in (*folders, *files):
            path = Path(folder, name)
            found = path.lstat()
            if stat.S_ISLNK(found.st_mode):
                continue
            if stat.S_ISREG(found.st_mode) and found.st_mode & (stat.S_ISUID | stat.S_ISGID):
                yield f"set-uid or set-gid: {path}"
            mine = found.st_uid == user and found.st_mode & stat.S_IWUSR
            ours = found.st_gid in groups and found.st_mode & stat.S_IWGRP
            if mine or ours or found.st_mode & stat.S_IWOTH:
                yield f"writable: {path}"


if __name__ == "__main__":
    lines = list(scan(Path("/"), os.getuid(), {os.getgid(), *os.getgroups()}))
    print("\n".join(lines) or "no set-uid file, nothing writable but /tmp")  # noqa: T201
    sys.exit(bool(lines))
