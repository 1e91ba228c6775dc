"""Makes the asynchronous SDK synchronous, so that the same test can run with both, and compare the same results."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import openai
from pydantic import BaseModel


class Blocking:
    """Wrapper of the asynchronous SDK that makes it synchronous: each call waits for the result, and returns it.

    A result that is not plain data is wrapped in the same way.
    """

    def __init__(self, target: Any, runner: asyncio.Runner) -> None:
        self._target = target
        self._runner = runner

    def __getattr__(self, name: str) -> Any:
        return self._wrap(getattr(self._target, name))

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return self._wrap(self._target(*arguments, **options))

    def __iter__(self) -> Iterator[Any]:
        items = aiter(self._target)
        while True:
            try:
                yield self._runner.run(anext(items))
            except StopAsyncIteration:
                return

    def __enter__(self) -> Any:
        return self._wrap(self._runner.run(self._target.__aenter__()))

    def __exit__(self, *error: Any) -> None:
        self._runner.run(self._target.__aexit__(*error))

    def _wrap(self, value: Any) -> Any:
        if inspect.iscoroutine(value):
            value = self._runner.run(value)
        ours = type(value).__module__.split(".")[0] == "openai" and not isinstance(value, BaseModel)
        return Blocking(value, self._runner) if ours or callable(value) or hasattr(value, "__aiter__") else value


@contextmanager
def open_sdk(kind: str, base_url: str, api_key: str, **options: Any) -> Iterator[Any]:
    """Context manager that yields a client of the official SDK, for synchronous use.

    `kind` is `sync` or `async`, for one of the SDK's two clients; the asynchronous one is wrapped in `Blocking`.
    """
    if kind == "sync":
        with openai.OpenAI(base_url=base_url, api_key=api_key, **options) as client:
            yield client
    else:
        with (
            asyncio.Runner() as runner,
            Blocking(openai.AsyncOpenAI(base_url=base_url, api_key=api_key, **options), runner) as client,
        ):
            yield client
