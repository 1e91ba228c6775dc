"""The tabs shown with a new key, one per client: how to set the client up, and a first call, ready to be copied.

All values are quoted for the language of their snippet. A client has no tab if the key may not use its endpoint.
"""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass

from proxyapi.pages.handover.first_call import CHAT, EMBEDDINGS, HELLO, RESPONSES, FirstCall
from usage.page_data import reproduction

BASE_URL_VARIABLE, KEY_VARIABLE = "OPENAI_BASE_URL", "OPENAI_API_KEY"
# Codex takes the names of its own providers for itself, and the variable of OpenAI's key for OpenAI's.
CODEX_PROVIDER, CODEX_KEY_VARIABLE = "chatproxy", reproduction.KEY_VARIABLE


@dataclass(frozen=True)
class Snippet:
    """A text to copy, in a language (`sh`, `python`, `javascript`, `toml`); `hint` says what to do with it."""

    hint: str
    language: str
    text: str


@dataclass(frozen=True)
class Tab:
    """A tab of the page with a new key: the name of a client, and the texts to copy for it."""

    label: str
    snippets: tuple[Snippet, ...]


@dataclass(frozen=True)
class Access:
    """The data for the tabs of a new key: the gateway's own address, the key's secret, and a first call."""

    address: str
    secret: str
    first_call: FirstCall

    @property
    def base_url(self) -> str:
        """The base URL to set in OpenAI's clients."""
        return f"{self.address}/v1"


def tabs(access: Access) -> list[Tab]:
    """Returns the tabs of the page that shows a new key, each with texts to copy.

    The texts are an example call for curl, Python, Node and LangChain, and settings for Codex and for the environment.
    Tabs that do not fit the key's first call are left out; curl is always there.
    """
    found = [Tab("curl", (curl(access),))]
    if access.first_call.endpoint.method:
        found += [
            Tab("Python", (_python(access),)),
            Tab("Node", (_node(access),)),
            Tab("Environment", (environment(access),)),
        ]
    if access.first_call.may_use_responses:
        found.append(Tab("Codex", _codex(access)))
    if access.first_call.endpoint.method:
        found.append(Tab("LangChain", (_langchain(access),)))
    return found


def curl(access: Access) -> Snippet:
    """Returns the key's first call as a curl command, to be copied into a shell."""
    lines = (
        f"curl {shlex.quote(access.address + access.first_call.endpoint.route)}",
        f'-H "Authorization: Bearer {access.secret}"',
        '-H "Content-Type: application/json"',
        f"-d {shlex.quote(json.dumps(access.first_call.body))}",
    )
    return Snippet("In a shell:", "sh", " \\\n  ".join(lines))


def environment(access: Access) -> Snippet:
    """Returns shell commands that set the environment variables which OpenAI's libraries read: base URL and key."""
    values = {BASE_URL_VARIABLE: access.base_url, KEY_VARIABLE: access.secret}
    text = "\n".join(f"export {name}={shlex.quote(value)}" for name, value in values.items())
    return Snippet("OpenAI's libraries, and most programs that use them, read these variables:", "sh", text)


def _python(access: Access) -> Snippet:
    endpoint, members = access.first_call.endpoint, access.first_call.body.items()
    arguments = "".join(f"    {name}={json.dumps(value)},\n" for name, value in members)
    text = (
        "from openai import OpenAI\n\n"
        f"client = OpenAI(\n    base_url={json.dumps(access.base_url)},\n    api_key={json.dumps(access.secret)},\n)\n"
        f"answer = client.{endpoint.method}(\n{arguments})\n"
        f"print(answer.{endpoint.result})"
    )
    return Snippet("After pip install openai:", "python", text)


def _node(access: Access) -> Snippet:
    endpoint, members = access.first_call.endpoint, access.first_call.body.items()
    options = "".join(f"  {name}: {json.dumps(value)},\n" for name, value in members)
    text = (
        'import OpenAI from "openai";\n\n'
        f"const client = new OpenAI({{\n  baseURL: {json.dumps(access.base_url)},\n"
        f"  apiKey: {json.dumps(access.secret)},\n}});\n"
        f"const answer = await client.{endpoint.method}({{\n{options}}});\n"
        f"console.log(answer.{endpoint.result});"
    )
    return Snippet("After npm install openai, in a file first-call.mjs:", "javascript", text)


def _codex(access: Access) -> tuple[Snippet, ...]:
    # https://developers.openai.com/codex/config-reference (read 2026-11-29); other values of wire_api are gone.
    config = (
        f"model = {json.dumps(access.first_call.model)}\n"
        f'model_provider = "{CODEX_PROVIDER}"\n\n'
        f"[model_providers.{CODEX_PROVIDER}]\n"
        f'name = "{CODEX_PROVIDER}"\n'
        f"base_url = {json.dumps(access.base_url)}\n"
        f'env_key = "{CODEX_KEY_VARIABLE}"\n'
        'wire_api = "responses"'
    )
    key = f"export {CODEX_KEY_VARIABLE}={shlex.quote(access.secret)}"
    return Snippet("In ~/.codex/config.toml:", "toml", config), Snippet("In the shell that starts codex:", "sh", key)


def _langchain(access: Access) -> Snippet:
    kind, more, use = {
        CHAT: ("ChatOpenAI", "", f"model.invoke({json.dumps(HELLO)}).content"),
        RESPONSES: ("ChatOpenAI", "    use_responses_api=True,\n", f"model.invoke({json.dumps(HELLO)}).content"),
        # Otherwise it fetches a tokenizer from another host, and sends numbers in the place of text.
        EMBEDDINGS: (
            "OpenAIEmbeddings",
            "    check_embedding_ctx_length=False,\n",
            f"model.embed_query({json.dumps(HELLO)})",
        ),
    }[access.first_call.endpoint]
    text = (
        f"from langchain_openai import {kind}\n\n"
        f"model = {kind}(\n    base_url={json.dumps(access.base_url)},\n    api_key={json.dumps(access.secret)},\n"
        f"    model={json.dumps(access.first_call.model)},\n{more})\n"
        f"print({use})"
    )
    return Snippet("After pip install langchain-openai:", "python", text)
