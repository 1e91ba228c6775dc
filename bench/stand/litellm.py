"""Owns LiteLLM, a gateway to compare with: its proxy from PyPI in `.venv-peers`.

It runs with one worker and a master key, and without a database.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2

from bench.stand.processes import SERVER_CORE, family, pinned
from bench.stand.requests import EMBEDDING_MODEL, MODEL
from bench.stand.stand import Server, wait_for
from tests.support.servers.gateway import free_port

BIN = Path(".venv-peers/bin")
KEY = "sk-bench-master-key"
ENVIRONMENT = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # else LiteLLM fetches the prices of models from the internet
    "LITELLM_MODE": "PRODUCTION",
    "LITELLM_LOG": "ERROR",
}


@contextmanager
def litellm(upstream: str) -> Iterator[Server]:
    """Runs LiteLLM's proxy in front of `upstream` until the block ends, and yields its URL, key and processes.

    It is configured as its documentation recommends for production: little logging, no telemetry. It keeps no log of
    calls, because for that it would need a database.
    """
    port = free_port()
    models = [
        {
            "model_name": name,
            "litellm_params": {"model": f"openai/{name}", "api_base": f"{upstream}/v1", "api_key": "sk"},
        }
        for name in (MODEL, EMBEDDING_MODEL)
    ]
    settings = {"set_verbose": False, "json_logs": True, "telemetry": False}
    configuration = {"model_list": models, "general_settings": {"master_key": KEY}, "litellm_settings": settings}
    with tempfile.TemporaryDirectory(prefix="chatproxy-bench-") as directory:
        file = Path(directory) / "config.yaml"
        file.write_text(json.dumps(configuration))  # JSON is valid YAML
        command = [str(BIN / "litellm"), "--config", str(file), "--host", "127.0.0.1", "--port", str(port)]
        with pinned(SERVER_CORE), (Path(directory) / "log").open("w") as log:
            process = subprocess.Popen(
                [*command, "--num_workers", "1"],
                env={**os.environ, **ENVIRONMENT, "PATH": f"{BIN.absolute()}:{os.environ['PATH']}"},
                stdout=log,
                stderr=log,
            )
        url = f"http://127.0.0.1:{port}"
        try:
            wait_for(lambda: httpx2.get(f"{url}/health/liveliness").status_code == 200, "LiteLLM does not start")
            yield Server("LiteLLM", url, KEY, family(process.pid))
        finally:
            process.terminate()
            process.wait(30)


def versions() -> dict[str, str]:
    """Returns the installed versions of LiteLLM and of the OpenAI SDK that it uses."""
    command = [
        str(BIN / "python"),
        "-c",
        "import importlib.metadata as m; print(m.version('litellm'), m.version('openai'))",
    ]
    own, openai = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    return {"LiteLLM": own, "openai": openai}
