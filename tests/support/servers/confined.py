"""Runs a program as in a container: as a user without rights, on a file system that is mostly read-only."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

# /tmp, the data and the program's directory are mounted once more; then the latter, and the root, become read-only.
CONFINE = """
set -e
mount --bind "$1" /etc/passwd
mount --rbind /tmp /tmp
mount --bind "$2" "$2"
mount --bind "$3" "$3"
mount -o remount,bind,ro "$3"
mount -o remount,bind,ro /
cd "$3"
shift 3
exec setpriv --no-new-privs --inh-caps=-all --ambient-caps=-all --bounding-set=-all "$@"
"""


def confined(user: int, data_dir: Path, directory: Path) -> list[str]:
    """Returns a command that executes the command after it as the user with the number `user`, in `directory`.

    The program can write to `data_dir` and below /tmp, but not to `directory`, even if that is below /tmp. It has no
    capabilities. Skips the test if the system does not allow this.
    """
    passwd = data_dir.parent / "passwd"
    passwd.write_text(f"root:x:0:0::/root:/bin/sh\nchatproxy:x:{user}:{user}::{directory}:/usr/sbin/nologin\n")
    command = [
        "unshare", "--user", f"--map-user={user}", f"--map-group={user}", "--keep-caps", "--mount",
        "sh", "-c", CONFINE, "sh", str(passwd), str(data_dir), str(directory),
    ]  # fmt: skip
    if not all(map(shutil.which, ("unshare", "setpriv", "mount"))):
        pytest.skip("there is no unshare, setpriv or mount, of util-linux")
    tried = subprocess.run([*command, "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"this system confines nobody: {tried.stderr.strip()}")
    return command
