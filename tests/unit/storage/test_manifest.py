from __future__ import annotations

import json
import logging

import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath

from airflow_provider_seedream import __version__
from airflow_provider_seedream.storage.manifest import (
    Manifest,
    read_manifest,
    write_manifest,
)
from tests.support.manifests import IMAGE, MANIFEST


class TestTheRecordIsPlainJson:
    def test_one_flat_object_with_the_images_in_it(self) -> None:
        record = json.loads(MANIFEST.to_json())
        assert record["schema"] == 1
        assert record["provider_version"] == __version__
        assert record["seedream_task_id"] == "task_123"
        assert record["request"]["prompt"].endswith("\N{FOX FACE}")
        assert record["cost_usd"] == 0.035
        assert record["images"][0]["path"] == IMAGE.path
        assert record["saved_at"] == "2026-11-22T06:01:00+00:00"

    def test_it_reads_back_as_it_was(self) -> None:
        assert Manifest.from_json(MANIFEST.to_json()) == MANIFEST


class TestOtherVersionsAreRead:
    def test_unknown_keys_are_ignored(self) -> None:
        record = json.loads(MANIFEST.to_json()) | {"schema": 2, "mood": "blue"}
        record["images"][0]["palette"] = ["red"]
        read = Manifest.from_json(json.dumps(record))
        assert read.schema == 2
        assert read.images == (IMAGE,)

    def test_only_what_makes_it_a_manifest_must_be_there(self) -> None:
        read = Manifest.from_json('{"seedream_task_id": "a", "images": []}')
        assert read.images == ()
        assert read.request is None


class TestABrokenManifestCountsAsNone:
    @pytest.mark.parametrize(
        "text",
        [
            b"",
            b"{",
            b"[]",
            b"null",
            b"\xff\xfe",
            b"{}",
            b'{"seedream_task_id": 7, "images": []}',
            b'{"seedream_task_id": "a", "images": [{"index": 1}]}',
            b"[" * 100_000,
        ],
    )
    def test_and_the_log_says_so(
        self,
        text: bytes,
        memory: ObjectStoragePath,
        log: logging.Logger,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        path = memory / "task_123-manifest.json"
        memory.fs.pipe_file(path.path, text)
        assert read_manifest(path, log) is None
        assert f"{path} is broken and counts as missing" in caplog.text

    def test_a_missing_one_is_no_cause_for_a_line(
        self, memory: ObjectStoragePath, log: logging.Logger, caplog: pytest.LogCaptureFixture
    ) -> None:
        assert read_manifest(memory / "manifest.json", log) is None
        assert caplog.text == ""


class TestAManifestIsPlacedLikeAnImage:
    def test_and_found_again(self, destination: ObjectStoragePath, log: logging.Logger) -> None:
        path = destination / "task_123-manifest.json"
        write_manifest(MANIFEST, path)
        assert read_manifest(path, log) == MANIFEST
