"""Runs LiteLLM's proxy: with one worker, a master key, and no database."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.stand.peers.peer_process import peer
from bench.stand.requests import EMBEDDING_MODEL, MODEL
from bench.stand.stand import Server
from tests.support.servers.gateway import free_port

KEY = "sk-bench-master-key"
ENVIRONMENT = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # else LiteLLM fetches the prices of models from the internet
    "LITELLM_MODE": "PRODUCTION",
    "LITELLM_LOG": "ERROR",
}


@contextmanager
def litellm(upstream: str) -> Iterator[Server]:
    """Runs LiteLLM's proxy in front of `upstream` until the `with` block ends; yields its URL, key and processes.

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
        command = ["litellm", "--config", str(file), "--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"]
        server = Server("LiteLLM", f"http://127.0.0.1:{port}", KEY)
        with peer(server, "/health/liveliness", command, ENVIRONMENT) as running:
            yield running
