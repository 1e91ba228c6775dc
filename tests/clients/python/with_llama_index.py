"""LlamaIndex, with its base URL and key changed only: an agent with a tool, by both of OpenAI's APIs."""

import asyncio
import os
from typing import Any

from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.llms import ChatMessage
from llama_index.llms.openai import OpenAI, OpenAIResponses

OPTIONS: dict[str, Any] = {"api_base": os.environ["BASE_URL"], "api_key": os.environ["KEY"]}
CITIES: list[str] = []


def get_weather(city: str) -> str:
    """The weather of a city."""
    CITIES.append(city)
    return f"22 °C in {city}"


async def converse(llm: OpenAI | OpenAIResponses) -> None:
    """A whole answer, then an agent: it streams, calls its tool and streams again."""
    answer = await llm.achat([ChatMessage("Grüß Gott ✓")])
    assert "Grüß Gott ✓" in str(answer)

    agent = FunctionAgent(tools=[get_weather], llm=llm)
    assert "You asked" in str(await agent.run("What is the weather in Paris?"))
    assert CITIES.pop() == "Paris"


asyncio.run(converse(OpenAI(model="gpt-4o-mini", **OPTIONS)))
asyncio.run(converse(OpenAIResponses(model="gpt-4o-mini", **OPTIONS)))
