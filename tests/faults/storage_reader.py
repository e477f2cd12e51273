"""Somebody who looks at the destination all the time, and notes everything that should not be there."""

from __future__ import annotations

import hashlib
import io
import json
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from PIL import Image

from tests.faults.storage_places import Place, visible


def digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


class Reader:
    """What one reader has seen.

    :param known: the bodies that the result host has served, whole; no image may be anything else.
    :ivar looks: how often it has looked.
    :ivar complaints: what it saw that is neither a whole image nor a true manifest.
    """

    def __init__(self, place: Place, known: Iterable[bytes]) -> None:
        self._place = place
        self._known: set[str] = set()
        self._digests: dict[tuple[str, Any], str] = {}
        self.polls = 0
        self.complaints: list[str] = []
        self.trust(known)

    def trust(self, bodies: Iterable[bytes]) -> None:
        """Images that may lie there from now on; each is decoded once, here."""
        for body in bodies:
            Image.open(io.BytesIO(body)).load()
            self._known.add(digest(body))

    def look(self) -> None:
        """Look once at everything that is visible."""
        for name in visible(self._place):
            if name.endswith(".json"):
                self._look_at_manifest(name)
            elif (found := self._digest(name)) not in {None, *self._known}:
                self.complaints.append(f"{name} is no whole image ({found})")
        self.polls += 1

    def _look_at_manifest(self, name: str) -> None:
        text = self._place.read(name)
        if text is None:
            return
        wrong = list(self._broken_promises(text))
        # It may have been replaced between the look at it and the look at its images.
        if wrong and self._place.read(name) == text:
            self.complaints.append(f"{name} is not kept: {wrong}")

    def _broken_promises(self, text: bytes) -> Iterator[str]:
        try:
            images = json.loads(text)["images"]
        except ValueError:
            yield "not JSON"
            return
        for image in images:
            if self._digest(image["name"]) != image["sha256"]:
                yield str(image["name"])

    def _digest(self, name: str) -> str | None:
        """A file's hash; read anew whenever the file has changed."""
        version = self._place.versions().get(name)
        if version is None:
            return None
        if (name, version) not in self._digests:
            body = self._place.read(name)
            if body is None:
                return None
            if self._place.versions().get(name) != version:
                return digest(body)
            self._digests[name, version] = digest(body)
        return self._digests[name, version]


@contextmanager
def watching(place: Place, known: Iterable[bytes]) -> Iterator[Reader]:
    """A reader who looks without pause, and once more at the end, and must have nothing to complain about."""
    reader = Reader(place, known)
    over = threading.Event()

    def look_on() -> None:
        while not over.is_set():
            reader.look()
            over.wait(0.005)

    thread = threading.Thread(target=look_on, daemon=True)
    thread.start()
    try:
        yield reader
    finally:
        over.set()
        thread.join(60)
    reader.look()
    assert not thread.is_alive()
    assert reader.polls > 1
    assert reader.complaints == []
