"""Which key signs, which are published, when one retires."""

from __future__ import annotations

import msgspec
import pytest

from doorward.authd.keys import (
    GRACE_SECONDS,
    MAX_TOKEN_SECONDS,
    BadKeyFile,
    SigningKey,
    decode,
    encode,
    generate,
    published,
    retired,
    signer,
)

NOW = 1_750_000_000.0
OLD = generate(NOW - 1000)
NEW = generate(NOW + 600)


def kids(document: bytes) -> list[str]:
    return [key["kid"] for key in msgspec.json.decode(document)["keys"]]


def test_a_new_key_is_published_before_it_signs() -> None:
    assert signer([OLD, NEW], NOW) is OLD
    assert kids(published([OLD, NEW], NOW)) == [NEW.kid, OLD.kid]
    assert signer([OLD, NEW], NOW + 600) is NEW


def test_the_old_key_stays_until_its_last_token_has_expired() -> None:
    end = NEW.signs_from + MAX_TOKEN_SECONDS + GRACE_SECONDS
    assert retired([OLD, NEW], end - 1) == []
    assert retired([OLD, NEW], end) == [OLD]
    assert kids(published([OLD, NEW], end)) == [NEW.kid]


def test_the_last_key_never_retires() -> None:
    assert retired([OLD], NOW + 1e9) == []


def test_with_only_a_later_key_left_it_signs() -> None:
    assert signer([NEW], NOW) is NEW


def test_nothing_private_is_published_or_shown() -> None:
    document = published([OLD], NOW)
    assert b'"d"' not in document
    assert msgspec.json.decode(document)["keys"][0] | {"x": "", "y": ""} == {
        "kty": "EC",
        "crv": "P-256",
        "use": "sig",
        "alg": "ES256",
        "kid": OLD.kid,
        "x": "",
        "y": "",
    }
    private = OLD.material.as_dict(private=True)["d"]
    assert str(private) not in repr(OLD)


def test_a_key_survives_its_file() -> None:
    again = decode(encode(OLD))
    assert (again.kid, again.signs_from, again.public()) == (OLD.kid, OLD.signs_from, OLD.public())
    assert again.material.is_private


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b"\xff",
        b'{"signs_from": 1, "jwk": {"kty": "EC"}}',
        msgspec.json.encode({"signs_from": 1, "jwk": OLD.public()}),
        msgspec.json.encode({"signs_from": "soon", "jwk": OLD.material.as_dict(private=True)}),
    ],
)
def test_a_damaged_file_is_refused(content: bytes) -> None:
    with pytest.raises(BadKeyFile):
        decode(content)


def test_order_is_by_time_then_kid() -> None:
    twins = sorted((generate(NOW), generate(NOW)), key=lambda key: key.kid)
    assert signer(twins, NOW) is signer(twins[::-1], NOW) is twins[-1]
    assert isinstance(twins[0], SigningKey)
