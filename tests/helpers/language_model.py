"""A stand-in for a language model's server on loopback, by OpenAI's API: it counts, delays, fails and answers."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class StandIn:
    """The server; a context manager.

    Attributes:
        answer: `(messages) -> text`, or a text.
        delay: seconds before an answer.
        fail: `[(status, headers)]`, each answered once, first of all.
        prompts: the messages of each request that was answered.
        now, most: requests that are under way, and were at the same time at most.
        keys: what came as Authorization.
    """

    def __init__(self, answer="days of the week"):
        self.answer, self.delay, self.fail = answer, 0.0, []
        self.prompts, self.keys, self.times, self.most, self.now = [], set(), [], 0, 0
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error):
        self._server.shutdown()
        self._server.server_close()

    @property
    def asked_for_labels(self):
        return [p for p in self.prompts if "You name features" in p[0]["content"]]

    def respond(self, messages):
        """(status, headers, body)"""
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)
            self.times.append(time.monotonic())
            failure = self.fail.pop(0) if self.fail else None
        time.sleep(self.delay)
        try:
            if failure:
                return failure[0], failure[1], {"error": "not now"}
            with self._lock:
                self.prompts.append(messages)
            text = self.answer(messages) if callable(self.answer) else self.answer
            choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
            return 200, {}, {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
        finally:
            with self._lock:
                self.now -= 1


def _handler(server):
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            server.keys.add(self.headers.get("Authorization"))
            status, headers, body = server.respond(asked["messages"])
            content = json.dumps(body).encode()
            self.send_response(status)
            for name, value in {"Content-Type": "application/json", "Content-Length": len(content), **headers}.items():
                self.send_header(name, str(value))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args):
            pass

    return Handler
