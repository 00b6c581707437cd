"""libnftables over ctypes: text in, text or JSON out; in this process, or in one of its own for large loads.

It speaks to the network namespace in which its handle was opened, so open it inside (``netns.in_namespace``).
Refused here: building text. Whoever calls ``run`` or ``load`` vouches for every character of it.
"""

import ctypes
import json
import os
import signal
import subprocess
import sys
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from portward.dataplane.nftables.netlink import NETFILTER, Netlink
from portward.dataplane.protocol import DataplaneError

_OUTPUT_JSON = 1 << 4  # nftables/libnftables.h
_OUTPUT_TERSE = 1 << 11  # without the elements of sets
_WORKER = Path(__file__).with_name("worker.py")
_PATIENCE = 300.0  # seconds for one load; 100,000 rules take 5


class NftError(DataplaneError):
    """nftables refused a command; the message is its own."""


@cache
def _library() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL("libnftables.so.1")
    except OSError as error:
        raise NftError("libnftables.so.1 is missing: install nftables 1.0.6 or newer (Debian: nftables)") from error
    library.nft_ctx_new.restype = ctypes.c_void_p
    library.nft_ctx_new.argtypes = [ctypes.c_uint32]
    library.nft_ctx_get_output_buffer.restype = ctypes.c_char_p
    library.nft_ctx_get_error_buffer.restype = ctypes.c_char_p
    library.nft_run_cmd_from_buffer.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
    library.nft_ctx_output_set_flags.argtypes = [ctypes.c_void_p, ctypes.c_uint]
    for name in (
        "nft_ctx_free",
        "nft_ctx_buffer_output",
        "nft_ctx_buffer_error",
        "nft_ctx_get_output_buffer",
        "nft_ctx_get_error_buffer",
    ):
        getattr(library, name).argtypes = [ctypes.c_void_p]
    return library


class Nft:
    """A handle of libnftables, bound to the network namespace of the thread that makes it.

    Raises:
        NftError: the library is missing, or gives no handle.
        NetlinkError: the kernel gives no socket.
    """

    def __init__(self) -> None:
        self._library = _library()
        Netlink(NETFILTER).close()  # libnftables ends the whole process when it gets no socket
        self._handle = self._library.nft_ctx_new(0)
        if not self._handle:
            raise NftError("libnftables gave no handle: CAP_NET_ADMIN is needed, and a kernel with nf_tables")
        self._library.nft_ctx_buffer_output(self._handle)
        self._library.nft_ctx_buffer_error(self._handle)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def run(self, text: str) -> str:
        """The output of the commands in ``text``, which are one transaction: all of them are done, or none.

        Raises:
            NftError: none was done; with the reason that nftables gives.
        """
        return self._run(text, 0)

    def objects(self, command: str) -> list[dict[str, Any]]:
        """What a list ``command`` shows, each object as nftables' own JSON has it, sets without elements.

        Raises:
            NftError: nftables refused the command.
        """
        output = self._run(command, _OUTPUT_JSON | _OUTPUT_TERSE)
        return list(json.loads(output)["nftables"]) if output else []

    def _run(self, text: str, flags: int) -> str:
        self._library.nft_ctx_output_set_flags(self._handle, flags)
        status = self._library.nft_run_cmd_from_buffer(self._handle, text.encode("ascii"))
        output: bytes = self._library.nft_ctx_get_output_buffer(self._handle)
        errors: bytes = self._library.nft_ctx_get_error_buffer(self._handle)
        # What a handle has read of the ruleset, 1 MiB and more, it keeps until it is used again: so it is, for nothing.
        self._library.nft_run_cmd_from_buffer(self._handle, b"\n")
        if status != 0:
            raise _refused(errors)
        return output.decode("utf-8", "replace")

    def close(self) -> None:
        """Free the handle. What it did stays."""
        if self._handle:
            self._library.nft_ctx_free(self._handle)
            self._handle = None


def load(text: str) -> None:
    """Do the commands in ``text``, one transaction, in a process that ends with it and takes its memory along.

    In the network namespace of the calling thread. Worth it for large texts alone (docs/design/nftables.md, "Big
    loads"): the process costs 20 ms.

    Raises:
        NftError: nftables refused, and nothing was done; or the process died, and that is not known.
    """
    try:
        # A file, as from a pipe the process would do half of a text whose writer dies.
        with open(os.memfd_create("portward-load"), "w+b") as file:
            file.write(text.encode("ascii"))
            file.seek(0)
            done = subprocess.run(
                [sys.executable, "-I", "-S", str(_WORKER), str(os.getpid())],
                stdin=file,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                timeout=_PATIENCE,
                check=False,
            )
    except subprocess.TimeoutExpired as error:
        raise NftError(f"nftables did not end within {_PATIENCE:.0f} s and was killed") from error
    except OSError as error:
        raise NftError(f"no process could be started to load rules: {error.strerror}") from error
    if done.returncode < 0:
        raise NftError(f"the process that loaded rules was killed: {signal.strsignal(-done.returncode)}")
    if done.returncode != 0:
        raise _refused(done.stderr)


def give_back_memory() -> None:
    """Let the system have what making a large text took: the C library would keep most of it (malloc_trim(3))."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc has it
    if trim is not None:
        trim(0)


def _refused(said: bytes) -> NftError:
    reason = said.decode("utf-8", "replace").strip()
    return NftError(f"nftables refused: {reason[:500] or 'no reason given'}")
