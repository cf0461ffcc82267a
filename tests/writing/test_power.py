"""The machine is lost: what the disk has at that moment is all there is.

A journal lies on a file system in an image; a copy of the image is what a disk has whose machine loses its power at
that moment, for what the kernel still keeps in memory is not in it. Where mounting is not permitted, the kernel is
told to fail fsync, which shows that a commit waits for it, and that a disk that fails is not overlooked.
"""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from stress.support import LIMIT, child_environment, run_child

from fastcache.writing import WriteBehind

COUNT = 60
WRITER = """
import sys
from fastcache.writing import WriteBehind
class Down:
    name = "w"
    def apply(self, ops): raise OSError("down")
journal, durability, count = sys.argv[1:]
w = WriteBehind(Down(), journal, durability, delay=3600)
for number in range(int(count)):
    w.put(number, "x" * 100)
print("acknowledged", flush=True)
sys.stdin.readline()
"""


class Disk:
    """An image with a file system; mounted by `with`."""

    def __init__(self, image: Path, at: Path) -> None:
        self.image, self.at = image, at
        at.mkdir()

    def __enter__(self) -> Path:
        command = ["mount", "-o", "loop", str(self.image), str(self.at)]
        if (done := subprocess.run(command, capture_output=True, check=False)).returncode:
            pytest.skip(f"mounting is not permitted here: {done.stderr.decode()}")
        return self.at

    def __exit__(self, *_: object) -> None:
        subprocess.run(["umount", "-l", str(self.at)], check=True)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    if os.geteuid() != 0 or shutil.which("mkfs.ext4") is None:
        pytest.skip("making file systems is for root, with mkfs.ext4")
    place = tmp_path / "image"
    with open(place, "wb") as file:
        file.truncate(24 << 20)
    subprocess.run(["mkfs.ext4", "-q", str(place)], check=True)
    return place


class Up:
    """A writer that notes the keys."""

    name = "w"

    def __init__(self) -> None:
        self.keys: list[Any] = []

    def apply(self, ops: Any) -> None:
        self.keys += [op.key for op in ops]


@pytest.mark.parametrize("durability", ["memory", "process", "power"])
def test_what_is_there_after_a_loss_of_power(image: Path, tmp_path: Path, durability: str) -> None:
    lost = tmp_path / "lost"
    with contextlib.ExitStack() as stack:
        place = stack.enter_context(Disk(image, tmp_path / "before"))
        os.sync()  # the file system itself
        child = stack.enter_context(
            subprocess.Popen(
                [sys.executable, "-c", WRITER, place / "deep" / "j", durability, str(COUNT)],
                env=child_environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        )
        stack.callback(child.kill)
        assert child.stdout is not None
        assert child.stdout.readline() == "acknowledged\n"
        shutil.copyfile(image, lost)  # the power is gone
    up = Up()
    with Disk(lost, tmp_path / "after") as after:
        w = WriteBehind(up, after / "deep" / "j")
        assert w.close(LIMIT)
    if durability == "power":
        assert up.keys == list(range(COUNT)), "all of it"
    else:
        # not promised; and if all of it were there, this would show nothing
        assert up.keys == list(range(len(up.keys)))
        assert len(up.keys) < COUNT


FAILING = """
import ctypes, struct, sys
from fastcache.writing import JournalError, WriteBehind
journal, durability, fsync, fdatasync = sys.argv[1:]
kept = []
class Keeps:
    name = "w"
    def apply(self, ops): kept.extend(op.key for op in ops)
w = WriteBehind(Keeps(), journal, durability, delay=3600)
w.put("before", 1)

# From here on fsync and fdatasync fail with EIO. (If the number is one of them: errno 5; else allow.)
program = struct.pack(
    "<" + "HBBI" * 5,
    0x20, 0, 0, 0,
    0x15, 1, 0, int(fsync),
    0x15, 0, 1, int(fdatasync),
    0x06, 0, 0, 0x00050000 | 5,
    0x06, 0, 0, 0x7FFF0000,
)
code = ctypes.create_string_buffer(program)
header = ctypes.create_string_buffer(struct.pack("<HxxxxxxQ", 5, ctypes.addressof(code)))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0  # no new privileges
if libc.prctl(22, 2, header, 0, 0):  # a filter of system calls, for this thread
    print("not permitted")
    sys.exit(0)
try:
    w.put("after", 2)
    print("kept", w.pending("after") is not None)
except JournalError as error:
    print("raised", w.pending("after") is None, w.pending("before").value, error)
"""


@pytest.mark.parametrize("durability", ["process", "power"])
def test_a_disk_that_fails_to_sync_is_not_overlooked(tmp_path: Path, durability: str) -> None:
    numbers = {"x86_64": (74, 75), "aarch64": (82, 83)}.get(platform.machine())
    if sys.platform != "linux" or numbers is None:
        pytest.skip("system calls are filtered on Linux, by their numbers")
    said = run_child(FAILING + "os = __import__('os'); sys.stdout.flush(); os._exit(0)\n",
                     tmp_path / "j", durability, *numbers)  # fmt: skip
    if said == "not permitted\n":
        pytest.skip("filters of system calls are not permitted here")
    if durability == "power":
        assert said.startswith("raised True 1 "), said
        assert "disk I/O error" in said
    else:
        assert said == "kept True\n", "it waits for no disk"
