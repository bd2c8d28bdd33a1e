"""Load: many people at once on one app, on loopback; each checks that the answers are its own.

`python -m benchmarks.load [dashboard.toml] --users 50 --seconds 60` starts the app in a process of its own, asks it as
one person for a while, then as one crowd after another, with `gradio_client` and by plain HTTP, and prints latencies,
errors and what the server holds in memory. That grows until the app keeps as many sessions as it ever will, and must
not after; so there are crowds enough to come to that. Bounded: 200 users, 10 minutes and 50 crowds of them, one
question in half a second from each.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections import defaultdict
from itertools import chain
from pathlib import Path
from typing import Any

SERVER = """
import sys
from tiny_dashboard import launch
launch(sys.argv[1] or None, server_name="127.0.0.1", server_port=int(sys.argv[2]), quiet=True)
"""
WORDS = ["the", "model", "reads", "a", "file", "def", "return", "why", "is", "sky", "blue", "path", "and", "writes"]
MAX_USERS, MAX_SECONDS, MAX_ROUNDS, THINK = 200, 600, 50, (0.5, 3.0)
KEPT = 200  # sessions: `state_session_capacity` of the app
LIMIT = 5  # percent that memory may grow once they are all there


class User(threading.Thread):
    """Asks one question after another until `end`; texts and features are its own.

    Args:
        tables: the right answer to each query that it may ask, of which it has its own.
    """

    def __init__(self, number: int, url: str, tables: dict[str, Any], end: float) -> None:
        super().__init__(daemon=True)
        self.number, self.url, self.tables, self.end = number, url, tables, end
        self.features = [row["feature"] for row in tables[""]["features"]]
        self.random = random.Random(number)
        self.seconds: dict[str, list[float]] = defaultdict(list)
        self.errors: list[str] = []

    def run(self) -> None:
        from gradio_client import Client

        try:
            client = Client(self.url, verbose=False)
        except Exception as error:
            self.errors.append(f"connect: {error!r}")
            return
        questions = [
            ("examples", lambda: self.examples(client)),
            ("features", lambda: self.table(client)),
            ("analyze", lambda: self.analyze(client)),
            ("page", self.page),
            ("examples by HTTP", self.examples_by_http),
        ]
        while time.monotonic() < self.end:
            name, ask = self.random.choice(questions)
            start = time.monotonic()
            try:
                ask()
                self.seconds[name].append(time.monotonic() - start)
            except Exception as error:
                self.errors.append(f"{name}: {error!r}"[:300])
            time.sleep(self.random.uniform(*THINK))

    def examples(self, client) -> None:
        feature = self.random.choice(self.features)
        answer = client.predict(feature=feature, max_examples=10, scale="feature", api_name="/examples")
        check(answer["feature"] == feature, "another feature's examples")

    def table(self, client) -> None:
        query = str(self.number % 10)
        check(ask_table(client, query) == self.tables[query], "another query's features")

    def analyze(self, client) -> None:
        text = f"user {self.number} says " + " ".join(self.random.choices(WORDS, k=30))
        feature = self.random.choice(self.features)
        answer = client.predict(text=text, highlight_features=str(feature), api_name="/analyze")
        check(text in "".join(answer["tokens"]) and answer["features"] == [feature], "another text's analysis")

    def page(self) -> None:
        with urllib.request.urlopen(f"{self.url}/?feature={self.number}", timeout=60) as answer:
            check(answer.status == 200 and b"<html" in answer.read(), "no page")

    def examples_by_http(self) -> None:
        feature = self.random.choice(self.features)
        body = json.dumps({"data": [feature, 5, "feature", ""]}).encode()  # all arguments, the view last
        call = f"{self.url}/gradio_api/call/examples"
        asked = urllib.request.Request(call, body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(asked, timeout=60) as answer:
            event = json.load(answer)["event_id"]
        with urllib.request.urlopen(f"{call}/{event}", timeout=60) as answer:
            lines = answer.read().decode().splitlines()
        check(lines[0] == "event: complete", lines[0])
        check(json.loads(lines[1].removeprefix("data: "))[0]["feature"] == feature, "another feature's examples")


def ask_table(client: Any, query: str) -> Any:
    return client.predict(query=query, sort="feature", page=1, api_name="/features")


def check(right: bool, otherwise: str) -> None:
    if not right:
        raise AssertionError(otherwise)


def crowd(n: int, url: str, tables: dict[str, Any], seconds: float, pid: int) -> tuple[dict[str, Any], list[float]]:
    """So many users for so long; what they met, with the server's memory at the end, and the seconds of each answer."""
    users = [User(i, url, tables, time.monotonic() + seconds) for i in range(n)]
    for user in users:
        user.start()
        time.sleep(min(0.1, seconds / 4 / n))
    end = time.monotonic() + MAX_SECONDS
    for user in users:
        user.join(max(0, end - time.monotonic()))
    found: dict[str, list[float]] = defaultdict(list)
    for user in users:
        for name, values in user.seconds.items():
            found[name] += values
    latency = {name: [f"{quantile(v, q) * 1000:.0f}" for q in (0.5, 0.95, 0.99)] for name, v in sorted(found.items())}
    return {
        "users": n,
        "errors": [error for user in users for error in user.errors],
        "p50, p95, p99 ms": latency,
        "memory MB": round(resident(pid)),
    }, list(chain(*found.values()))


