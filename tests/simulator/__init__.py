"""A strict, lifelike simulated OpenAI: the upstream of `make demo` and of every test.

Runtime requirements only (uvicorn, orjson), so that a demo needs nothing from the test set.
Start it with `python -m tests.simulator` or, in a test, with `run_simulator()` from `server.py`.
The faults it can be asked for are in the table of `faults.py`.
"""

from tests.simulator.content.tokens import count_tokens, estimate_chat_prompt_tokens, estimate_input_tokens
from tests.simulator.server import Simulator, run_simulator
from tests.simulator.wire.multipart import UploadedFile
from tests.simulator.wire.recording import ReceivedRequest

__all__ = [
    "ReceivedRequest",
    "Simulator",
    "UploadedFile",
    "count_tokens",
    "estimate_chat_prompt_tokens",
    "estimate_input_tokens",
    "run_simulator",
]
