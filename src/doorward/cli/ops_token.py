"""`doorward ops-token`: let somebody look at the ops page for a while, auth service or none."""

from __future__ import annotations

import sys
import time
from typing import Annotated

import typer

from doorward.cli.output import AsJson, ConfigFile, print_json
from doorward.config import Settings
from doorward.errors import UsageError
from doorward.ops.token import issue, read_key


def ops_token(
    minutes: Annotated[float, typer.Option(help="How long it holds, at most 60.", min=1, max=60)] = 60,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Make a token for the ops page, and print it and nothing else.

    Run it on the host of the door, as its user and with its settings. It asks nobody, so it works while the auth service is down.
    Open `/ops` and paste it, or put it into the address: `/ops#token=<token>`. Whoever holds it may look and change nothing.

        doorward ops-token
        doorward ops-token --minutes 10 --json

    To void all that were made, remove `ops.key` from the data directory and restart the door.

    Exit codes: 0 a token; 2 no door has run with this data directory, or its key cannot be trusted.
    """
    settings = Settings.load(config)
    try:
        key = read_key(settings.data_dir)
    except FileNotFoundError:
        raise UsageError(
            f"no door has made an ops key in {settings.data_dir}; run this where the door runs, with its DOORWARD_DATA_DIR"
        ) from None
    except OSError as error:
        raise UsageError(f"the ops key cannot be used: {error}") from error
    token, claims = issue(key, now=time.time(), seconds=minutes * 60)
    if as_json:
        print_json({"token": token, "id": claims.id, "expires_at": claims.expires_at})
        return
    print(token, flush=True)
    print(f"Paste it at /ops. It holds for {minutes:g} min and changes nothing.", file=sys.stderr)
