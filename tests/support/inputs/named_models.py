"""The places where a request can name a model, for tests of limited keys: `FORBIDDEN` is in each place once.

A tool without a name runs a model of upstream's choice, which is forbidden, too.

Each entry is a JSON body, as text, for a path of `/v1` and for its counterpart in the simple API, if there is one.
"""

from __future__ import annotations

from dataclasses import dataclass

ALLOWED = "gpt-4o-mini"
FORBIDDEN = "gpt-forbidden"
CHAT = '"messages":[{"role":"user","content":"hi"}]'
MODEL = f'"model":"{ALLOWED}"'
NO = f'"{FORBIDDEN}"'


@dataclass(frozen=True)
class Place:
    path: str
    body: str
    simple_path: str = ""


def chat(members: str) -> Place:
    return Place("/v1/chat/completions", f"{{{CHAT},{members}}}", "/openai")


def response(members: str) -> Place:
    return Place("/v1/responses", f'{{"input":"hi",{members}}}', "/openai2")


def v1(path: str, members: str) -> Place:
    return Place(f"/v1{path}", f"{{{members}}}")


IMAGE_TOOL = f'{{"type":"image_generation","model":{NO}}}'
PLACES: dict[str, Place] = {
    "model": chat(f'"model":{NO}'),
    "model, escaped": chat(f'"mod\\u0065l":{NO}'),
    "model of a response": response(f'"model":{NO}'),
    "model of an embedding": Place("/v1/embeddings", f'{{"input":"hi","model":{NO}}}', "/embeddings"),
    "models": chat(f'{MODEL},"models":["{ALLOWED}",{NO}]'),
    "models, one text": chat(f'{MODEL},"models":{NO}'),
    "Model": chat(f'{MODEL},"Model":{NO}'),
    "MODEL before model": chat(f'"MODEL":{NO},{MODEL}'),
    "model_id": chat(f'{MODEL},"model_id":{NO}'),
    "a long s": chat(f'{MODEL},"model\u017f":{NO}'),
    "fallbacks": chat(f'{MODEL},"fallbacks":[{NO}]'),
    "fallbacks by model": chat(f'{MODEL},"fallbacks":[{{"{ALLOWED}":[{NO}]}}]'),
    "fallbacks with options": chat(f'{MODEL},"fallbacks":[{{"model":{NO},{CHAT}}}]'),
    "fallback_models": chat(f'{MODEL},"fallback_models":{NO}'),
    "a number": chat(f'{MODEL},"models":[1]'),
    "moderation": response(f'{MODEL},"moderation":{{"model":{NO}}}'),
    "image tool": response(f'{MODEL},"tools":[{IMAGE_TOOL}]'),
    "image tool of upstream's choice": response(f'{MODEL},"tools":[{{"type":"image_generation"}}]'),
    "image tool of upstream's choice, found by a search": response(
        f'{MODEL},"input":[{{"type":"tool_search_output","tools":[{{"quality":"low","type":"image_generation"}}]}}]'
    ),
    "image tool without a model": response(f'{MODEL},"tools":[{{"type":"image_generation","model":null}}]'),
    "image tool, escaped": response(f'{MODEL},"tools":[{{"type":"image_generation","\\u006dodel":{NO}}}]'),
    "image tool, other case": response(f'{MODEL},"Tools":[{{"type":"image_generation","Model":{NO}}}]'),
    "image tool's SVG": response(f'{MODEL},"tools":[{{"type":"image_generation","svg":{{"model":{NO}}}}}]'),
    "image tool among items": response(
        f'{MODEL},"input":[{{"type":"tool_search_output","tools":[{IMAGE_TOOL}],"call_id":"x"}}]'
    ),
    "an object in the place of a name": response(f'"model":{{"id":{NO}}}'),
    "a template": response('"prompt":{"id":"pmpt_1"}'),
    "compaction": Place("/v1/responses/compact", f'{{"input":"hi","model":{NO}}}', "/openai2/compact"),
    "counting": Place("/v1/responses/input_tokens", f'{{"input":"hi","model":{NO}}}', "/openai2/input_tokens"),
    "speech": v1("/audio/speech", f'"model":{NO},"input":"hi","voice":"alloy"'),
    "image": v1("/images/generations", f'"model":{NO},"prompt":"x"'),
    "image's SVG": v1("/images/generations", f'{MODEL},"prompt":"x","svg":{{"model":{NO}}}'),
    "image's SVG of upstream's choice": v1("/images/generations", f'{MODEL},"prompt":"x","output_format":"svg"'),
    "image tool's SVG of upstream's choice": response(
        f'{MODEL},"tools":[{{"type":"image_generation","model":"{ALLOWED}","output_format":"svg","svg":null}}]'
    ),
    "moderated texts": v1("/moderations", f'"model":{NO},"input":"x"'),
    "session": v1("/audio/unheard-of", f'{MODEL},"session":{{"model":{NO}}}'),
    "session's transcription": v1(
        "/audio/unheard-of", f'{MODEL},"session":{{"audio":{{"input":{{"transcription":{{"model":{NO}}}}}}}}}'
    ),
    "response": v1("/audio/unheard-of", f'{MODEL},"response":{{"model":{NO}}}'),
    "items of a conversation": v1("/conversations", f'"items":[{{"type":"x","tools":[{IMAGE_TOOL}]}}]'),
    "an unknown path": v1("/audio/unheard-of", f'"model":{NO}'),
    "an unknown path without a model": v1("/embeddings/x", '"input":"x"'),
    "an unknown use of a known path": v1("/models/gpt-4o-mini", '"input":"x"'),
    "a parameter of the query": v1(f"/chat/completions?model={FORBIDDEN}", f"{MODEL},{CHAT}"),
    "an encoded parameter": v1(f"/chat/completions?x=1&m%6Fdel={FORBIDDEN}", f"{MODEL},{CHAT}"),
    "a parameter in other case": v1(f"/responses?MODEL[]={FORBIDDEN}", f'{MODEL},"input":"x"'),
    "a parameter behind a semicolon": v1(f"/responses?x=1;model={FORBIDDEN}", f'{MODEL},"input":"x"'),
    "fine-tuning": v1("/fine_tuning/jobs", f'"model":{NO},"training_file":"file-1"'),
    "grader": v1(
        "/fine_tuning/alpha/graders/run", f'"grader":{{"type":"score_model","model":{NO}}},"model_sample":"x"'
    ),
    "graders": v1(
        "/fine_tuning/alpha/graders/validate", f'"grader":{{"type":"multi","graders":{{"a":{{"model":{NO}}}}}}}'
    ),
    "graders whose names are those of texts": v1(
        "/fine_tuning/alpha/graders/validate",
        f'"grader":{{"type":"multi","graders":{{"content":{{"type":"score_model","model":{NO}}}}}}}',
    ),
    "grader in a list that is named like one of items": v1(
        "/fine_tuning/alpha/graders/run", f'"grader":{{"graders":{{"Input":[{{"model":{NO}}}]}}}},"model_sample":"x"'
    ),
    "assistant": v1("/assistants", f'"model":{NO}'),
    "assistant that changes": v1("/assistants/asst_1", f'"model":{NO}'),
    "run": v1("/threads/thread_1/runs", f'"assistant_id":"asst_1","model":{NO}'),
    "run by its assistant": v1("/threads/runs", '"assistant_id":"asst_1"'),
}

