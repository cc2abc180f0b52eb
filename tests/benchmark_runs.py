"""Runs a benchmark as its make target does, small, and reads its figures."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parents[1] / "benchmarks"


def measured(script: str, *options: str) -> Any:
    """What it prints with --json; it must end well, within three minutes."""
    done = subprocess.run(
        [sys.executable, HERE / script, *options, "--json"],
        capture_output=True,
        text=True,
        check=False,
        timeout=170,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
