"""A client of the Hub in a process of its own, told what to do line by line."""

import json
import os
import subprocess
import sys

# Before the client is imported: what would wait for the Hub between two attempts goes on at once.
IMPATIENT = """
import time
_sleep = time.sleep
time.sleep = lambda seconds: _sleep(min(seconds, 0.01))
"""

# What a client process does, one line of code at a time: the value comes back as JSON, or the error.
CLIENT = """
import json, sys
from tiny_dashboard.sources import open_examples
known = {"open_examples": open_examples}
for line in sys.stdin:
    try:
        code = json.loads(line)
        try:
            answer = eval(code, known)
        except SyntaxError:
            answer = exec(code, known)
        print(json.dumps({"value": answer}), flush=True)
    except BaseException as error:
        print(json.dumps({"error": type(error).__name__, "message": str(error)}), flush=True)
"""


class Client:
    """A fresh process with its own cache, since the endpoint is read when huggingface_hub is imported."""

    def __init__(self, hub, home, **environment):
        settings = {"HF_ENDPOINT": hub.url, "HF_HOME": str(home), "HF_HUB_DISABLE_TELEMETRY": "1"}
        inherited = {
            k: v for k, v in os.environ.items() if not k.startswith("HF_") and not k.lower().endswith("_proxy")
        }
        self.process = subprocess.Popen(
            [sys.executable, "-c", IMPATIENT + CLIENT],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=(home / "stderr").open("a"),
            text=True,
            env=inherited | settings | environment,
        )
        self.home = home

    def __call__(self, code):
        self.process.stdin.write(json.dumps(code) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        if "error" in answer:
            raise Refused(answer["error"], answer["message"])
        return answer["value"]

    def close(self):
        self.process.stdin.close()
        self.process.wait(10)
        self.process.stdout.close()

    @property
    def stderr(self):
        return (self.home / "stderr").read_text()


def downloaded(cache, name, folder):
    """Puts a model's folder into a cache of the Hub's client, as if it had been downloaded; gives the environment."""
    kept = cache / f"models--{name.replace('/', '--')}"
    (kept / "refs").mkdir(parents=True)
    (kept / "refs" / "main").write_text("abc")
    (kept / "snapshots").mkdir()
    (kept / "snapshots" / "abc").symlink_to(folder)
    return {"HF_HUB_CACHE": str(cache), "HF_HUB_OFFLINE": "1"}


class Refused(Exception):
    def __str__(self):
        return f"{self.args[0]}: {self.args[1]}"
