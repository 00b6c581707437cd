"""The configuration refuses what it does not know, and says which key and what it takes."""

from pathlib import Path

import pytest

from portward.config import ConfigurationError, load


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in list(os.environ):
        if name.startswith("PORTWARD_"):
            monkeypatch.delenv(name)


def file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "portward.toml"
    path.write_text(text)
    return path


def test_every_key_has_a_default_that_works_on_one_machine() -> None:
    settings = load()
    assert settings.api.address == ("127.0.0.1", 9696)
    assert settings.agent_api.address == ("127.0.0.1", 9697)
    assert settings.database.url.startswith("sqlite:///")


def test_the_environment_wins_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = file(tmp_path, '[api]\nlisten = "127.0.0.1:1"\n[agent]\nhost = "from-file"\n')
    monkeypatch.setenv("PORTWARD_API__LISTEN", "[::1]:2")
    settings = load(path)
    assert settings.api.address == ("::1", 2)
    assert settings.agent.host == "from-file"


@pytest.mark.parametrize(
    "text",
    [
        '[apis]\nlisten = "127.0.0.1:1"',
        '[api]\nlitsen = "127.0.0.1:1"',
        "[nftables]\nmask = 1",
    ],
)
def test_an_unknown_section_or_key_of_the_file_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigurationError, match="not known"):
        load(file(tmp_path, text))


@pytest.mark.parametrize("name", ["PORTWARD_API__LITSEN", "PORTWARD_APIS__LISTEN", "PORTWARD_LISTEN", "PORTWARD_API"])
def test_an_unknown_variable_is_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "127.0.0.1:1")
    with pytest.raises(ConfigurationError, match=name):
        load()


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ('[api]\nlisten = "nowhere"', r"\[api\] listen"),
        ('[api]\nlisten = "127.0.0.1:65536"', r"\[api\] listen"),
        ('[auth]\nmode = "trust-me"', r"\[auth\] mode"),
        ("[nftables]\nct_mark_mask = 0", r"\[nftables\] ct_mark_mask"),
        ("[nftables]\nct_mark_mask = 0x0f0f", r"\[nftables\] ct_mark_mask"),
        ("[nftables]\nct_mark_mask = 7", r"\[nftables\] ct_mark_mask"),
        ('[nftables]\nreverse_path = "maybe"', r"\[nftables\] reverse_path"),
    ],
)
def test_a_bad_value_is_refused_by_the_name_of_its_key(tmp_path: Path, text: str, key: str) -> None:
    with pytest.raises(ConfigurationError, match=key):
        load(file(tmp_path, text))


@pytest.mark.parametrize("mask", [0xF, 0xFFFF, 0xFFFF0000, 0xF0])
def test_adjacent_bits_are_a_mask(tmp_path: Path, mask: int) -> None:
    assert load(file(tmp_path, f"[nftables]\nct_mark_mask = {mask:#x}")).nftables.ct_mark_mask == mask


def test_a_named_file_that_is_missing_or_no_toml_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match=r"absent\.toml"):
        load(tmp_path / "absent.toml")
    monkeypatch.setenv("PORTWARD_CONFIG", str(file(tmp_path, "this is no = = toml")))
    with pytest.raises(ConfigurationError, match=r"portward\.toml"):
        load()


def test_a_section_as_a_whole_is_refused_by_its_name_and_in_our_own_words(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"^\[api\]: give tls_cert and tls_key, or neither \(from "):
        load(file(tmp_path, '[api]\ntls_cert = "/a"'))
    with pytest.raises(ConfigurationError, match=r"absent\.toml: No such file or directory$"):
        load(tmp_path / "absent.toml")


@pytest.mark.parametrize("text", ["0xffff0000", "4294901760", "0b11111111111111110000000000000000"])
def test_a_mask_is_written_in_the_environment_as_in_the_file(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("PORTWARD_NFTABLES__CT_MARK_MASK", text)
    assert load().nftables.ct_mark_mask == 0xFFFF0000


@pytest.mark.parametrize("text", ["", "ffff", "0x", "0x0f0f", "-1", "1e3"])
def test_a_mask_of_the_environment_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("PORTWARD_NFTABLES__CT_MARK_MASK", text)
    with pytest.raises(ConfigurationError, match=r"\[nftables\] ct_mark_mask"):
        load()


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ('ingress_source_ipv4_address = "10.0.0.300"', "ingress_source_ipv4_address"),
        ('ingress_source_ipv4_address = "2001:db8::1"', "ingress_source_ipv4_address"),
        ('egress_destination_ipv6_address = "10.0.0.0/8"', "egress_destination_ipv6_address"),
        ('egress_destination_ipv6_address = "fe80::1%eth0"', "egress_destination_ipv6_address"),
        ('ingress_source_port = "90:80"\nprotocol = "tcp"', "ingress_source_port"),
        ('ingress_source_port = "0"\nprotocol = "tcp"', "ingress_source_port"),
        ('egress_destination_port = "65536"\nprotocol = "tcp"', "egress_destination_port"),
        ('egress_destination_port = "443"', "protocol"),
        ('egress_destination_port = "443"\nprotocol = "icmp"', "protocol"),
    ],
)
def test_a_default_rule_that_could_not_be_made_is_refused_at_the_start(tmp_path: Path, text: str, key: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"\[default_firewall_group\] {key}: "):
        load(file(tmp_path, f"[default_firewall_group]\n{text}"))


def test_default_rules_take_addresses_and_ports_as_the_api_does(tmp_path: Path) -> None:
    text = 'ingress_source_ipv4_address = "10.0.0.1/8"\negress_destination_port = "0:1024"\nprotocol = "udp"'
    section = load(file(tmp_path, f"[default_firewall_group]\n{text}")).default_firewall_group
    assert (section.ingress_source_ipv4_address, section.egress_destination_port) == ("10.0.0.1/8", "0:1024")
