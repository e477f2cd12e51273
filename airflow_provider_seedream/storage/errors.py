"""Names the ways in which saving a paid image fails, beyond those of the package's ``errors``."""

from __future__ import annotations

from typing import ClassVar

from airflow_provider_seedream.errors import DownloadError


class RefusedUrlError(DownloadError):
    """A result URL, or where it redirects to, must not be fetched."""

    def __init__(self, message: str) -> None:
        super().__init__(message, retryable=False)


class BrokenTransferError(DownloadError):
    """A transfer broke off or was refused for now; it may be tried again at once.

    :cvar max_attempts: attempts that this kind of failure is worth.
    :param retry_after: seconds for which the host asks to be left alone, if it said so.
    """

    max_attempts: ClassVar[int] = 4

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class UnusableImageError(BrokenTransferError):
    """The bytes that came are not a whole image, so they are fetched anew from the start."""


class WrongSizeError(UnusableImageError):
    """A whole image came, but not in the size that was ordered; one more fetch tells whether it stays so."""

    max_attempts = 2


class StorageError(DownloadError):
    """A file could not be written to, read from or removed from local disk or the destination."""
