"""The families of stored objects: files, vector stores, batches, uploads, fine-tuning, assistants, threads, voices.

Each is made, listed, retrieved and deleted in the same way; what differs is data. The names of parameters are those of
the SDK's types. References must exist; a batch is completed when it is looked at.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from tests.simulator.call import Call
from tests.simulator.content import errors
from tests.simulator.content import validation as rules
from tests.simulator.content.answers import Answer, Json, Stream, json_answer
from tests.simulator.endpoints.paging import page
from tests.simulator.wire.chance import chance
from tests.simulator.world import StoredObject, World, new_id


@dataclass(frozen=True)
class Kind:
    """A kind of object that the simulator stores, such as a file or a thread, with the rules for creating one.

    `references` are pairs of a parameter and a kind: an id in the parameter must be that of an object of that kind.
    """

    name: str
    prefix: str
    missing: str
    parameters: dict[str, rules.Rule] = field(default_factory=dict)
    required: tuple[str, ...] = ()
    references: tuple[tuple[str, str], ...] = ()
    defaults: Json = field(default_factory=dict)
    is_form: bool = False


_METADATA = {"metadata": rules.OBJECT}
_KINDS = [
    Kind(
        "file", "file-", "No such File object: {}",
        parameters={"purpose": rules.TEXT, "expires_after": rules.ANYTHING},
        required=("purpose",), defaults={"status": "processed", "filename": "a.txt"}, is_form=True,
    ),
    Kind(
        "vector_store", "vs_", "Vector store with id '{}' not found.",
        parameters={
            "name": rules.TEXT, "file_ids": rules.LIST, "expires_after": rules.OBJECT, "description": rules.TEXT,
            "chunking_strategy": rules.OBJECT, **_METADATA,
        },
        references=(("file_ids", "file"),), defaults={"status": "completed"},
    ),
    Kind(
        "batch", "batch_", "No batch found with id '{}'.",
        parameters={
            "input_file_id": rules.TEXT, "endpoint": rules.TEXT, "completion_window": rules.one_of("24h"),
            "output_expires_after": rules.OBJECT, **_METADATA,
        },
        required=("input_file_id", "endpoint", "completion_window"), references=(("input_file_id", "file"),),
        defaults={"status": "validating", "output_file_id": None, "error_file_id": None},
    ),
    Kind(
        "upload", "upload_", "No such Upload object: {}",
        parameters={
            "bytes": rules.integer(1), "filename": rules.TEXT, "mime_type": rules.TEXT, "purpose": rules.TEXT,
            "expires_after": rules.OBJECT,
        },
        required=("bytes", "filename", "mime_type", "purpose"), defaults={"status": "pending", "file": None},
    ),
    Kind("upload.part", "part_", "No such Part object: {}", is_form=True),
    Kind(
        "fine_tuning.job", "ftjob-", "Could not find fine tune: {}",
        parameters={
            "model": rules.TEXT, "training_file": rules.TEXT, "validation_file": rules.TEXT, "suffix": rules.TEXT,
            "hyperparameters": rules.OBJECT, "integrations": rules.LIST, "method": rules.OBJECT,
            "seed": rules.integer(), **_METADATA,
        },
        required=("model", "training_file"), references=(("training_file", "file"), ("validation_file", "file")),
        defaults={"status": "queued", "result_files": []},
    ),
    Kind(
        "assistant", "asst_", "No assistant found with id '{}'.",
        parameters={
            "model": rules.TEXT, "name": rules.TEXT, "instructions": rules.TEXT, "description": rules.TEXT,
            "tools": rules.LIST, "tool_resources": rules.OBJECT, "temperature": rules.decimal(0, 2),
            "top_p": rules.decimal(0, 1), "response_format": rules.ANYTHING, "reasoning_effort": rules.TEXT,
            **_METADATA,
        },
        required=("model",),
    ),
    Kind(
        "thread", "thread_", "No thread found with id '{}'.",
        parameters={"messages": rules.LIST, "tool_resources": rules.OBJECT, **_METADATA},
    ),
    Kind(
        "thread.message", "msg_", "No message found with id '{}'.",
        parameters={"role": rules.TEXT, "content": rules.TEXT_OR_LIST, "attachments": rules.LIST, **_METADATA},
        required=("role", "content"),
    ),
    Kind(
        "thread.run", "run_", "No run found with id '{}'.",
        parameters={
            "assistant_id": rules.TEXT, "thread": rules.OBJECT, "model": rules.TEXT, "instructions": rules.TEXT,
            "stream": rules.FLAG, **_METADATA,
        },
        required=("assistant_id",), references=(("assistant_id", "assistant"),), defaults={"status": "queued"},
    ),
    Kind(
        "audio.voice_consent", "cons_", "Voice consent with id '{}' not found.",
        parameters={"language": rules.TEXT, "name": rules.TEXT}, required=("language", "name"), is_form=True,
    ),
    Kind(
        "audio.voice", "voice_", "Voice with id '{}' not found.",
        parameters={"name": rules.TEXT, "consent": rules.TEXT}, required=("name", "consent"),
        references=(("consent", "audio.voice_consent"),), is_form=True,
    ),
]  # fmt: skip
KINDS = {kind.name: kind for kind in _KINDS}
Handler = Callable[[Call], Answer | Stream]


def find_object(world: World, kind: str, key: str, parent: str = "") -> StoredObject:
    stored = world.objects.get(key)
    if stored is None or stored.kind != kind or stored.parent != parent:
        raise errors.not_found(KINDS[kind].missing.format(key))
    return stored


def _body(call: Call, kind: Kind) -> Json:
    if not kind.is_form:
        return call.json() if call.request.body else {}
    form = call.form("")
    if not form.files and kind.name != "upload.part":
        raise errors.missing("file")
    return {name: values[0] for name, values in form.fields.items()}


def _put(call: Call, kind: Kind, body: Json, parent: str = "") -> Json:
    rules.check_known(body, kind.parameters)
    rules.check_metadata(body.get("metadata"))
    for name in kind.required:
        if body.get(name) is None:
            raise errors.missing(name)
    for name, wanted in kind.references:
        given = body.get(name) or []
        for key in [given] if isinstance(given, str) else given:
            find_object(call.world, wanted, key)
    shown = {name: value for name, value in body.items() if name not in {"file_ids", "thread", "messages"}}
    resource = {"id": new_id(kind.prefix), "object": kind.name, "created_at": chance.now(), **kind.defaults, **shown}
    call.world.objects.put(str(resource["id"]), StoredObject(kind.name, resource, parent))
    return resource


def _parent(call: Call, kind: str) -> str:
    """Returns the id of the parent object that the path names, after a check that it exists; "" if `kind` is empty."""
    return find_object(call.world, kind, call.parameters["id"]).resource["id"] if kind else ""


def create(kind: str, *, parent: str = "") -> Handler:
    def handler(call: Call) -> Answer:
        key = _parent(call, parent)
        resource = _put(call, KINDS[kind], _body(call, KINDS[kind]), key)
        if kind == "thread.run":
            resource["thread_id"] = key
        return json_answer(resource)

    return handler


def list_all(kind: str, *, parent: str = "") -> Handler:
    def handler(call: Call) -> Answer:
        key = _parent(call, parent)
        found = [one.resource for one in call.world.objects.values() if (one.kind, one.parent) == (kind, key)]
        return json_answer(page(found, call.query))

    return handler


def retrieve(kind: str) -> Handler:
    def handler(call: Call) -> Answer:
        stored = find_object(call.world, kind, call.parameters["id"])
        if kind == "batch" and stored.resource["output_file_id"] is None:
            output = _put(call, KINDS["file"], {"purpose": "batch_output"})
            stored.resource |= {"status": "completed", "output_file_id": output["id"]}
        return json_answer(stored.resource)

    return handler


def update(kind: str) -> Handler:
    def handler(call: Call) -> Answer:
        stored, body = find_object(call.world, kind, call.parameters["id"]), _body(call, KINDS[kind])
        rules.check_known(body, KINDS[kind].parameters)
        stored.resource |= body
        return json_answer(stored.resource)

    return handler


def cancel(kind: str) -> Handler:
    def handler(call: Call) -> Answer:
        stored = find_object(call.world, kind, call.parameters["id"])
        stored.resource["status"] = "cancelled"
        return json_answer(stored.resource)

    return handler


def delete(kind: str) -> Handler:
    def handler(call: Call) -> Answer:
        key = find_object(call.world, kind, call.parameters["id"]).resource["id"]
        del call.world.objects[key]
        return json_answer({"id": key, "object": f"{kind}.deleted", "deleted": True})

    return handler


def file_content(call: Call) -> Answer:
    find_object(call.world, "file", call.parameters["id"])
    return Answer(b"what is in the file\n", content_type="application/octet-stream")


def attach_file(call: Call) -> Answer:
    """Answers a request to add a file to a vector store; the file has the same id there."""
    store, body = find_object(call.world, "vector_store", call.parameters["id"]), call.json()
    rules.check_known(body, {"file_id": rules.TEXT, "attributes": rules.OBJECT, "chunking_strategy": rules.OBJECT})
    key = find_object(call.world, "file", str(body.get("file_id"))).resource["id"]
    return json_answer({"id": key, "object": "vector_store.file", "vector_store_id": store.resource["id"]})


def search_store(call: Call) -> Answer:
    find_object(call.world, "vector_store", call.parameters["id"])
    query = call.json().get("query")
    if query is None:
        raise errors.missing("query")
    empty = {"object": "vector_store.search_results.page", "search_query": query, "data": []}
    return json_answer({**empty, "has_more": False, "next_page": None})


def complete_upload(call: Call) -> Answer:
    stored, body = find_object(call.world, "upload", call.parameters["id"]), call.json()
    rules.check_known(body, {"part_ids": rules.LIST, "md5": rules.TEXT})
    for key in body.get("part_ids") or []:
        find_object(call.world, "upload.part", key, stored.resource["id"])
    stored.resource |= {
        "status": "completed",
        "file": _put(call, KINDS["file"], {"purpose": stored.resource["purpose"]}),
    }
    return json_answer(stored.resource)


def create_thread_and_run(call: Call) -> Answer:
    body = call.json()
    thread = _put(call, KINDS["thread"], body.get("thread") or {})
    run = _put(call, KINDS["thread.run"], body, thread["id"])
    run["thread_id"] = thread["id"]
    return json_answer(run)


def _family(
    path: str, kind: str, *, can_update: bool = False, can_cancel: bool = False
) -> dict[str, dict[str, Handler]]:
    one: dict[str, Handler] = {"GET": retrieve(kind), "DELETE": delete(kind)}
    if can_update:
        one["POST"] = update(kind)
    routes: dict[str, dict[str, Handler]] = {
        path: {"GET": list_all(kind), "POST": create(kind)},
        f"{path}/{{id}}": one,
    }
    return routes | ({f"{path}/{{id}}/cancel": {"POST": cancel(kind)}} if can_cancel else {})


ROUTES: dict[str, dict[str, Handler]] = {
    **_family("/files", "file"),
    "/files/{id}/content": {"GET": file_content},
    **_family("/vector_stores", "vector_store", can_update=True),
    "/vector_stores/{id}/files": {"POST": attach_file},
    "/vector_stores/{id}/search": {"POST": search_store},
    **_family("/batches", "batch", can_cancel=True),
    "/uploads": {"POST": create("upload")},
    "/uploads/{id}/parts": {"POST": create("upload.part", parent="upload")},
    "/uploads/{id}/complete": {"POST": complete_upload},
    "/uploads/{id}/cancel": {"POST": cancel("upload")},
    **_family("/fine_tuning/jobs", "fine_tuning.job", can_cancel=True),
    **_family("/assistants", "assistant", can_update=True),
    "/threads": {"POST": create("thread")},
    "/threads/runs": {"POST": create_thread_and_run},
    "/threads/{id}": {"GET": retrieve("thread"), "POST": update("thread"), "DELETE": delete("thread")},
    "/threads/{id}/messages": {
        "GET": list_all("thread.message", parent="thread"),
        "POST": create("thread.message", parent="thread"),
    },
    "/threads/{id}/runs": {
        "GET": list_all("thread.run", parent="thread"),
        "POST": create("thread.run", parent="thread"),
    },
    **_family("/audio/voice_consents", "audio.voice_consent", can_update=True),
    "/audio/voices": {"GET": list_all("audio.voice"), "POST": create("audio.voice")},
    "/audio/voices/{id}": {"DELETE": delete("audio.voice")},
}
