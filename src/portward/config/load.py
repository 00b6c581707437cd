"""The configuration as a whole: one TOML file, and environment variables that override it.

``PORTWARD_<SECTION>__<KEY>`` overrides ``key`` of ``[section]``. Unknown sections and keys are refused, in the file
and in the environment: a typing error in a firewall's configuration must not pass in silence.
"""

import os
import tomllib
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from portward.config.errors import ConfigurationError
from portward.config.sections import (
    API,
    Agent,
    AgentAPI,
    Auth,
    Client,
    Database,
    DefaultFirewallGroup,
    Keystone,
    Log,
    Nftables,
    Openvswitch,
    Quotas,
)

DEFAULT_FILE = Path("/etc/portward/portward.toml")
_PREFIX = "PORTWARD_"
#: Names which a file, not a setting, stands behind: they say where the configuration is.
FILE_VARIABLE = "PORTWARD_CONFIG"


class Settings(BaseSettings):
    """All of it. Build it with ``load``."""

    model_config = SettingsConfigDict(env_prefix=_PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True)

    api: API = API()
    agent_api: AgentAPI = AgentAPI()
    database: Database = Database()
    auth: Auth = Auth()
    keystone: Keystone = Keystone()
    client: Client = Client()
    default_firewall_group: DefaultFirewallGroup = DefaultFirewallGroup()
    quotas: Quotas = Quotas()
    agent: Agent = Field(default_factory=Agent)
    log: Log = Log()
    nftables: Nftables = Nftables()
    openvswitch: Openvswitch = Openvswitch()

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
    except OSError as error:
        raise ConfigurationError(f"{source}: {error.strerror}") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError(f"{source}: {error}") from error
    _refuse_unknown_variables()
    try:
        return Settings(**content)
    except ValidationError as error:
        raise ConfigurationError("\n".join(_sentence(source, item) for item in error.errors())) from error


def _sentence(source: Path, item: Any) -> str:
    section, *rest = (str(part) for part in item["loc"])
    key = ".".join(rest)
    reason = item["msg"].removeprefix("Value error, ")  # the library's words before our own
    if item["type"] == "extra_forbidden":
        reason = "is not known; see docs/reference/configuration.md"
    name = f"[{section}] {key}" if key else f"[{section}]"
    variable = f"{_PREFIX}{section}__{key}".upper() if key else f"{_PREFIX}{section}__...".upper()
    return f"{name}: {reason} (from {source} or {variable})"


def _refuse_unknown_variables() -> None:
    """The library looks for the names it knows and passes over the rest, so a typing error is found here."""
    for name in os.environ:
        if not name.startswith(_PREFIX) or name == FILE_VARIABLE:
            continue
        section, _, key = name.removeprefix(_PREFIX).lower().partition("__")
        field = Settings.model_fields.get(section)
        if field is None or not isinstance(field.annotation, type) or not _is_key(field.annotation, key):
            raise ConfigurationError(f"environment variable {name} is no setting; see docs/reference/configuration.md")


def _is_key(section: Any, key: str) -> bool:
    return key in section.model_fields or (bool(key) and section.model_config.get("extra") == "allow")
