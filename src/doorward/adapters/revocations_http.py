"""`GET /auth/revocations`: the long-polled feed, on connections outside of the bulkhead."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Annotated, Final
from urllib.parse import urlencode

import msgspec

from doorward.adapters.http_status import failure_of
from doorward.adapters.service_credential import ServiceCredential
from doorward.adapters.transport import Caps, HttpTransport
from doorward.core.deadline import Deadline
from doorward.errors import BadAnswer
from doorward.runtime.ports import CursorExpired, FeedMissing, RevocationItem, RevocationPage

MAX_WAIT_SECONDS: Final = 20.0
MAX_PAGE_BYTES: Final = 1024 * 1024
MAX_PAGE_ITEMS: Final = 10_000

_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=1_024)]
_Moment = Annotated[float, msgspec.Meta(ge=0, le=1e12)]
_Milliseconds = Annotated[int, msgspec.Meta(ge=0, le=10**15)]


class _Item(msgspec.Struct, frozen=True):
    jti: _Name | None = None
    session_id: _Name | None = None
    user_id: _Name | None = None
    not_before: _Milliseconds | None = None


class _Page(msgspec.Struct, frozen=True):
    epoch: _Name
    cursor: _Name
    as_of: _Moment
    more: bool
    items: Annotated[list[_Item], msgspec.Meta(max_length=MAX_PAGE_ITEMS)]


_decoder = msgspec.json.Decoder(_Page)


class HttpRevocationSource:
    """A `RevocationSource`.

    Args:
        transport: one of its own: a poll holds its connection for up to 20 s.
    """

    def __init__(
        self,
        transport: HttpTransport,
        *,
        url: str,
        credential: ServiceCredential,
        caps: Caps,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._transport = transport
        self._url = url
        self._headers = {"Accept": "application/json", **credential.headers()}
        self._caps = caps
        self._wall = wall

    async def poll(
        self, *, epoch: str | None, cursor: str | None, wait_seconds: float, deadline: Deadline
    ) -> RevocationPage:
        """The next page; `epoch=None, cursor=None` asks for a full snapshot.

        Args:
            wait_seconds: how long the service may hold the poll, at most 20; the deadline must leave room for it.

        Raises:
            FeedMissing, CursorExpired: answers of the service.
            BackendError: could not ask.

        Cancellation: the connection is cut.
        """
        wait = min(max(wait_seconds, 0.0), MAX_WAIT_SECONDS)
        answer = await self._transport.request(
            "GET",
            f"{self._url}?{_query(epoch, cursor, wait)}",
            headers=self._headers,
            deadline=deadline,
            caps=dataclasses.replace(self._caps, read_seconds=self._caps.read_seconds + wait),
            max_body_bytes=MAX_PAGE_BYTES,
        )
        if answer.status == 200:
            return parse_page(answer.body)
        if answer.status in (404, 405, 501):
            raise FeedMissing(f"the auth service answered {answer.status}: it has no revocation feed")
        if answer.status == 410:
            raise CursorExpired("the revocation feed no longer knows our cursor")
        raise failure_of(answer, self._wall)


def parse_page(body: bytes) -> RevocationPage:
    """Read one page strictly.

    Raises:
        BadAnswer: it is not the contract. One bad item spoils the page: to skip it could skip a revocation.
    """
    try:
        page = _decoder.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        # Not chained: the text of such an error may quote the feed.
        raise BadAnswer("the page of the revocation feed is not the contract") from None
    items = tuple(_checked(item) for item in page.items)
    return RevocationPage(page.epoch, page.cursor, page.as_of, page.more, items)


def _checked(item: _Item) -> RevocationItem:
    names = sum(name is not None for name in (item.jti, item.session_id, item.user_id))
    if names != 1 or (item.user_id is None) is not (item.not_before is None):
        raise BadAnswer("an item of the revocation feed is not one of jti, session_id, or user_id with not_before")
    return RevocationItem(item.jti, item.session_id, item.user_id, item.not_before)


def _query(epoch: str | None, cursor: str | None, wait_seconds: float) -> str:
    known = {"after": cursor, "epoch": epoch}
    fields = {key: value for key, value in known.items() if value is not None}
    return urlencode({**fields, "wait": f"{wait_seconds:g}"})
