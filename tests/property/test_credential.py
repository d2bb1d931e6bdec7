from __future__ import annotations

import base64
from urllib.parse import parse_qsl

from hypothesis import given, settings
from hypothesis import strategies as st

from doorward.core.credential import BEARER_PREFIX, DEFAULT_COOKIE, Credential, Presented, Transport, extract, scrubbed
from doorward.core.verdict import Code, Deny

LIMITS = settings(max_examples=300, deadline=None)

tokens = st.text("abcXYZ019-._~+/", min_size=1, max_size=30)
carriers = tokens.map(lambda token: BEARER_PREFIX + base64.urlsafe_b64encode(token.encode()).rstrip(b"=").decode())
junk = st.text(max_size=40).map(lambda text: text.encode("utf-8", "surrogatepass")) | st.binary(max_size=40)
values = st.one_of(
    junk,
    tokens.map(lambda token: f"Bearer {token}".encode()),
    junk.map(lambda raw: b"bearer " + raw),
    junk.map(lambda raw: b"__Host-doorward=" + raw),
    st.lists(carriers | st.just("doorward.v1"), max_size=3).map(lambda names: ", ".join(names).encode()),
)
names = st.sampled_from([b"authorization", b"cookie", b"sec-websocket-protocol", b"host"])
parameters = st.sampled_from([b"ticket", b"access_token", b"%74icket", b"access%5Ftoken", b"a", b""])
pairs = st.tuples(parameters, junk | tokens.map(str.encode)).map(lambda pair: b"=".join(pair)) | junk
queries = st.lists(pairs, max_size=4).map(b"&".join)
presented = st.builds(
    Presented,
    st.lists(st.tuples(names, values), max_size=6),
    st.lists(st.one_of(st.just("doorward.v1"), carriers, st.text(max_size=20), st.just(BEARER_PREFIX)), max_size=4),
    queries,
)
transports = st.frozensets(st.sampled_from(Transport))


@given(presented, transports)
@LIMITS
def test_any_handshake_yields_one_credential_or_one_reason(brought: Presented, allowed: frozenset[Transport]) -> None:
    found = extract(brought, allowed)

    if isinstance(found, Deny):
        assert found.code in {Code.AUTH_REQUIRED, Code.BAD_CREDENTIAL_FORMAT}
        return
    assert isinstance(found, Credential)
    assert found.transport in allowed
    assert found.token


@given(presented, st.lists(tokens, min_size=0, max_size=3), st.lists(carriers, min_size=0, max_size=3))
@LIMITS
def test_two_explicit_credentials_never_pass_for_one(brought: Presented, bearers: list[str], more: list[str]) -> None:
    headers = [*brought.headers, *((b"authorization", f"Bearer {token}".encode()) for token in bearers)]
    subprotocols = [*brought.subprotocols, *more]
    explicit = sum(name == b"authorization" for name, _ in headers) if bearers else 0
    explicit += sum(name.startswith(BEARER_PREFIX) for name in subprotocols)
    explicit += sum(
        name in {"ticket", "access_token"}
        for name, _ in parse_qsl(brought.query.decode("latin-1"), keep_blank_values=True)
    )
    found = extract(Presented(headers, subprotocols, brought.query), frozenset(Transport))

    if explicit > 1:
        assert isinstance(found, Deny)
        assert found.code is Code.BAD_CREDENTIAL_FORMAT


@given(presented)
@LIMITS
def test_what_the_app_sees_holds_no_credential(brought: Presented) -> None:
    clean = scrubbed(brought)

    assert not isinstance(extract(clean, frozenset(Transport)), Credential)
    assert not any(name.startswith(BEARER_PREFIX) for name in clean.subprotocols)
    for name, value in clean.headers:
        if name == b"sec-websocket-protocol":
            assert not any(part.strip(b" \t").startswith(BEARER_PREFIX.encode()) for part in value.split(b","))
        if name == b"cookie":
            assert not any(
                part.partition(b"=")[0].strip(b" \t") == DEFAULT_COOKIE.encode() for part in value.split(b";")
            )
    assert scrubbed(clean) == clean
