"""`GET /auth/health`."""

from __future__ import annotations

from doorward.adapters.transport import Caps, HttpTransport
from doorward.core.deadline import Deadline
from doorward.errors import BadStatus


class HttpHealthProbe:
    """A `HealthProbe`: a 200 is well, whatever its body says; anything else is not."""

    def __init__(self, transport: HttpTransport, *, url: str, caps: Caps) -> None:
        self._transport = transport
        self._url = url
        self._caps = caps

    async def probe(self, *, deadline: Deadline) -> None:
        """Return if the service says that it is well.

        Raises:
            BackendError: it does not, or could not be asked.

        Cancellation: the connection is cut.
        """
        answer = await self._transport.request("GET", self._url, deadline=deadline, caps=self._caps)
        if answer.status != 200:
            raise BadStatus(answer.status)
