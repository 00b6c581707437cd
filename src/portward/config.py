"""The configuration: one TOML file, and environment variables that override it.

``PORTWARD_<SECTION>__<KEY>`` overrides ``key`` of ``[section]``. Every key has a default that works on one
machine. Unknown sections and keys are refused, in the file and in the environment: a typing error in a
firewall's configuration must not pass in silence.
"""

import os
import socket
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from portward.model import PortwardError

DEFAULT_FILE = Path("/etc/portward/portward.toml")
_PREFIX = "PORTWARD_"
#: Names which a file, not a setting, stands behind: they say where the configuration is.
FILE_VARIABLE = "PORTWARD_CONFIG"


class ConfigurationError(PortwardError):
    """The configuration cannot be used; the message names the key and what it takes."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _check_listen(value: str) -> str:
    host, _, port = value.rpartition(":")
    if not host or not port.isdecimal() or not 0 <= int(port) <= 65535:
        raise ValueError("give HOST:PORT, for example 127.0.0.1:9696 or [::1]:9696")
    return value


class Listener(_Section):
    """Where a server listens, as ``HOST:PORT``; IPv6 in brackets."""

    listen: str

    @field_validator("listen")
    @classmethod
    def _valid(cls, value: str) -> str:
        return _check_listen(value)

    @property
    def address(self) -> tuple[str, int]:
        """Host (without brackets) and port to bind."""
        host, _, port = self.listen.rpartition(":")
        return host.strip("[]"), int(port)


class API(Listener):
    """``[api]``: what users and OpenStack clients talk to."""

    listen: str = "127.0.0.1:9696"
    max_body: Annotated[int, Field(ge=1024, le=2**30)] = 1024 * 1024  # bytes


class AgentAPI(Listener):
    """``[agent_api]``: what the agents of the hosts talk to."""

    listen: str = "127.0.0.1:9697"


class Database(_Section):
    """``[database]``: where all state is."""

    url: str = "sqlite:////var/lib/portward/portward.db"  # SQLAlchemy


class Auth(_Section):
    """``[auth]``: who the caller is. ``none`` makes every caller an admin, so it is for loopback alone."""

    mode: Literal["none"] = "none"
    project: str = "portward"  # the project of callers in mode none


class Agent(_Section):
    """``[agent]``: the agent of this host."""

    host: str = Field(default_factory=socket.gethostname)  # as in binding:host_id
    api: str = "http://127.0.0.1:9697"
    token: str = ""  # printed once by `portward host add`
    state_dir: Path = Path("/var/lib/portward/agent")
    allow_root_namespace: bool = False


class Nftables(_Section):
    """``[nftables]``: the dataplane of router ports."""

    ct_mark_mask: Annotated[int, Field(gt=0, le=0xFFFFFFFF)] = 0xFFFF  # bits of the connection mark that are ours
    reverse_path: Literal["strict", "loose", "off"] = "strict"

    @field_validator("ct_mark_mask", mode="before")
    @classmethod
    def _hexadecimal(cls, value: Any) -> Any:
        """The environment has strings only; 0xffff means there what it means in TOML."""
        return int(value, 0) if isinstance(value, str) else value

    @field_validator("ct_mark_mask")
    @classmethod
    def _contiguous(cls, value: int) -> int:
        bits = value // (value & -value)
        if bits & (bits + 1) or bits < 0xF:
            raise ValueError("give at least 4 adjacent bits, for example 0x0000ffff")
        return value


class Settings(BaseSettings):
    """All of it. Build it with ``load``."""

    model_config = SettingsConfigDict(env_prefix=_PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True)

    api: API = API()
    agent_api: AgentAPI = AgentAPI()
    database: Database = Database()
    auth: Auth = Auth()
    agent: Agent = Field(default_factory=Agent)
    nftables: Nftables = Nftables()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - the signature is the library's
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment wins over the file, whose content ``load`` passes in."""
        return env_settings, init_settings


def load(path: Path | None = None) -> Settings:
    """The settings from ``path``, else the file ``PORTWARD_CONFIG`` names, else ``/etc/portward/portward.toml``.

    The last may be missing. The environment overrides each.

    Raises:
        ConfigurationError: a file that is missing, unreadable or no TOML, an unknown key, or a bad value.
    """
    named = path or (Path(os.environ[FILE_VARIABLE]) if os.environ.get(FILE_VARIABLE) else None)
    content: dict[str, Any] = {}
    source = named or DEFAULT_FILE
    try:
        if named or DEFAULT_FILE.exists():
            content = tomllib.loads(source.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError(f"{source}: {error}") from error
    _refuse_unknown_variables()
    try:
        return Settings(**content)
    except ValidationError as error:
        raise ConfigurationError("\n".join(_sentence(source, item) for item in error.errors())) from error


def _sentence(source: Path, item: Any) -> str:
    section, *rest = (str(part) for part in item["loc"])
    key = ".".join(rest)
    reason = "is not known; see docs/reference/configuration.md" if item["type"] == "extra_forbidden" else item["msg"]
    variable = f"{_PREFIX}{section}__{key}".upper() if key else f"{_PREFIX}{section}".upper()
    return f"[{section}] {key}: {reason} (from {source} or {variable})"


def _refuse_unknown_variables() -> None:
    """The library looks for the names it knows and passes over the rest, so a typing error is found here."""
    for name in os.environ:
        if not name.startswith(_PREFIX) or name == FILE_VARIABLE:
            continue
        section, _, key = name.removeprefix(_PREFIX).lower().partition("__")
        field = Settings.model_fields.get(section)
        if field is None or not isinstance(field.annotation, type) or key not in field.annotation.model_fields:
            raise ConfigurationError(f"environment variable {name} is no setting; see docs/reference/configuration.md")
