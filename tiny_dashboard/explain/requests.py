"""A language model behind an OpenAI-compatible server or the Hub's Inference Providers: many requests, with a limit."""

from __future__ import annotations

import asyncio
import json
import os
import random
from email.utils import parsedate_to_datetime
from time import time
from typing import Any, Self
from urllib.parse import urlsplit

from tiny_dashboard.core.text import first_line
from tiny_dashboard.hub import is_passing

Messages = list[dict[str, str]]
PAUSE, LONGEST_PAUSE = 1.0, 60.0  # seconds before a request is tried again; doubled each time
_OF_THE_HUB = (".huggingface.co", ".huggingface.cloud")


class LanguageModel:
    """Answers prompts; an async context manager.

    Args:
        name: the model, as its server calls it.
        base_url: of an OpenAI-compatible server (vLLM, TGI, Ollama, llama.cpp, `transformers serve`); None asks the
            Hub's Inference Providers. The key is OPENAI_API_KEY of the environment; the Hub's token goes to the Hub.
        at_once: requests under way at the same time.
        tries: so often a request is sent, where the server is busy, fails, or cannot be reached.
        max_tokens: of an answer.
        timeout: seconds for one answer.

    Attributes:
        sent: number of requests, those that were repeated included.
    """

    def __init__(
        self,
        name: str,
        base_url: str | None = None,
        *,
        at_once: int = 8,
        tries: int = 6,
        max_tokens: int = 256,
        timeout: float = 120,
    ) -> None:
        self.name, self.base_url, self.at_once, self.sent = name, base_url, at_once, 0
        self._tries, self._max_tokens, self._timeout = tries, max_tokens, timeout
        self._limit = asyncio.Semaphore(at_once)

    async def __aenter__(self) -> Self:
        from huggingface_hub import AsyncInferenceClient

        host = urlsplit(self.base_url or "").hostname or ""
        elsewhere = self.base_url is not None and not f".{host}".endswith(_OF_THE_HUB)
        key = (os.environ.get("OPENAI_API_KEY") or "none") if elsewhere else None
        where: Any = {"base_url": self.base_url} if self.base_url else {"model": self.name}
        self._client = AsyncInferenceClient(**where, api_key=key, timeout=self._timeout)
        await self._client.__aenter__()
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self._client.__aexit__(*error)

    async def ask(self, messages: Messages) -> str:
        """The model's answer; "" where it says nothing.

        Raises:
            PermissionError, ValueError: the server refuses the request; asking again would not help.
            ConnectionError: it was busy, failed or could not be reached, each time that it was asked.
        """
        for attempt in range(1, self._tries + 1):
            try:
                async with self._limit:
                    self.sent += 1
                    answer: Any = await self._client.chat_completion(
                        messages, model=self.name, max_tokens=self._max_tokens, temperature=0
                    )
                return str(answer.choices[0].message.content or "")
            except (AttributeError, IndexError, TypeError, KeyError):
                return ""  # the server answered, and there is no message in it
            except Exception as error:
                if not _is_foreign(error):
                    raise
                if not is_passing(error):
                    raise _refused(error, self.name) from error
                if attempt == self._tries:
                    raise ConnectionError(
                        f"{self.base_url or 'the Hub'} did not answer for {self.name}, asked {self._tries} times: "
                        f"{first_line(error)}; what is there is kept, and the same command goes on"
                    ) from error
                await asyncio.sleep(_pause(error, attempt))
        raise AssertionError("it is asked at least once")


def _is_foreign(error: Exception) -> bool:
    from huggingface_hub.errors import HTTPError, InferenceTimeoutError

    return isinstance(error, (HTTPError, InferenceTimeoutError, OSError, json.JSONDecodeError))


def _refused(error: Exception, name: str) -> Exception:
    status = getattr(getattr(error, "response", None), "status_code", None)
    said = f"the server refuses {name} (status {status}): {first_line(error)}"
    if status in (401, 403):
        return PermissionError(f"{said}; set OPENAI_API_KEY, or log in to the Hub with `hf auth login`")
    return ValueError(said)


def _pause(error: Exception, attempt: int) -> float:
    """Seconds to wait: what the server asks for, else longer each time, and not all at the same moment."""
    headers = getattr(getattr(error, "response", None), "headers", {})
    asked = headers.get("retry-after", "")
    try:
        return min(max(float(asked), 0), 10 * LONGEST_PAUSE)
    except ValueError:
        pass
    try:
        return min(max(parsedate_to_datetime(asked).timestamp() - time(), 0), 10 * LONGEST_PAUSE)
    except (ValueError, TypeError):
        return min(PAUSE * 2 ** (attempt - 1), LONGEST_PAUSE) * random.uniform(0.5, 1)
