"""How the proxies are told to ask: their own timeouts unless told, TLS with trust, a name that is looked up again."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from doorward.drill.proxies import FORWARD_PATH, authority, envoy_config, nginx_config
from doorward.drill.results import Upstream

PLAIN = Upstream("http://127.0.0.1:1", "issuer", "audience", "id", "secret")
SECURE = replace(PLAIN, url="https://127.0.0.1:1", ca_file="/ca.pem")
NAMED = replace(PLAIN, url="http://auth.test:1", dns_server="127.0.0.1:53")


def test_the_authority_of_a_url() -> None:
    assert authority("https://auth.test:8443/path") == "auth.test:8443"


@pytest.mark.parametrize(
    ("upstream", "seconds", "timeouts"), [(PLAIN, None, 0), (PLAIN, 0.5, 3), (NAMED, None, 0), (NAMED, 0.5, 4)]
)
def test_nginx_has_its_own_timeouts_unless_told(upstream: Upstream, seconds: float | None, timeouts: int) -> None:
    config = nginx_config(upstream, "127.0.0.1:2", 3, seconds)
    assert config.count("timeout 500ms;") == timeouts


def test_nginx_trusts_the_certificate_and_no_other() -> None:
    config = nginx_config(SECURE, "127.0.0.1:2", 3, None)

    assert "proxy_ssl_verify on;" in config
    assert "proxy_ssl_trusted_certificate /ca.pem;" in config
    assert f"proxy_pass https://127.0.0.1:1{FORWARD_PATH};" in config
    assert "proxy_ssl" not in nginx_config(PLAIN, "127.0.0.1:2", 3, None)


def test_nginx_looks_a_name_up_again() -> None:
    config = nginx_config(NAMED, "127.0.0.1:2", 3, None)

    assert "resolver 127.0.0.1:53" in config
    assert "set $auth auth.test:1;" in config
    assert f"proxy_pass http://$auth{FORWARD_PATH};" in config


def test_envoy_asks_where_it_is_told_and_waits_as_long_as_it_is_told() -> None:
    auth, behind = envoy_config(PLAIN, "127.0.0.1:2", 3, 0.5)["static_resources"]["clusters"]

    assert (auth["type"], behind["type"]) == ("STATIC", "STATIC")
    assert "transport_socket" not in auth
    text = json.dumps(envoy_config(PLAIN, "127.0.0.1:2", 3, 0.5))
    assert '"timeout": "0.5s"' in text
    assert f'"path_prefix": "{FORWARD_PATH}"' in text


def test_envoy_trusts_the_certificate_and_looks_a_name_up() -> None:
    secure = envoy_config(SECURE, "127.0.0.1:2", 3, 0.5)["static_resources"]["clusters"][0]
    named = envoy_config(NAMED, "127.0.0.1:2", 3, 0.5)["static_resources"]["clusters"][0]

    assert secure["transport_socket"]["typed_config"]["common_tls_context"] == {
        "validation_context": {"trusted_ca": {"filename": "/ca.pem"}}
    }
    assert named["type"] == "STRICT_DNS"
    resolvers = named["typed_dns_resolver_config"]["typed_config"]["resolvers"]
    assert resolvers == [{"socket_address": {"address": "127.0.0.1", "port_value": 53, "protocol": "UDP"}}]
