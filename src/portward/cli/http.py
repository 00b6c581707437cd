"""The command as a client of the API: it has no way of its own to ports, groups or rules."""

import ssl
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx2

from portward.cli.output import FAILED, WRONG, fail
from portward.config import ConfigurationError

_HELP = {
    401: "username and password, or token, are missing or not valid; give them in [client] or "
    "PORTWARD_CLIENT__USERNAME, PORTWARD_CLIENT__PASSWORD, PORTWARD_CLIENT__TOKEN",
    403: "it takes another role, or another user in [client]",
}


class Client:
    """Speaks JSON with the API at ``url``, ``unix:PATH`` too. What the API refuses ends the command, in its words.

    ``headers`` say who asks; ``ca_file`` is whom to trust in place of the system's CAs.

    Raises:
        ConfigurationError: the file of CAs cannot be used.
    """

    def __init__(self, url: str, *, headers: Mapping[str, str], ca_file: Path | None) -> None:
        self._url = url
        socket = url.removeprefix("unix:") if url.startswith("unix:") else None
        try:
            trusted = ssl.create_default_context(cafile=ca_file)
        except OSError as error:
            raise ConfigurationError(f"[client] ca_file: {ca_file}: {error.strerror or error}") from error
        self._http = httpx2.Client(
            base_url=url if socket is None else "http://localhost",
            headers=dict(headers),
            transport=httpx2.HTTPTransport(verify=trusted, uds=socket, trust_env=False),
            timeout=30.0,
            trust_env=False,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def get(self, path: str, **parameters: str | list[str]) -> dict[str, Any]:
        """The JSON object at ``path``; a parameter that is a list stands there once for each."""
        return self._request("GET", path, params=parameters)

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """What the API made of ``body``."""
        return self._request("POST", path, json=body)

    def delete(self, path: str) -> None:
        """Delete the resource at ``path``."""
        self._request("DELETE", path)

    def _request(self, method: str, path: str, **arguments: Any) -> dict[str, Any]:
        try:
            answer = self._http.request(method, path, **arguments)
        except httpx2.HTTPError as error:
            help_ = (
                "give the CA of its certificate in [client] ca_file, and in [client] url the name that it is for"
                if "CERTIFICATE_VERIFY_FAILED" in str(error)
                else "start it with `portward run` or `portward api`, or see [client] url"
            )
            fail(f"the API at {self._url} does not answer ({error}); {help_}")
        except UnicodeEncodeError:
            fail("an argument is no UTF-8 text", WRONG)
        try:
            if answer.is_success:
                return dict(answer.json()) if answer.content else {}
        except ValueError:
            fail(f"what answers at {self._url} is not Portward's API; see [client] url and [api] listen")
        fail(self._reason(answer), WRONG if answer.status_code == 400 else FAILED)

    def _reason(self, answer: httpx2.Response) -> str:
        said = f"the API at {self._url} answered {answer.status_code} {answer.reason_phrase}"
        with suppress(ValueError, KeyError, TypeError):
            body = answer.json()
            said = str((body.get("NeutronError") or body["error"])["message"])
        help_ = _HELP.get(answer.status_code)
        return said if help_ is None else f"{said.removesuffix('.')}; {help_}"
