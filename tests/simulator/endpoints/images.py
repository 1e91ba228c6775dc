"""`/images/*`: always the same one-pixel PNG."""

from tests.simulator.call import Call
from tests.simulator.content import errors
from tests.simulator.content import validation as rules
from tests.simulator.content.answers import Answer, Json, Stream, json_answer, typed_event
from tests.simulator.content.tokens import count_tokens
from tests.simulator.endpoints import models
from tests.simulator.wire.chance import chance

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
PARAMETERS: dict[str, rules.Rule] = {
    "prompt": rules.TEXT,
    "background": rules.one_of("transparent", "opaque", "auto"),
    "complexity": rules.one_of("low", "medium", "high"),
    "frame_count": rules.integer(1),
    "frame_duration_ms": rules.integer(1),
    "model": rules.TEXT,
    "moderation": rules.one_of("low", "auto"),
    "n": rules.integer(1, 10),
    "output_compression": rules.integer(0, 100),
    "output_format": rules.one_of("png", "webp", "jpeg", "gif", "svg"),
    "partial_images": rules.integer(0, 3),
    "quality": rules.one_of("low", "medium", "high", "xhigh", "max", "auto", "standard", "hd"),
    "response_format": rules.one_of("url", "b64_json"),
    "safety_identifier": rules.TEXT,
    "size": rules.TEXT,
    "stream": rules.FLAG,
    "style": rules.one_of("vivid", "natural"),
    "svg": rules.OBJECT,
    "user": rules.TEXT,
}
_EDIT_FIELDS = {"input_fidelity", *PARAMETERS} - {"style", "moderation"}
_VARIATION_FIELDS = {"model", "n", "response_format", "size", "user"}
_OUTPUT_TOKENS = {"low": 272, "medium": 1056, "high": 4160}


def _usage(prompt: str, quality: str, images_in: int, images_out: int) -> Json:
    text, image = count_tokens(prompt), 323 * images_in
    made = _OUTPUT_TOKENS.get(quality, 1056) * images_out
    return {
        "input_tokens": text + image,
        "input_tokens_details": {"text_tokens": text, "image_tokens": image},
        "output_tokens": made,
        "total_tokens": text + image + made,
    }


def _look(body: Json) -> Json:
    """Returns the members of an answer that describe the image, such as its size, as the request asks for them.

    `auto`, and what is missing, is replaced by a value.
    """
    chosen = {name: body.get(name) for name in ("background", "output_format", "quality", "size")}
    usual = {"background": "opaque", "output_format": "png", "quality": "medium", "size": "1024x1024"}
    return {name: usual[name] if value in {None, "auto"} else value for name, value in chosen.items()}


def _answer(body: Json, kind: str, images_in: int) -> Answer | Stream:
    look, count = _look(body), int(body.get("n") or 1)
    usage = _usage(body["prompt"], look["quality"], images_in, count)
    now = chance.now()
    if not body.get("stream"):
        return json_answer({"created": now, **look, "data": [{"b64_json": PNG}] * count, "usage": usage})
    image = {"created_at": now, **look, "b64_json": PNG}
    partial = {"type": f"{kind}.partial_image", **image}
    events: list[Json] = [{**partial, "partial_image_index": at} for at in range(int(body.get("partial_images") or 0))]
    events.append({"type": f"{kind}.completed", **image, "usage": usage})
    return Stream([typed_event(event) for event in events], "typed")


def generate_images(call: Call) -> Answer | Stream:
    body = call.json("gpt-image-1")
    rules.check_known(body, PARAMETERS)
    if not body.get("prompt"):
        raise errors.missing("prompt")
    model = models.check_model(body.get("model") or "dall-e-2")
    if not model.startswith("dall-e"):
        return _answer(body, "image_generation", 0)
    linked = (body.get("response_format") or "url") == "url"
    one: Json = {"url": "https://example.com/image.png"} if linked else {"b64_json": PNG}
    if model == "dall-e-3":
        one["revised_prompt"] = f"{body['prompt']} — in detail"
    return json_answer({"created": chance.now(), "data": [one] * int(body.get("n") or 1)})


def edit_images(call: Call) -> Answer | Stream:
    form = call.form("gpt-image-1")
    unknown = [name for name in form.fields if name not in _EDIT_FIELDS]
    if unknown:
        errors.refuse(f"Unknown parameter: '{unknown[0]}'.", unknown[0], "unknown_parameter")
    images = [file for file in form.files if file.name in {"image", "image[]"}]
    if not images:
        raise errors.missing("image")
    body: Json = {name: values[0] for name, values in form.fields.items()}
    if not body.get("prompt"):
        raise errors.missing("prompt")
    models.check_model(body.get("model") or "gpt-image-1")
    return _answer({**body, "stream": body.get("stream") == "true"}, "image_edit", len(images))


def vary_image(call: Call) -> Answer:
    """Answers a request for variations of an image.

    Only dall-e-2 makes variations (API reference), and its answers have no usage.
    """
    form = call.form("dall-e-2")
    unknown = [name for name in form.fields if name not in _VARIATION_FIELDS]
    if unknown:
        errors.refuse(f"Unknown parameter: '{unknown[0]}'.", unknown[0], "unknown_parameter")
    if not any(file.name == "image" for file in form.files):
        raise errors.missing("image")
    one = {"b64_json": PNG} if form.first("response_format") == "b64_json" else {"url": "https://example.com/image.png"}
    return json_answer({"created": chance.now(), "data": [one] * int(form.first("n", "1"))})
