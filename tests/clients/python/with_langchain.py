"""LangChain, with its base URL and key changed only: chat completions, the responses API, embeddings."""

import os
from typing import Any

import tiktoken
import tiktoken.registry
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_openai import ChatOpenAI, OpenAIEmbeddings

# LangChain embeds token numbers, and tiktoken would download the vocabulary. Bytes are a vocabulary too.
tiktoken.registry.ENCODINGS["cl100k_base"] = tiktoken.Encoding(
    "cl100k_base", pat_str=r".|\n", mergeable_ranks={bytes([byte]): byte for byte in range(256)}, special_tokens={}
)
OPTIONS: dict[str, Any] = {"base_url": os.environ["BASE_URL"], "api_key": os.environ["KEY"]}


def get_weather(city: str) -> str:
    """The weather of a city."""
    return f"22 °C in {city}"


def converse(model: ChatOpenAI) -> None:
    """A tool call and its round trip, then a stream of the same."""
    bound = model.bind_tools([get_weather])
    messages: list[Any] = [HumanMessage("What is the weather in Paris?")]
    asked = bound.invoke(messages)
    [call] = asked.tool_calls
    assert (call["name"], call["args"]) == ("get_weather", {"city": "Paris"})
    messages += [asked, ToolMessage(get_weather(**call["args"]), tool_call_id=call["id"])]
    answer = bound.invoke(messages)
    assert "You asked" in answer.text
    assert answer.usage_metadata["total_tokens"] > 0

    chunks = list(bound.stream(messages))
    assert len(chunks) > 3
    whole = sum(chunks[1:], chunks[0])
    assert whole.text == answer.text
    asked_for_usage = model.stream_usage or model.use_responses_api
    assert bool(whole.usage_metadata) == bool(asked_for_usage)


converse(ChatOpenAI(model="gpt-4o-mini", **OPTIONS))  # for a base URL of one's own it does not ask for usage
converse(ChatOpenAI(model="gpt-4o-mini", stream_usage=True, **OPTIONS))
converse(ChatOpenAI(model="gpt-5-mini", use_responses_api=True, **OPTIONS))

embeddings = OpenAIEmbeddings(model="text-embedding-3-small", **OPTIONS)
assert [len(vector) for vector in embeddings.embed_documents(["one", "two"])] == [1536, 1536]
