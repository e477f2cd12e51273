"""Finds what an HTTP code or a failCode means: two tables, and beside each the rule for other codes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from airflow_provider_seedream.errors import ASK_SUPPORT, INSUFFICIENT_BALANCE, Cause, Kind

_CHANGE_CONTENT = "Change the prompt or the reference images."

_FIX_PROMPT = "Rewrite the prompt."

_FIX_IMAGE = "Use a direct, public JPEG, PNG or WebP URL of a supported size."

_LATER = "Retry later."

HTTP_CAUSES: Mapping[int, Cause] = {
    400: Cause(
        Kind.INPUT,
        "Invalid request body, mode, parameter type, parameter value, or prompt length",
        "Fix the request before retrying.",
    ),
    401: Cause(
        Kind.KEY, "Missing or invalid API key", "Put a valid APIXO key into the connection's password."
    ),
    402: INSUFFICIENT_BALANCE,
    403: Cause(
        Kind.PERMISSION,
        "The key or route cannot access the model, or content was blocked before task creation",
        "Check the key's permissions and the input's content.",
    ),
    404: Cause(
        Kind.NOT_FOUND,
        "Model route or task ID was not found",
        "Check the base URL, the model and the taskId.",
    ),
    408: Cause(Kind.TRANSIENT, "The request took too long to arrive", "Retry later."),
    425: Cause(Kind.TRANSIENT, "The server was not ready for the request", "Retry later."),
    429: Cause(
        Kind.RATE_LIMIT, "Rate limit or concurrency limit reached", "Retry later; use an Airflow pool."
    ),
    500: Cause(Kind.TRANSIENT, "Server error or streaming finalization error", "Retry later."),
    502: Cause(Kind.TRANSIENT, "Upstream provider error", "Retry later."),
    503: Cause(Kind.TRANSIENT, "The model is unavailable", "Retry later."),
    504: Cause(Kind.TRANSIENT, "Upstream timeout", "Retry later, or reduce the input's complexity."),
}
"""The vendor page's table of HTTP errors; 503 comes from the vendor's other pages, 408 and 425 from
gateways (RFC 9110, RFC 8470)."""


def find_http_cause(code: int) -> Cause:
    """Return the meaning of an HTTP status or body code.

    Rule for codes outside the table: 4xx is a mistake in the request (a retry cannot help), everything
    else is unknown and may be retried.
    """
    if code in HTTP_CAUSES:
        return HTTP_CAUSES[code]
    if 400 <= code < 500:
        return Cause(
            Kind.INPUT, f"The API refused the request with code {code}", "Check the request and the host."
        )
    return Cause(
        Kind.UNKNOWN, f"The API answered with code {code}", "Retry later; if it stays, contact support."
    )


_CONTENT = Cause(Kind.CONTENT, "Input or output was flagged as sensitive", _CHANGE_CONTENT)

_PROMPT = Cause(Kind.INPUT, "The provider rejected the prompt", _FIX_PROMPT)

_LONG_PROMPT = Cause(Kind.INPUT, "The prompt is too long", "Shorten the prompt.")

_TIMEOUT = Cause(
    Kind.TRANSIENT, "Provider processing timed out", "Retry with simpler inputs or fewer images."
)

_LARGE_IMAGE = Cause(Kind.INPUT, "A reference image is too large", "Compress the image.")

_FORMAT = Cause(Kind.INPUT, "A reference image's format could not be accepted", _FIX_IMAGE)

_BAD_PARAMETERS = Cause(
    Kind.INPUT,
    "The provider rejected the request as invalid",
    "Check mode, prompt, max_images, resolution, aspect_ratio and image_urls.",
)


def normalize_code(fail_code: str) -> str:
    """Return the spelling that all pages share: ``Upload error`` and ``UPLOAD_ERROR`` are one code."""
    return re.sub(r"[^a-z0-9]", "", fail_code.lower())


_FAIL_CAUSES: Mapping[str, Cause] = {
    # The vendor's Seedream 4.5 page.
    "SensitiveContentDetected": _CONTENT,
    "InputOutputSensitiveContentDetected": Cause(
        Kind.CONTENT, "Input or output failed safety checks", "Use different prompt or image inputs."
    ),
    "PromptInvalid": _PROMPT,
    "BadRequest": Cause(Kind.INPUT, "Required parameters were missing or malformed", _BAD_PARAMETERS.remedy),
    "InvalidImageSize": Cause(
        Kind.INPUT, "A reference image's size is unsupported", "Use a different image size."
    ),
    "ImageFormatIncorrect": _FORMAT,
    "Upload error": _LARGE_IMAGE,
    "RateLimitExceeded": Cause(Kind.RATE_LIMIT, "Provider-side rate limit reached", _LATER),
    "Timeout": _TIMEOUT,
    "StreamError": Cause(Kind.TRANSIENT, "The streaming request failed after retries", _LATER),
    "FinalizeError": Cause(Kind.TRANSIENT, "Result finalization failed", ASK_SUPPORT),
    "Validation error": _BAD_PARAMETERS,
    "UpstreamError": Cause(Kind.TRANSIENT, "The provider returned an unmapped failure", ASK_SUPPORT),
    # Other and older pages of the vendor.
    "SensitiveContent": _CONTENT,
    "InputImageSensitiveContentDetected": _CONTENT,
    "NSFW": _CONTENT,
    "ProhibitedContentDetected": _CONTENT,
    "CONTENT_VIOLATION": _CONTENT,
    "NSFW_DETECTED": _CONTENT,
    "PromptLengthExceeded": _LONG_PROMPT,
    "PROMPT_TOO_LONG": _LONG_PROMPT,
    "INVALID_PROMPT": _PROMPT,
    "INVALID_IMAGE_URL": Cause(Kind.INPUT, "A reference image's URL is invalid", _FIX_IMAGE),
    "IMAGE_TOO_LARGE": _LARGE_IMAGE,
    "UNSUPPORTED_FORMAT": _FORMAT,
    "IMAGE_DOWNLOAD_FAILED": Cause(
        Kind.TRANSIENT, "A reference image could not be fetched", "Check that its URL is public and direct."
    ),
    "PROCESSING_TIMEOUT": _TIMEOUT,
    "MODEL_UNAVAILABLE": Cause(Kind.TRANSIENT, "The model is unavailable", _LATER),
    "GENERATION_FAILED": Cause(Kind.TRANSIENT, "The generation failed", ASK_SUPPORT),
    "INSUFFICIENT_CREDITS": INSUFFICIENT_BALANCE,
}

FAIL_CAUSES: Mapping[str, Cause] = {normalize_code(code): cause for code, cause in _FAIL_CAUSES.items()}
"""Every failCode that a page of the vendor names, under its normalized spelling."""

_FAIL_RULES: Sequence[tuple[str, Cause]] = (
    (r"sensitive|nsfw|prohibited|violation|moderation|policy", _CONTENT),
    (r"credit|balance|quota|payment", INSUFFICIENT_BALANCE),
    (r"ratelimit|toomany|throttl|concurren", HTTP_CAUSES[429]),
    (
        r"timeout|unavailable|internal|overload|busy|upstream|server|network",
        Cause(Kind.TRANSIENT, "A passing fault of the provider", _LATER),
    ),
    (r"invalid|unsupported|incorrect|badrequest|toolong|toolarge|exceed|missing|malformed", _BAD_PARAMETERS),
)


def find_fail_cause(fail_code: str | None) -> Cause:
    """Return the meaning of a failCode.

    First the exact table, spelling aside. Then, in this order, a word inside the code decides: content
    words (``sensitive``, ``nsfw``, ...), money words (``credit``, ``balance``, ...), throttling words,
    words of passing faults (``timeout``, ``unavailable``, ``internal``, ...), words of bad input
    (``invalid``, ``unsupported``, ...). What is left is unknown and may be retried.
    """
    code = normalize_code(fail_code or "")
    if code in FAIL_CAUSES:
        return FAIL_CAUSES[code]
    for pattern, cause in _FAIL_RULES:
        if re.search(pattern, code):
            return cause
    return Cause(Kind.UNKNOWN, "The API gave no known reason", ASK_SUPPORT)
