"""Errors in OpenAI's own words: `ApiError` and one function for each refusal of the API."""

from typing import NoReturn

_API_KEYS = "https://platform.openai.com/account/api-keys"

_MESSAGES: dict[int, tuple[str, str, str | None]] = {
    400: ("Your request was malformed.", "invalid_request_error", None),
    401: (
        f"Incorrect API key provided. You can find your API key at {_API_KEYS}.",
        "invalid_request_error",
        "invalid_api_key",
    ),
    403: ("Country, region, or territory not supported", "request_forbidden", "unsupported_country_region_territory"),
    404: (
        "The model `gpt-nope` does not exist or you do not have access to it.",
        "invalid_request_error",
        "model_not_found",
    ),
    408: ("Request timed out.", "server_error", None),
    409: ("The resource was updated by another request. Please retry.", "invalid_request_error", "conflict"),
    413: ("Maximum content size limit (26214400) exceeded", "server_error", None),
    422: ("Unprocessable entity.", "invalid_request_error", None),
    429: (
        "Rate limit reached for gpt-4o-mini in organization org-simulated on requests per min (RPM): Limit 500, "
        "Used 500, Requested 1. Please try again in 1s. Visit https://platform.openai.com/account/rate-limits to "
        "learn more.",
        "requests",
        "rate_limit_exceeded",
    ),
    500: (
        "The server had an error while processing your request. Sorry about that! You can retry your request, or "
        "contact us through our help center at help.openai.com if the error persists.",
        "server_error",
        None,
    ),
    502: ("Bad gateway.", "server_error", None),
    503: ("The engine is currently overloaded, please try again later", "service_unavailable", "service_unavailable"),
    504: ("The upstream request timed out.", "server_error", None),
}


class ApiError(Exception):
    """Error by which a handler refuses a request; the simulator turns it into an answer in OpenAI's format."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        type: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
        headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers
        self.body = {"error": {"message": message, "type": type, "param": param, "code": code}}


def of_status(status: int) -> ApiError:
    """Makes the error that OpenAI sends with a given HTTP status.

    With 429, headers say when to try again. The message of a 500 says that a retry may help.
    """
    nearest = status if status in _MESSAGES else (500 if status >= 500 else 400)
    message, type_, code = _MESSAGES[nearest]
    headers: tuple[tuple[str, str], ...] = ()
    if status == 429:
        headers = (("retry-after", "1"), ("retry-after-ms", "1000"), ("x-should-retry", "true"))
    return ApiError(status, message, type=type_, code=code, headers=headers)


def missing_key() -> ApiError:
    return ApiError(
        401,
        "You didn't provide an API key. You need to provide your API key in an Authorization header using Bearer auth "
        "(i.e. Authorization: Bearer YOUR_KEY), or as the password field (with blank username) if you're accessing the "
        "API from your browser and are prompted for a username and password. You can obtain an API key from "
        f"{_API_KEYS}.",
    )


def invalid_key(key: str) -> ApiError:
    shown = f"{key[:8]}{'*' * max(len(key) - 12, 4)}{key[-4:]}"
    return ApiError(
        401, f"Incorrect API key provided: {shown}. You can find your API key at {_API_KEYS}.", code="invalid_api_key"
    )


def unknown_url(method: str, path: str) -> ApiError:
    return ApiError(404, f"Invalid URL ({method} {path})")


def method_not_allowed(method: str, path: str) -> ApiError:
    return ApiError(
        405,
        f"Not allowed to {method} on {path}. (HINT: Perhaps you meant to use a different HTTP method?)",
        code="method_not_supported",
    )


def bad_json() -> ApiError:
    return ApiError(
        400,
        "We could not parse the JSON body of your request. (HINT: This likely means you aren't using your HTTP library "
        "correctly. The OpenAI API expects a JSON payload, but what was sent was not valid JSON. If you have trouble "
        "figuring out how to fix this, please contact us through our help center at help.openai.com.)",
    )


def unsupported_content_type(given: str, wanted: str) -> ApiError:
    return ApiError(
        400,
        f"Unsupported content type: '{given}'. This API method only accepts '{wanted}' requests, but you specified the "
        f"header 'Content-Type: {given}'. Please try again with a supported content type.",
        code="unsupported_content_type",
    )


def unknown_model(model: str) -> ApiError:
    return ApiError(
        404,
        f"The model `{model}` does not exist or you do not have access to it.",
        param="model",
        code="model_not_found",
    )


def missing(name: str) -> ApiError:
    return ApiError(400, f"Missing required parameter: '{name}'.", param=name, code="missing_required_parameter")


def invalid_value(name: str, value: object, supported: list[str]) -> ApiError:
    quoted = [f"'{one}'" for one in supported]
    listed = f"{', '.join(quoted[:-1])}, and {quoted[-1]}" if len(quoted) > 2 else " and ".join(quoted)
    return ApiError(400, f"Invalid value: '{value}'. Supported values are: {listed}.", param=name, code="invalid_value")


def not_found(message: str) -> ApiError:
    return ApiError(404, message)


def refuse(message: str, param: str | None = None, code: str | None = None) -> NoReturn:
    """Refuses a request: raises an `ApiError` with status 400 and the given message."""
    raise ApiError(400, message, param=param, code=code)
