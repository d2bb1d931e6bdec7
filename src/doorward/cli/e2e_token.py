"""`doorward token --e2e`: a test token, made on this host and good once. Asks nobody, so it works in an outage."""

from __future__ import annotations

import secrets
import sys

from doorward.adapters.e2e_key import prepare_key, sign
from doorward.asgi.policies import e2e_key_file, e2e_policy
from doorward.cli.output import print_json
from doorward.config import Settings
from doorward.core.e2e import MAX_LIFE_SECONDS, NAME, claims
from doorward.errors import UsageError
from doorward.runtime.clock import SystemClock


def print_test_token(settings: Settings, name: str, *, as_json: bool) -> None:
    """Print it and nothing else on stdout; on stderr what it is good for.

    Raises:
        UsageError: test tokens are off, or the name is none.
        ConfigError: the key cannot be had.
    """
    policy = e2e_policy(settings)
    if policy is None:
        raise UsageError("E2E test tokens are off: set e2e.enabled and e2e.audience where the door runs and here")
    if not NAME.fullmatch(name):
        raise UsageError("--as takes a plain name: letters, digits, `.`, `_` and `-`, at most 64")
    jti, now = secrets.token_hex(16), SystemClock().wall()
    said = claims(policy, name=name, jti=jti, wall_now=now, seconds=MAX_LIFE_SECONDS)
    path = e2e_key_file(settings)
    if not path.exists():
        print(f"Makes a new key, {path}: a door that runs already does not know it.", file=sys.stderr)
    token = sign(prepare_key(path), said)
    if as_json:
        user_id = f"{policy.tenant}:{name}"
        print_json({"token": token, "jti": jti, "user_id": user_id, "expires_at": said["exp"]})
        return
    print(token, flush=True)
    print(
        f"Good once, for {MAX_LIFE_SECONDS / 60:g} min, at {policy.audience}, and only while the breaker is not closed.",
        file=sys.stderr,
    )
