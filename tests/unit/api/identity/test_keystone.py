"""The options of ``[keystone]`` are keystonemiddleware's, and what it would find out late is refused at start."""

from typing import Any

import pytest

from portward.api.identity.keystone import make_identify
from portward.config import ConfigurationError, Keystone

GOOD: dict[str, Any] = {
    "auth_url": "http://127.0.0.1:9/v3",
    "username": "portward",
    "password": "top-secret",
    "user_domain_name": "Default",
    "project_name": "service",
    "project_domain_name": "Default",
}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"token_cache_time": "60", "insecure": "true", "memcached_servers": ["127.0.0.1:1"]},
        {"memcached_servers": "127.0.0.1:1,127.0.0.1:2", "http_connect_timeout": 3, "region_name": "RegionOne"},
        {"auth_type": "v3password", "interface": "public", "service_token_roles": ["service"]},
    ],
)
def test_the_librarys_options_are_taken_as_it_takes_them(options: dict[str, Any]) -> None:
    make_identify(Keystone(**GOOD, **options))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"auth_uri": "http://x"}, r"\[keystone\] auth_uri: keystonemiddleware has no such option"),
        ({"delay_auth_decision": True}, "delay_auth_decision: not taken"),
        ({"cache": "swift.cache"}, "cache: not taken"),
        ({"auth_section": "other"}, "auth_section: not taken"),
        ({"token_cache_time": "soon"}, r"\[keystone\] token_cache_time"),
        ({"auth_type": "magic"}, r"\[keystone\] auth_type"),
        ({"memcache_security_strategy": "MAC"}, "memcache_secret_key"),
        ({"auth_url": ""}, r"\[keystone\] auth_url"),
        ({"username": ""}, r"\[keystone\] username"),
        ({"password": ""}, r"\[keystone\] password"),
        ({"user_domain_name": ""}, r"\[keystone\] user_domain_name"),
    ],
)
def test_an_option_that_is_unknown_wrong_or_missing_is_named(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says) as refused:
        make_identify(Keystone(**(GOOD | options)))
    assert "top-secret" not in str(refused.value)
