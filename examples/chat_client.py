"""Ask one question and print the answer as it comes: `python chat_client.py http://127.0.0.1:8000 "How is the auth service?"`."""

import asyncio
import getpass
import os
import sys
import time
from pathlib import Path

from doorward.client import Client, FileStore, Session, State, in_words


def tell(state: State) -> None:
    if words := in_words(state, wall_now=time.time()):
        print(words, file=sys.stderr)


def credentials() -> dict[str, str]:
    email = os.environ.get("CHAT_EMAIL") or input("E-mail: ")
    return {"email": email, "password": os.environ.get("CHAT_PASSWORD") or getpass.getpass()}


async def main(url: str, question: str) -> None:
    async with Session(url, store=FileStore(Path("chat-session.json"))) as session:
        if not await session.signed_in():
            await session.sign_in(**credentials())
        async with Client(url, session, on_state=tell) as client:
            thread = await client.threads.create()
            async for envelope in client.ask(thread.thread_id, question):
                match envelope.event:
                    case {"type": "TOOL_CALL_START", "toolCallName": name}:
                        print(f"(uses {name})", file=sys.stderr)
                    case {"type": "TEXT_MESSAGE_CONTENT", "delta": words}:
                        print(words, end="", flush=True)
                    case {"type": "RUN_ERROR", "message": why}:
                        sys.exit(why)
    print()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2]))
