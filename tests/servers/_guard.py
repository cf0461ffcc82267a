"""Runs a server, and ends it when whoever started this is gone: FOLDER SIGNAL USER COMMAND...

Standard input is a pipe whose other end the test run holds: when it closes, the server gets SIGNAL, five seconds
later SIGKILL. If the test run did not close it itself (and so is gone), FOLDER is removed. The
first line of standard output is the server's process id.
"""

import ctypes
import os
import select
import shutil
import signal
import subprocess
import sys


def die_with_parent() -> None:
    """Even if the guard is killed, the server ends (on Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def main() -> int:
    folder, number, user, *command = sys.argv[1:]
    parent = os.getppid()
    more = {"user": user, "group": user, "extra_groups": []} if user else {}
    server = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
        stderr=sys.stderr,
        preexec_fn=die_with_parent,  # this process has one thread
        **more,
    )
    ended, waker = os.pipe()
    os.set_blocking(waker, False)
    signal.set_wakeup_fd(waker)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    print(server.pid, flush=True)
    while server.poll() is None:
        ready, _, _ = select.select([sys.stdin, ended], [], [])
        if sys.stdin in ready and not os.read(sys.stdin.fileno(), 4096):
            server.send_signal(signal.SIGCONT)
            server.send_signal(int(number))
            try:
                server.wait(5)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()
            break
        if ended in ready:
            os.read(ended, 4096)
    if os.getppid() != parent:
        shutil.rmtree(folder, ignore_errors=True)
    return 0 if server.returncode in (0, -int(number)) else 1


if __name__ == "__main__":
    sys.exit(main())
