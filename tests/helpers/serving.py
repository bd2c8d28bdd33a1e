"""A server in a process of its own, for the tests that start one as a person would."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import takewhile

from gradio_client import Client


def free_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


@contextmanager
def serving(
    command: list[str], port: str, *, end: signal.Signals = signal.SIGINT, **environment: str
) -> Iterator[Client]:
    """Runs the command until it serves, gives a client of it, and ends it as Ctrl-C does, which must be quiet."""
    merged = os.environ | {"PYTHONUNBUFFERED": "1"} | environment
    # Under nohup, and in the background of a script, Ctrl-C is ignored, and children inherit that.
    listen = partial(signal.signal, signal.SIGINT, signal.default_int_handler)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    server = subprocess.Popen(command, env=merged, preexec_fn=listen, **pipes)
    try:
        seen = list(takewhile(lambda line: "Running on" not in line, server.stdout))
        assert server.poll() is None, "".join(seen)
        yield Client(f"http://127.0.0.1:{port}", verbose=False)
    finally:
        server.send_signal(end)
        out, _ = server.communicate(timeout=60)
    assert server.returncode in (0, 130) and "Traceback" not in out
