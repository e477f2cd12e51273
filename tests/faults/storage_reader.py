"""Reads the destination all the time, and reports everything that should not be there."""

from __future__ import annotations

import hashlib
import io
import json
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from PIL import Image

from tests.faults.storage_places import Place, list_visible


def compute_digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


class Reader:
    """A reader of the destination, and what it has seen.

    :param known: the bodies that the result host has served, whole; no image may be anything else.
    :ivar reads: how often it has read everything.
    :ivar complaints: what it saw that is neither a whole image nor a true manifest.
    """

    def __init__(self, place: Place, known: Iterable[bytes]) -> None:
        self._place = place
        self._known: set[str] = set()
        self._digests: dict[tuple[str, Any], str] = {}
        self.reads = 0
        self.complaints: list[str] = []
        self.trust(known)

    def trust(self, bodies: Iterable[bytes]) -> None:
        """Images that may lie there from now on; each is decoded once, here."""
        for body in bodies:
            Image.open(io.BytesIO(body)).load()
            self._known.add(compute_digest(body))

    def read_all(self) -> None:
        """Read once everything that is visible."""
        for name in list_visible(self._place):
            if name.endswith(".json"):
                self._check_manifest(name)
            elif (found := self._read_digest(name)) not in {None, *self._known}:
                self.complaints.append(f"{name} is no whole image ({found})")
        self.reads += 1

    def _check_manifest(self, name: str) -> None:
        text = self._place.read(name)
        if text is None:
            return
        wrong = list(self._find_broken_promises(text))
        # It may have been replaced between the reading of it and that of its images.
        if wrong and self._place.read(name) == text:
            self.complaints.append(f"{name} is not kept: {wrong}")

    def _find_broken_promises(self, text: bytes) -> Iterator[str]:
        try:
            images = json.loads(text)["images"]
        except ValueError:
            yield "not JSON"
            return
        for image in images:
            if self._read_digest(image["name"]) != image["sha256"]:
                yield str(image["name"])

    def _read_digest(self, name: str) -> str | None:
        """Return a file's hash; it is read anew whenever the file has changed."""
        version = self._place.list_versions().get(name)
        if version is None:
            return None
        if (name, version) not in self._digests:
            body = self._place.read(name)
            if body is None:
                return None
            if self._place.list_versions().get(name) != version:
                return compute_digest(body)
            self._digests[name, version] = compute_digest(body)
        return self._digests[name, version]


@contextmanager
def watch(place: Place, known: Iterable[bytes]) -> Iterator[Reader]:
    """Have a reader read without pause, and once more at the end, and find nothing to complain about."""
    reader = Reader(place, known)
    over = threading.Event()

    def read_on() -> None:
        while not over.is_set():
            reader.read_all()
            over.wait(0.005)

    thread = threading.Thread(target=read_on, daemon=True)
    thread.start()
    try:
        yield reader
    finally:
        over.set()
        thread.join(60)
    reader.read_all()
    assert not thread.is_alive()
    assert reader.reads > 1
    assert reader.complaints == []
