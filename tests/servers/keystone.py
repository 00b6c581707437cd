"""A real Keystone with projects p1 and p2 and users of each role, over HTTP on loopback.

SQLite, Fernet tokens, and its cache on, or each validation would cost half a second. Use it outside pytest as a context
manager. It ends with the process that started it, however that ends.
"""

import json
import select
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx2

_PROGRAM = Path(__file__).with_name("keystone_process.py")
_DEADLINE = 60.0  # seconds that it may take to start
PASSWORD = "s3cret-of-all"
REGION = "RegionOne"
_PROJECTS = ("p1", "p2", "service")
#: User, its project, its role there.
_USERS = (
    ("member1", "p1", "member"),
    ("reader1", "p1", "reader"),
    ("norole1", "p1", "visitor"),  # Keystone gives no token of a project to a user without any role there
    ("member2", "p2", "member"),
    ("portward", "service", "service"),
)


class Keystone:
    """A Keystone that runs while the context lasts.

    Users: ``admin`` (admin of project ``admin``), ``member1``, ``reader1``, ``norole1`` (role
    ``visitor``, which no rule knows), ``member2`` (in p2), and ``portward``, the service's own. All have ``PASSWORD``.
    """

    url: str  # ends with /v3
    projects: dict[str, str]  # ids by name
    users: dict[str, str]
    expired_token: str  # of member1 in p1

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="pw-keystone-", dir="/tmp"))
        self._http = httpx2.Client(timeout=30, trust_env=False)
        self._process: subprocess.Popen[str] | None = None
        self._tokens: dict[str, str] = {}

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        try:
            self.stop()
            self._http.close()
        finally:
            shutil.rmtree(self.directory, ignore_errors=True)

    def stop(self) -> None:
        """End the process, at once; requests to it are refused from then on."""
        if self._process is None:
            return
        process, self._process = self._process, None
        process.kill()
        process.communicate()

    def token(self, user: str, *, fresh: bool = False) -> str:
        """A token of ``user`` for its project; the same one each time, unless a ``fresh`` one is asked for."""
        if fresh or user not in self._tokens:
            project = next((project for name, project, _ in _USERS if name == user), "admin")
            token = self.issue(user, scope={"project": {"id": self.projects[project]}})
            if fresh:
                return token
            self._tokens[user] = token
        return self._tokens[user]

    def issue(self, user: str, scope: dict[str, Any] | None) -> str:
        """A new token of ``user`` for ``scope``, as in Keystone's API; None: of no scope."""
        identity = {"methods": ["password"], "password": {"user": {"id": self.users[user], "password": PASSWORD}}}
        auth = {"identity": identity} | ({} if scope is None else {"scope": scope})
        answer = self._http.post(f"{self.url}/auth/tokens", json={"auth": auth})
        assert answer.status_code == 201, answer.text
        return str(answer.headers["X-Subject-Token"])

    def revoke(self, token: str) -> None:
        """Make ``token`` worthless, as its user would."""
        headers = {"X-Auth-Token": self.token("admin"), "X-Subject-Token": token}
        answer = self._http.delete(f"{self.url}/auth/tokens", headers=headers)
        assert answer.status_code == 204, answer.text

    def set_network_endpoint(self, url: str) -> None:
        """Let the catalog say from now on that the service of type ``network`` is at ``url`` (unversioned)."""
        answer = self._http.patch(
            f"{self.url}/endpoints/{self._endpoint}",
            json={"endpoint": {"url": url}},
            headers={"X-Auth-Token": self.token("admin")},
        )
        assert answer.status_code == 200, answer.text

    def service_options(self) -> dict[str, Any]:
        """``[keystone]`` of a Portward that uses this Keystone."""
        return {
            "auth_url": self.url,
            "username": "portward",
            "password": PASSWORD,
            "project_name": "service",
            "user_domain_id": "default",
            "project_domain_id": "default",
            "interface": "public",
            "region_name": REGION,
        }

    def client_environment(self, user: str) -> dict[str, str]:
        """What the ``openstack`` command takes from its environment, to act as ``user``."""
        project = next((project for name, project, _ in _USERS if name == user), "admin")
        return {
            "OS_AUTH_TYPE": "password",
            "OS_AUTH_URL": self.url,
            "OS_USERNAME": user,
            "OS_PASSWORD": PASSWORD,
            "OS_PROJECT_NAME": project,
            "OS_USER_DOMAIN_ID": "default",
            "OS_PROJECT_DOMAIN_ID": "default",
            "OS_REGION_NAME": REGION,
            "OS_IDENTITY_API_VERSION": "3",
        }

    def _start(self) -> None:
        # -P: the program lies beside this module, which has the name of the package that it imports.
        with (self.directory / "errors").open("wb") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-W", "ignore", "-P", str(_PROGRAM), str(self.directory)],
                cwd=self.directory,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        wanted = {"password": PASSWORD, "region": REGION, "projects": _PROJECTS, "users": _USERS}
        self._process.stdin.write(json.dumps(wanted) + "\n")
        self._process.stdin.flush()
        ready, _, _ = select.select([self._process.stdout], [], [], _DEADLINE)
        line = self._process.stdout.readline() if ready else ""
        if not line:
            logs = (self.directory / name for name in ("errors", "keystone.log"))
            said = "\n".join(log.read_text()[-4000:] for log in logs if log.exists())
            raise RuntimeError(f"Keystone did not start:\n{said}")
        made = json.loads(line)
        self.url = made["url"]
        self.projects, self.users = made["projects"], made["users"]
        self.expired_token, self._endpoint = made["expired_token"], made["endpoint"]
