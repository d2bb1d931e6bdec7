"""How nginx and Envoy are set up to ask before they let a WebSocket through: their configuration, as text and as JSON. Pure."""

from __future__ import annotations

from typing import Any

from doorward.drill.results import Upstream

BACKLOG = 1024
FORWARD_PATH = "/forward"
"""Where a proxy asks: any method, bearer in the header, 200 or 401 (`versus.forward_auth`)."""

TLS_NAME = "localhost"
"""What the auth service's certificate says, for the doors that must be told."""


def authority(url: str) -> str:
    """HOST:PORT of a URL."""
    return url.split("/")[2]


NGINX = """
daemon off; master_process off; worker_processes 1; pid nginx.pid; error_log stderr crit;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  server {{
    listen 127.0.0.1:{port} backlog={backlog};
    location = /metrics {{ proxy_pass http://{behind}; }}
    location = /_auth {{
      internal;
      {ask}
      proxy_pass_request_body off;
      proxy_set_header Content-Length "";
      proxy_set_header Upgrade "";
      {timeouts}
    }}
    location / {{
      auth_request /_auth;
      proxy_pass http://{behind};
      proxy_http_version 1.1;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection upgrade;
      proxy_read_timeout 1h;
    }}
  }}
}}
"""


def nginx_config(upstream: Upstream, behind: str, port: int, timeout_seconds: float | None) -> str:
    """`auth_request`; without a timeout its own defaults (60 s a phase, 30 s for a name) hold."""
    phases = ["proxy_connect", "proxy_send", "proxy_read"]
    if upstream.dns_server is not None:
        phases.append("resolver")
    timeouts = ""
    if timeout_seconds is not None:
        timeouts = " ".join(f"{phase}_timeout {round(timeout_seconds * 1000)}ms;" for phase in phases)
    return NGINX.format(port=port, backlog=BACKLOG, behind=behind, ask=_nginx_asks(upstream), timeouts=timeouts)


def _nginx_asks(upstream: Upstream) -> str:
    """A name is looked up again when its record has expired only if it stands in a variable; else once, at the start."""
    if upstream.dns_server is not None:
        look_up = f"resolver {upstream.dns_server} ipv6=off; set $auth {authority(upstream.url)};"
        return f"{look_up} proxy_pass http://$auth{FORWARD_PATH};"
    trust = ""
    if upstream.ca_file is not None:
        trust = f"proxy_ssl_verify on; proxy_ssl_name {TLS_NAME}; proxy_ssl_trusted_certificate {upstream.ca_file};"
    return f"{trust} proxy_pass {upstream.url}{FORWARD_PATH};"


def envoy_config(upstream: Upstream, behind: str, port: int, timeout_seconds: float) -> dict[str, Any]:
    """`ext_authz` over HTTP; everything else as it comes."""
    types = "type.googleapis.com/envoy.extensions.filters"
    authz = {
        "@type": f"{types}.http.ext_authz.v3.ExtAuthz",
        "transport_api_version": "V3",
        "http_service": {
            "server_uri": {"uri": upstream.url, "cluster": "auth", "timeout": f"{timeout_seconds}s"},
            "path_prefix": FORWARD_PATH,
        },
    }
    hosts = {
        "name": "all",
        "domains": ["*"],
        "routes": [
            {
                "match": {"path": "/metrics"},
                "route": {"cluster": "behind"},
                "typed_per_filter_config": {
                    "envoy.filters.http.ext_authz": {
                        "@type": f"{types}.http.ext_authz.v3.ExtAuthzPerRoute",
                        "disabled": True,
                    }
                },
            },
            {"match": {"prefix": "/"}, "route": {"cluster": "behind", "timeout": "0s"}},
        ],
    }
    connections = {
        "@type": f"{types}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "door",
        "upgrade_configs": [{"upgrade_type": "websocket"}],
        "route_config": {"virtual_hosts": [hosts]},
        "http_filters": [
            {"name": "envoy.filters.http.ext_authz", "typed_config": authz},
            {"name": "envoy.filters.http.router", "typed_config": {"@type": f"{types}.http.router.v3.Router"}},
        ],
    }
    listener = {
        "address": _socket_address("127.0.0.1", port),
        "filter_chains": [
            {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": connections}]}
        ],
    }
    auth = _cluster("auth", authority(upstream.url)) | _trust(upstream) | _look_up(upstream)
    clusters = [auth, _cluster("behind", behind)]
    return {"static_resources": {"listeners": [listener], "clusters": clusters}}


def _cluster(name: str, authority: str) -> dict[str, Any]:
    host, _, port = authority.partition(":")
    endpoint = {"endpoint": {"address": _socket_address(host, int(port))}}
    return {
        "name": name,
        "type": "STATIC",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
    }


def _trust(upstream: Upstream) -> dict[str, Any]:
    if upstream.ca_file is None:
        return {}
    trusted = {"trusted_ca": {"filename": upstream.ca_file}}
    return {
        "transport_socket": {
            "name": "envoy.transport_sockets.tls",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
                "sni": TLS_NAME,
                "common_tls_context": {"validation_context": trusted},
            },
        }
    }


def _look_up(upstream: Upstream) -> dict[str, Any]:
    if upstream.dns_server is None:
        return {}
    host, _, port = upstream.dns_server.partition(":")
    name_server = _socket_address(host, int(port))
    name_server["socket_address"]["protocol"] = "UDP"
    resolver = {
        "@type": "type.googleapis.com/envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig",
        "resolvers": [name_server],
    }
    return {
        "type": "STRICT_DNS",
        "dns_lookup_family": "V4_ONLY",
        "typed_dns_resolver_config": {"name": "envoy.network.dns_resolver.cares", "typed_config": resolver},
    }


def _socket_address(host: str, port: int) -> dict[str, Any]:
    return {"socket_address": {"address": host, "port_value": port}}
