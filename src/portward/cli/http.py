"""The command as a client of the API: it has no way of its own to ports, groups or rules."""

from types import TracebackType
from typing import Any, Self

import httpx2

from portward.cli.output import FAILED, WRONG, fail


class Client:
    """Speaks JSON with the API at ``url``. What the API refuses ends the command, in the API's words."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._http = httpx2.Client(base_url=url, timeout=30.0, trust_env=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def get(self, path: str, **parameters: str) -> dict[str, Any]:
        """The JSON object at ``path``."""
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
            fail(f"the API at {self._url} does not answer ({error}); start it with `portward run` or `portward api`")
        except UnicodeEncodeError:
            fail("an argument is no UTF-8 text", WRONG)
        try:
            if answer.is_success:
                return dict(answer.json()) if answer.content else {}
        except ValueError:
            fail(f"what answers at {self._url} is not Portward's API; see [api] listen")
        try:
            message = answer.json()["NeutronError"]["message"]
        except (ValueError, KeyError, TypeError):
            message = f"the API at {self._url} answered {answer.status_code} {answer.reason_phrase}"
        fail(message, WRONG if answer.status_code == 400 else FAILED)
