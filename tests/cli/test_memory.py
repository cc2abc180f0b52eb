"""What the allocators are told, in a process of its own: it is for all of its life."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

COUNTED = """
import ctypes, sys, tempfile, threading
from jobtrail.cli.memory import give_back

if sys.argv[1] == "told":
    give_back()
assert "polars" not in sys.modules
libc = ctypes.CDLL(None)
libc.malloc.restype = libc.fopen.restype = ctypes.c_void_p
libc.malloc_info.argtypes = [ctypes.c_int, ctypes.c_void_p]
libc.fclose.argtypes = [ctypes.c_void_p]
all_there = threading.Barrier(8)

def needs_some():
    libc.malloc(1000)
    all_there.wait()

threads = [threading.Thread(target=needs_some) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
with tempfile.NamedTemporaryFile() as file:
    out = libc.fopen(file.name.encode(), b"w")
    libc.malloc_info(0, out)
    libc.fclose(out)
    print(file.read().count(b"<heap nr="))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="heaps of glibc; elsewhere nothing is told")
def test_all_threads_share_a_heap() -> None:
    def heaps(how: str) -> int:
        ran = subprocess.run([sys.executable, "-c", COUNTED, how], capture_output=True, text=True, check=True)
        return int(ran.stdout)

    assert heaps("told") == 1
    assert heaps("not told") > 1


@pytest.mark.parametrize("given", [None, "dirty_decay_ms:5000"])
def test_polars_allocator_is_told_unless_somebody_has_told_it(given: str | None) -> None:
    code = "import os; from jobtrail.cli.memory import *; give_back(); print(os.environ[JEMALLOC[0]])"
    environment = {} if given is None else {"_RJEM_MALLOC_CONF": given}
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert ran.stdout.strip() == (given or "dirty_decay_ms:100,muzzy_decay_ms:0")
