import json
import sys
import time

from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

began = time.monotonic()
try:
    with connect("ws://127.0.0.1:8000/ws", additional_headers={"Authorization": f"Bearer {sys.argv[1]}"}) as ws:
        print(ws.recv())
except InvalidStatus as refused:
    problem = json.loads(refused.response.body)
    print(refused.response.status_code, problem["code"], f"after {time.monotonic() - began:.0f} s")
