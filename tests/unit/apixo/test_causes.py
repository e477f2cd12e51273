"""Every code of the vendor's pages has a meaning, a remedy, and an answer to "would a retry help?"."""

from __future__ import annotations

import pytest

from airflow_provider_seedream.apixo.causes import find_fail_cause, find_http_cause
from airflow_provider_seedream.errors import Kind

# From the page's two tables: code, and whether the page says to retry it as it is.
HTTP_CODES = {
    **dict.fromkeys((400, 401, 402, 403, 404), False),
    **dict.fromkeys((429, 500, 502, 503, 504), True),
}
FAIL_CODES = {
    "SensitiveContentDetected": False,
    "InputOutputSensitiveContentDetected": False,
    "PromptInvalid": False,
    "BadRequest": False,
    "InvalidImageSize": False,
    "ImageFormatIncorrect": False,
    "Upload error": False,
    "RateLimitExceeded": True,
    "Timeout": True,
    "StreamError": True,
    "FinalizeError": True,
    "Validation error": False,
    "UpstreamError": True,
}
OLDER_FAIL_CODES = {
    "SensitiveContent": Kind.CONTENT,
    "InputImageSensitiveContentDetected": Kind.CONTENT,
    "NSFW": Kind.CONTENT,
    "ProhibitedContentDetected": Kind.CONTENT,
    "CONTENT_VIOLATION": Kind.CONTENT,
    "NSFW_DETECTED": Kind.CONTENT,
    "PromptLengthExceeded": Kind.INPUT,
    "PROMPT_TOO_LONG": Kind.INPUT,
    "INVALID_PROMPT": Kind.INPUT,
    "INVALID_IMAGE_URL": Kind.INPUT,
    "IMAGE_TOO_LARGE": Kind.INPUT,
    "UNSUPPORTED_FORMAT": Kind.INPUT,
    "IMAGE_DOWNLOAD_FAILED": Kind.TRANSIENT,
    "PROCESSING_TIMEOUT": Kind.TRANSIENT,
    "MODEL_UNAVAILABLE": Kind.TRANSIENT,
    "GENERATION_FAILED": Kind.TRANSIENT,
    "INSUFFICIENT_CREDITS": Kind.BALANCE,
}


class TestTables:
    @pytest.mark.parametrize(("code", "retry_helps"), HTTP_CODES.items())
    def test_http_codes_of_the_page(self, code: int, retry_helps: bool) -> None:
        cause = find_http_cause(code)
        assert cause.retryable is retry_helps
        assert cause.meaning
        assert cause.remedy

    @pytest.mark.parametrize(("code", "retry_helps"), FAIL_CODES.items())
    def test_fail_codes_of_the_page(self, code: str, retry_helps: bool) -> None:
        cause = find_fail_cause(code)
        assert cause.retryable is retry_helps
        assert cause.kind is not Kind.UNKNOWN
        assert cause.remedy

    @pytest.mark.parametrize(("code", "kind"), OLDER_FAIL_CODES.items())
    def test_fail_codes_of_other_pages(self, code: str, kind: Kind) -> None:
        assert find_fail_cause(code).kind is kind

    @pytest.mark.parametrize("spelling", ["Upload error", "UploadError", "UPLOAD_ERROR", "upload-error"])
    def test_spelling_does_not_matter(self, spelling: str) -> None:
        assert find_fail_cause(spelling) is find_fail_cause("Upload error")


class TestRuleForUnknownCodes:
    @pytest.mark.parametrize(
        ("code", "kind"),
        [
            ("OutputImageSensitiveContentDetected", Kind.CONTENT),
            ("AccountBalanceTooLow", Kind.BALANCE),
            ("TooManyConcurrentTasks", Kind.RATE_LIMIT),
            ("InternalServiceError", Kind.TRANSIENT),
            ("InvalidParameter", Kind.INPUT),
            ("Kaboom", Kind.UNKNOWN),
            ("", Kind.UNKNOWN),
            (None, Kind.UNKNOWN),
        ],
    )
    def test_a_word_in_the_fail_code_decides(self, code: str | None, kind: Kind) -> None:
        assert find_fail_cause(code).kind is kind

    def test_an_unknown_fail_code_may_be_retried(self) -> None:
        assert find_fail_cause("Kaboom").retryable

    @pytest.mark.parametrize(("code", "retry_helps"), [(418, False), (499, False), (507, True), (302, True)])
    def test_http_codes(self, code: int, retry_helps: bool) -> None:
        assert find_http_cause(code).retryable is retry_helps
