"""The key of E2E test tokens, in a file of ours, and the tokens made with it."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec
from joserfc import jwt
from joserfc.jwk import ECKey

from doorward.adapters.private_files import create_private, read_private
from doorward.adapters.worker import Worker
from doorward.core.e2e import ALGORITHM, CURVE, TYP, BadKey, parse_key, public_part
from doorward.core.keyset import Key
from doorward.errors import ConfigError, UsageError

FILE_NAME: Final = "e2e.key"
MAX_KEY_BYTES: Final = 4_096
FILE_SECONDS: Final = 1.0


async def load_public_key(path: Path, *, bound_seconds: float = FILE_SECONDS) -> Key:
    """What a door needs of the key in this file, which is made if it is not there.

    Raises:
        ConfigError: it cannot be had or trusted; the text says the mend.

    Cancellation: the file is there, complete, or it is not.
    """
    worker = Worker("doorward-e2e")
    try:
        return public_part(await worker.run(partial(prepare_key, path), bound_seconds=bound_seconds))
    except TimeoutError as error:
        raise ConfigError(f"e2e.key_file: {path} cannot be read: {error}") from error
    finally:
        worker.stop_nowait()


def prepare_key(path: Path) -> ECKey:
    """The key in this file, which is made if it is not there. Blocks.

    Raises:
        ConfigError: it cannot be had or trusted; the text says the mend.
    """
    try:
        with contextlib.suppress(FileNotFoundError):
            return parse_key(read_private(path, max_bytes=MAX_KEY_BYTES))
        key = ECKey.generate_key(CURVE, {"alg": ALGORITHM, "use": "sig"})
        create_private(path, msgspec.json.encode(key.as_dict(private=True)))
        return parse_key(read_private(path, max_bytes=MAX_KEY_BYTES))
    except BadKey as error:
        raise ConfigError(f"e2e.key_file: {path} is {error}; move it away, and a new one is made") from error
    except OSError as error:
        raise ConfigError(f"e2e.key_file: {error}") from error


def sign(key: ECKey, claims: Mapping[str, Any]) -> str:
    """A test token that says this.

    Raises:
        UsageError: it is the public part of a key.
    """
    if not key.is_private:
        raise UsageError("e2e.key_file holds a public key: make the token where the private one is")
    return jwt.encode({"alg": ALGORITHM, "kid": key.thumbprint(), "typ": TYP}, dict(claims), key)
