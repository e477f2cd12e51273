"""A manifest with one image."""

from __future__ import annotations

from airflow_provider_seedream.storage.manifest import Manifest, SavedImage, TaskRecord

IMAGE = SavedImage(
    index=1,
    path="s3://aws@bucket/images/task_123-1.png",
    name="task_123-1.png",
    url="https://r2.apixo.ai/img1.png",
    bytes=12345,
    sha256="0" * 64,
    format="png",
    width=2048,
    height=2048,
)
TASK = TaskRecord(
    seedream_task_id="task_123",
    model="seedream-4-5",
    request={"prompt": "ein Fuchs, \N{FOX FACE}", "max_images": 1},
    requested=1,
    cost_usd=0.035,
    created_at="2026-11-22T06:00:00+00:00",
    dag_id="refresh",
    map_index=-1,
)
MANIFEST = Manifest.of(TASK, (IMAGE,), "2026-11-22T06:01:00+00:00")
