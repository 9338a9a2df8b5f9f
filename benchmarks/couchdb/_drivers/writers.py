"""writers.py URL CLIENTS SECONDS: so many clients, each writing a document of its own again and again.

Says ``ready``, waits for the end of its input, and prints a JSON object: how many writes there were.
"""

import asyncio
import json
import secrets
import sys
import time

from wire import Connection


async def write(connection: Connection, until: float) -> int:
    """One client."""
    doc = {"_id": f"busy_{secrets.token_hex(8)}", "type": "busy", "text": "x" * 300}
    count = 0
    while time.monotonic() < until:
        answer = await connection.ask("PUT", doc["_id"], doc)
        doc["_rev"] = answer["rev"]
        count += 1
        if count % 100 == 0:  # a long history makes writing slow
            doc = {**doc, "_id": f"busy_{secrets.token_hex(8)}"}
            del doc["_rev"]
    return count


async def main() -> None:
    """All of them."""
    url, clients, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    connections = [await Connection(url).open() for _ in range(clients)]
    print("ready", flush=True)
    sys.stdin.read()
    until = time.monotonic() + seconds
    counts = await asyncio.gather(*(write(each, until) for each in connections))
    for each in connections:
        each.close()
    print(json.dumps({"writes": sum(counts), "seconds": seconds}))


asyncio.run(main())
