"""TLS of a listener: its certificate is checked before it serves, and taken up anew when the files change.

Whoever renews certificates only has to replace the files; no signal, no restart. What it refuses: to ask for a
passphrase, to speak anything below TLS 1.2, and to give up a certificate that works for files that do not.
"""

import ssl
from pathlib import Path

import anyio
import anyio.to_thread
import structlog

from portward.api.signature import Signature, signature
from portward.config import ConfigurationError, Listener

#: Seconds between two looks at the files.
LOOK_EVERY = 10.0
_log = structlog.get_logger(__name__)


class Certificate:
    """The certificate of the listener that ``[section]`` configures, and the ``context`` that serves it.

    Raises:
        ConfigurationError: a file cannot be used, or the two do not belong together.
    """

    def __init__(self, section: str, cert: Path, key: Path) -> None:
        self._section = section
        self._cert, self._key = cert, key
        self._seen = self._refused = self._signatures()
        self.context = self._load()

    async def renew(self) -> None:
        """Take up what the files become, until cancelled. Connections that are open keep what they have."""
        while True:
            await anyio.sleep(LOOK_EVERY)
            found = await anyio.to_thread.run_sync(self._signatures)
            if found != self._seen:
                self._take_up(found)

    def _signatures(self) -> tuple[Signature, Signature]:
        return signature(self._cert), signature(self._key)

    def _take_up(self, found: tuple[Signature, Signature]) -> None:
        """In the thread of the event loop: no handshake sees the context between the certificate and its key."""
        try:
            self._load()  # into a context of its own first: a pair that does not fit would spoil the one that serves
            self.context.load_cert_chain(self._cert, self._key, password="")
        except (ConfigurationError, OSError) as error:
            if found != self._refused:  # said once; looked at again, as the other file may be on its way
                self._refused = found
                _log.warning("certificate_not_renewed", reason=str(error), consequence="the old one still serves")
        else:
            self._seen = found
            _log.info("certificate_renewed", file=str(self._cert))

    def _load(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_RENEGOTIATION
        context.set_alpn_protocols(["http/1.1"])
        for name, file in (("tls_cert", self._cert), ("tls_key", self._key)):
            try:
                file.read_bytes()
            except OSError as error:
                raise ConfigurationError(f"[{self._section}] {name}: {file}: {error.strerror}") from error
        try:
            context.load_cert_chain(self._cert, self._key, password="")  # never asked for on a terminal
        except OSError as error:  # ssl.SSLError is one
            reason = getattr(error, "reason", None) or error.strerror or "not PEM"
            raise ConfigurationError(
                f"[{self._section}] tls_cert {self._cert} and tls_key {self._key} cannot be used: "
                f"{reason.replace('_', ' ').lower()}; give a PEM chain and its key without a passphrase"
            ) from error
        return context


def certificate(section: str, listener: Listener) -> Certificate | None:
    """The certificate of ``listener``, or ``None`` where it speaks plain HTTP.

    Raises:
        ConfigurationError: as ``Certificate``.
    """
    if listener.tls_cert is None or listener.tls_key is None:
        return None
    return Certificate(section, listener.tls_cert, listener.tls_key)
