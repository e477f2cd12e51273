"""Stops what was started for a while, however its ``with`` block ends, and if it did not start wholly."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self


class Service(ABC):
    """Processes that run for as long as somebody needs them; a context manager."""

    @abstractmethod
    def start(self) -> Self:
        """Start, and return when it can be used."""

    @abstractmethod
    def stop(self) -> None:
        """End every process that was started, be it after half a start."""

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.stop()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
