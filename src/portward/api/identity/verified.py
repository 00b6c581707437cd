"""What was verified a short while ago, so that a password or a token is verified once and not at each request.

Secrets are kept as a keyed digest, which is worth nothing outside this process.
"""

import hmac
import secrets
from collections import OrderedDict

from portward.api.identity.caller import Caller


class Verified:
    """Callers by what they sent, the ``size`` of them that were seen last. For one thread: the event loop's."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._key = secrets.token_bytes(32)
        self._callers: OrderedDict[bytes, tuple[float, Caller]] = OrderedDict()

    def find(self, sent: tuple[bytes, ...], now: float) -> Caller | None:
        """Whose ``sent`` is, if that is known at ``now``."""
        digest = self._digest(sent)
        until, caller = self._callers.get(digest, (0.0, None))
        if caller is None or now >= until:
            return None
        self._callers.move_to_end(digest)
        return caller

    def remember(self, sent: tuple[bytes, ...], caller: Caller, until: float) -> None:
        """Know until ``until`` that ``sent`` is the caller's."""
        digest = self._digest(sent)
        self._callers[digest] = until, caller
        self._callers.move_to_end(digest)
        if len(self._callers) > self._size:
            self._callers.popitem(last=False)

    def _digest(self, sent: tuple[bytes, ...]) -> bytes:
        return hmac.digest(self._key, b"".join(b"%d:%b" % (len(part), part) for part in sent), "sha256")
