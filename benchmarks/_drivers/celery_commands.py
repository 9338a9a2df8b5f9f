"""celery_commands.py TOKENS WORKERS: seconds that Celery on Redis takes for `bash -c true`.

Redis runs on a free port of loopback, without writing to disk. The queue is filled while the
worker is up but doesn't listen to it; the clock starts when it is told to, and stops when
the last result is in the result backend.
"""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import redis

START_LIMIT_S = 60
ROUND_LIMIT_S = 600
POLL_S = 0.01


@contextlib.contextmanager
def running(argv, log):
    """A server for the length of a `with` block, stopped with TERM."""
    with open(log, "wb") as sink:
        process = subprocess.Popen(argv, stdout=sink, stderr=sink)
        try:
            yield process
        finally:
            process.terminate()
            process.wait(START_LIMIT_S)


def until(condition, limit_s, what):
    """Wait until `condition()` holds; exit with a message after `limit_s` seconds."""
    end = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > end:
            sys.exit(f"gave up waiting for {what}")
        time.sleep(POLL_S)


def free_port():
    """A port of loopback that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def answers(client):
    """Whether Redis is up."""
    with contextlib.suppress(Exception):
        return client.ping()
    return False


def main(tokens, workers):
    """One round; returns its seconds."""
    port = os.environ["BROKER_PORT"] = str(free_port())
    from celery_app import app, run_command  # noqa: PLC0415 - it reads BROKER_PORT

    server = ["redis-server", "--port", port, "--bind", "127.0.0.1", "--save", ""]
    worker = [sys.executable, "-m", "celery", "-A", "celery_app", "worker", "-Q", "idle"]
    worker += ["-c", str(workers), "-P", "prefork", "-l", "WARNING"]
    worker += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    os.environ["PYTHONPATH"] = str(Path(__file__).parent)
    results = redis.Redis(port=int(port), db=1)
    with running(server, "redis.log"), contextlib.ExitStack() as stack:
        until(lambda: answers(results), START_LIMIT_S, "Redis")
        stack.enter_context(running(worker, "celery.log"))
        until(lambda: app.control.ping(timeout=0.5), START_LIMIT_S, "the Celery worker")
        for _ in range(tokens):
            run_command.apply_async(("true",), queue="work")
        start = time.perf_counter()
        app.control.add_consumer("work")
        until(lambda: results.dbsize() >= tokens, ROUND_LIMIT_S, "the last result")
        return time.perf_counter() - start


if __name__ == "__main__":
    print(json.dumps({"seconds": main(int(sys.argv[1]), int(sys.argv[2]))}))
