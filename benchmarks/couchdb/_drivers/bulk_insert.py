"""bulk_insert.py URL LINES: put a token for each line of a file into a database by bare ``_bulk_docs``.

The documents are those that ``picas push`` makes of these lines; nothing is checked or numbered.
"""

import base64
import hashlib
import http.client
import itertools
import json
import sys
from urllib.parse import unquote, urlsplit

BATCH = 1000

parts = urlsplit(sys.argv[1])
login = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
headers = {
    "Authorization": "Basic " + base64.b64encode(login.encode()).decode(),
    "Content-Type": "application/json",
}
connection = http.client.HTTPConnection(parts.hostname, parts.port)
with open(sys.argv[2], encoding="utf-8") as lines:
    numbered = enumerate(lines)
    while batch := list(itertools.islice(numbered, BATCH)):
        docs = [
            {
                "_id": f"token_{number}",
                "type": "token",
                "lock": 0,
                "done": 0,
                "hostname": "",
                "scrub_count": 0,
                "exit_code": "",
                "input": line.rstrip("\n"),
                "picas": {"push": hashlib.sha256(line.encode()).hexdigest()[:24] + "-0"},
            }
            for number, line in batch
        ]
        body = json.dumps({"docs": docs}, separators=(",", ":")).encode()
        connection.request("POST", f"{parts.path}/_bulk_docs", body, headers)
        answer = connection.getresponse()
        rows = json.loads(answer.read())
        if answer.status != 201 or not all(row.get("ok") for row in rows):
            sys.exit(f"{answer.status}: {rows[:3]}")