# In these two readers find different models: the first or the last of a name that is given twice.
DOUBLED: dict[str, Place] = {
    "model": v1("/chat/completions", f'"model":{NO},{MODEL},{CHAT}'),
    "tools": v1("/responses", f'{MODEL},"input":"x","tools":[{IMAGE_TOOL}],"tools":[]'),
    "image tool": v1("/responses", f'{MODEL},"input":"x","tools":[{{"model":{NO},"model":"{ALLOWED}"}}]'),
    "image tool whose second model is upstream's choice": v1(
        "/responses",
        f'{MODEL},"input":"x","tools":[{{"type":"image_generation","model":"{ALLOWED}","model":null}}]',
    ),
    "an object on the way": v1(
        "/responses", f'{MODEL},"input":"x","tools":[{{"svg":{{"model":{NO}}},"svg":{{"model":"{ALLOWED}"}}}}]'
    ),
    "tools among items": v1("/responses", f'{MODEL},"input":[{{"tools":[{IMAGE_TOOL}],"tools":[]}}]'),
}

FUNCTION = (
    f'{{"type":"function","name":"f","parameters":{{"type":"object","properties":'
    f'{{"model":{{"type":"string","enum":[{NO}]}}}}}}}}'
)
# The word, where it is the caller's own text.
HONEST: dict[str, Place] = {
    "a message": chat(f'{MODEL},"user":"model"'),
    "a message about JSON": Place(
        "/v1/chat/completions",
        f'{{{MODEL},"messages":[{{"role":"user","content":"{{\\"model\\":\\"{FORBIDDEN}\\"}}"}}]}}',
        "/openai",
    ),
    "a message that says its model": Place(
        "/v1/chat/completions",
        f'{{{MODEL},"messages":[{{"role":"user","content":"hi"}},'
        f'{{"role":"assistant","content":"hello","model":{NO}}},{{"role":"user","content":"on"}}]}}',
        "/openai",
    ),
    "metadata": chat(f'{MODEL},"store":true,"metadata":{{"model":{NO}}}'),
    "metadata of a response": response(f'{MODEL},"metadata":{{"model":{NO},"fallbacks":{NO}}}'),
    "a function's schema": response(f'{MODEL},"tools":[{FUNCTION}]'),
    "a schema of the answer": response(
        f'{MODEL},"text":{{"format":{{"type":"json_schema","name":"car","schema":{{"type":"object",'
        f'"properties":{{"model":{{"const":{NO}}}}}}}}}}}'
    ),
    "a template's variables": response(f'{MODEL},"prompt":{{"id":"pmpt_1","variables":{{"model":{NO}}}}}'),
    "parts of a message": response(
        f'{MODEL},"input":[{{"role":"user","content":[{{"type":"input_text","text":"model","model":{NO}}}]}}]'
    ),
    "usage of an earlier item": response(
        f'{MODEL},"input":[{{"role":"user","content":"x"}},'
        f'{{"type":"image_generation_call","id":"ig_named","result":"iVBORw0KGgo=","svg_usage":{{"model":{NO}}}}}]'
    ),
    "an allowed author of an SVG": v1(
        "/images/generations", f'{MODEL},"prompt":"x","output_format":"svg","svg":{{"model":"{ALLOWED}"}}'
    ),
    "an earlier SVG": response(
        f'{MODEL},"input":[{{"role":"user","content":"x"}},'
        f'{{"type":"image_generation_call","id":"ig_named","result":"PHN2Zz4=","output_format":"svg"}}]'
    ),
    "an allowed tool": response(f'{MODEL},"tools":[{{"type":"image_generation","model":"{ALLOWED}"}}]'),
    "allowed models": chat(f'{MODEL},"models":["{ALLOWED}"]'),
    "an embedding": Place("/v1/embeddings", f'{{{MODEL},"input":["model",{NO}]}}', "/embeddings"),
    "a null": response(f'{MODEL},"moderation":{{"model":null}}'),
}
