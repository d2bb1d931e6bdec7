"""The besieger, as a process of its own: `siege.py PORT SECONDS RATE BYTES`.

Opens RATE connections a second, spread over 200 loopback addresses, sends BYTES on each and then nothing. Holds them
until the server cuts them or the time is over; then says in one line of JSON how many it opened.
"""

from __future__ import annotations

import asyncio
import json
import sys

from doorward.cli.process import raise_file_limit

ADDRESSES = [f"127.0.1.{number}" for number in range(1, 201)]


class Silent(asyncio.Protocol):
    cut = 0

    def __init__(self, first: bytes) -> None:
        self.first = first

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if self.first and isinstance(transport, asyncio.Transport):
            transport.write(self.first)

    def connection_lost(self, exc: Exception | None) -> None:
        Silent.cut += 1


async def besiege(port: int, seconds: float, rate: float, first: bytes) -> dict[str, int]:
    loop = asyncio.get_running_loop()
    begun = loop.time()
    opening: set[asyncio.Task[bool]] = set()
    count = opened = 0

    async def open_one(address: str) -> bool:
        try:
            async with asyncio.timeout(5.0):
                await loop.create_connection(lambda: Silent(first), "127.0.0.1", port, local_addr=(address, 0))
        except OSError:
            return False
        return True

    while (elapsed := loop.time() - begun) < seconds:
        while count < elapsed * rate:
            opening.add(asyncio.create_task(open_one(ADDRESSES[count % len(ADDRESSES)])))
            count += 1
        await asyncio.sleep(0.005)
        opened += sum(task.result() for task in opening if task.done())
        opening = {task for task in opening if not task.done()}
    opened += sum(await asyncio.gather(*opening))
    return {"tried": count, "opened": opened, "cut": Silent.cut}


if __name__ == "__main__":
    raise_file_limit()
    result = asyncio.run(besiege(int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3]), sys.argv[4].encode()))
    sys.stdout.write(json.dumps(result) + "\n")
