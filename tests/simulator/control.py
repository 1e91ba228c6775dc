"""`/_simulator/...`: the simulator's own pages, for tests and people in other processes.

GET    /_simulator/requests   what was received, oldest first
DELETE /_simulator/requests   forget it, with queued faults and everything stored
GET    /_simulator/state      in flight, waiting at the gate, faults queued
POST   /_simulator/faults     {"fault": "status-500"}: for the next request
POST   /_simulator/hold       every answer waits before its head from now on
POST   /_simulator/release    let go whoever waits
"""

from typing import TYPE_CHECKING, Any

from tests.simulator.content.answers import Answer, json_answer
from tests.simulator.wire.faults import parse_fault
from tests.simulator.wire.recording import ReceivedRequest

if TYPE_CHECKING:
    from tests.simulator.app import SimulatorApp


def control_answer(app: "SimulatorApp", request: ReceivedRequest) -> Answer:
    match request.method, request.path.removeprefix("/_simulator/"):
        case "GET", "requests":
            return json_answer([one.as_json() for one in app.recorder.requests])
        case "DELETE", "requests":
            app.reset()
        case "GET", "state":
            pass
        case "POST", "faults":
            try:
                app.queue.append(parse_fault(request.json["fault"]))
            except (ValueError, KeyError, TypeError) as error:
                return json_answer({"error": str(error)}, 400)
        case "POST", "hold":
            app.gate.hold()
        case "POST", "release":
            app.gate.release()
        case _:
            return json_answer({"error": "not found"}, 404)
    return json_answer(_state(app))


def _state(app: "SimulatorApp") -> dict[str, Any]:
    return {
        "requests": len(app.recorder.requests),
        "in_flight": app.recorder.in_flight,
        "waiting": app.gate.waiting,
        "held": app.gate.held,
        "queued_faults": len(app.queue),
    }
