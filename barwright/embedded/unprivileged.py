"""How a program that refuses to run as root is run by root."""

import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

_NOBODY = 65534
_RIGHTS = "-all,+dac_override"
_PREFIXES = (
    # A user namespace: files stay root's own. Containers often forbid it.
    ["unshare", "--user", f"--map-user={_NOBODY}", f"--map-group={_NOBODY}"],
    # User nobody, with the right to enter folders (root's home) that would keep it out.
    [
        *("setpriv", f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups"),
        *(f"--inh-caps={_RIGHTS}", f"--ambient-caps={_RIGHTS}"),
    ],
)


@cache
def prefix() -> list[str] | None:
    """What to put before a command so that it does not run as root; None where this machine has no way."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return []
    return next((words for words in _PREFIXES if _works(words)), None)


def owner() -> int:
    """Whom files must belong to that a program under the prefix may write."""
    words = prefix()
    return _NOBODY if words and words[0] == "setpriv" else os.geteuid()


def give(path: Path) -> None:
    """Make `owner` the owner of a folder and of everything in it."""
    for item in (path, *path.rglob("*")):
        os.lchown(item, owner(), -1)


def _works(words: list[str]) -> bool:
    if not shutil.which(words[0]):
        return False
    return subprocess.run([*words, "true"], capture_output=True).returncode == 0