def quantile(values: list[float], q: float) -> float:
    return sorted(values)[min(int(q * len(values)), len(values) - 1)]


def resident(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmRSS"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", nargs="?", default="")
    parser.add_argument("--users", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--rounds", type=int, help="crowds; the default is 3 more than fill the kept sessions")
    options = parser.parse_args()
    if not (0 < options.users <= MAX_USERS and 0 < options.seconds <= MAX_SECONDS):
        parser.error(f"at most {MAX_USERS} users for {MAX_SECONDS} seconds")
    full = KEPT // options.users  # the first crowd, counted from 0, after which no more sessions are kept
    rounds = full + 4 if options.rounds is None else options.rounds
    if not 0 < rounds <= MAX_ROUNDS:
        parser.error(f"{rounds} crowds; at most {MAX_ROUNDS}")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    start = time.monotonic()
    command = [sys.executable, "-c", SERVER, options.config, str(port)]
    server = subprocess.Popen(command, env=os.environ | {"GRADIO_ANALYTICS_ENABLED": "False"})
    try:
        for address in (url, f"{url}/config"):
            while True:
                try:
                    urllib.request.urlopen(address, timeout=60).close()
                    break
                except OSError:
                    check(server.poll() is None and time.monotonic() - start < 300, "the server did not start")
                    time.sleep(0.1)
        print(f"served after {time.monotonic() - start:.1f} s")
        from gradio_client import Client

        client = Client(url, verbose=False)
        tables = {query: ask_table(client, query) for query in ("", *map(str, range(10)))}
        client.predict(text="warm up", highlight_features="0", api_name="/analyze")
        print(f"models there after {time.monotonic() - start:.1f} s")
        results, seconds = [], []
        for n in (1, *[options.users] * rounds):
            result, answers = crowd(n, url, tables, options.seconds, server.pid)
            print(json.dumps(result), flush=True)
            results.append(result)
            seconds.append(answers)
    finally:
        server.terminate()
        server.wait(30)
    sys.exit(not report(results, seconds, full))


def report(results: list[dict[str, Any]], seconds: list[list[float]], full: int) -> bool:
    """Print what one user, and the crowds after, come to; whether all limits hold."""
    errors = [error for result in results for error in result["errors"]]
    crowds = results[1:]
    memory = [result["memory MB"] for result in crowds]
    rows: list[tuple[str, float, float | None]] = [
        ("errors", len(errors), 0),
        ("mixed-up answers", sum("another" in error for error in errors), 0),
    ]
    together = list(chain(*seconds[1:]))
    for q in (0.5, 0.95) if seconds[0] and together else ():
        one, many = quantile(seconds[0], q), quantile(together, q)
        rows.append((f"p{100 * q:.0f} ms of {len(seconds[0])} answers to one user", 1000 * one, None))
        rows.append((f"p{100 * q:.0f} of {len(together)} answers to a crowd, over that", many / one, None))
    if full < len(crowds) - 1:
        after = memory[full]
        rows.append((f"MB with all {KEPT} sessions kept", after, None))
        rows.append((f"MB after {len(crowds) - 1 - full} more crowds", memory[-1], None))
        rows.append(("growth in percent", 100 * (memory[-1] / after - 1), LIMIT))
    else:
        print(f"too few crowds to keep {KEPT} sessions and go on: nothing is said of memory")
    for what, value, limit in rows:
        verdict = "" if limit is None else f"   limit {limit:g}: {'holds' if value <= limit else 'BROKEN'}"
        print(f"  {what:50} {value:10.1f}{verdict}")
    return all(limit is None or value <= limit for _, value, limit in rows)


if __name__ == "__main__":
    main()
