"""The process that loads one large ruleset and ends: all memory that libnftables took goes with it.

Run as a script by ``libnftables.load``, without site-packages, so that it is there within 20 ms: it may import
nothing of Portward. Its input is the text, whole before it starts; what nftables says goes to standard error. It
dies with whoever started it, so it cannot change the kernel once another agent has begun, and where memory is
short it is the first to go.
"""

import contextlib
import ctypes
import os
import signal
import sys
from pathlib import Path

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main(parent: int) -> int:
    """0 when the commands of standard input were done, all of them; else 1, and none was."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        return 1  # it died before this process asked to be told
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    library = ctypes.CDLL("libnftables.so.1")
    library.nft_ctx_new.restype = ctypes.c_void_p
    library.nft_ctx_new.argtypes = [ctypes.c_uint32]
    library.nft_run_cmd_from_buffer.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
    return int(library.nft_run_cmd_from_buffer(library.nft_ctx_new(0), sys.stdin.buffer.read()) != 0)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
