"""Every page of the gallery has one path, which no id can break."""

from __future__ import annotations

import pytest

from airflow_provider_seedream.urls import TaskAddress, is_id, make_run_path, read_base_path

TASK = TaskAddress("art", "manual__2026-01-01T00:00:00+00:00", "draw")
RUN = "/dags/art/runs/manual__2026-01-01T00%3A00%3A00%2B00%3A00"


def test_a_run_a_task_and_an_image_are_nested() -> None:
    assert make_run_path(TASK.dag_id, TASK.run_id) == RUN
    assert TASK.path == f"{RUN}/tasks/draw/-1"
    assert TASK.make_image_path(2) == f"{RUN}/tasks/draw/-1/images/2"
    assert TASK.make_thumbnail_path(2) == f"{RUN}/tasks/draw/-1/images/2/thumbnail"
    assert TASK.make_file_path(2) == f"{RUN}/tasks/draw/-1/images/2/file"


def test_airflows_own_page_names_a_map_index_only_where_there_is_one() -> None:
    mapped = TaskAddress("art", TASK.run_id, "draw", 3)
    assert TASK.tab == f"{RUN}/tasks/draw/plugin/seedream-task"
    assert mapped.tab == f"{RUN}/tasks/draw/mapped/3/plugin/seedream-task"


@pytest.mark.parametrize("strange", ["a/b", "..", "a?b#c", "a b", "a%2Fb", "狐"])
def test_no_id_leads_to_another_page(strange: str) -> None:
    path = TaskAddress(strange, strange, strange).path
    assert path.count("/") == 7
    assert path.isascii()
    assert not set(path) & set("?# ")


def test_a_log_line_cannot_be_forged() -> None:
    assert TaskAddress("a\nERROR", "r", "t").in_words == "dag 'a\\nERROR', run 'r', task 't', map index -1"


@pytest.mark.parametrize(
    ("base_url", "path"),
    [
        ("", ""),
        ("https://airflow.example.com", ""),
        ("https://airflow.example.com/", ""),
        ("https://example.com/airflow/", "/airflow"),
    ],
)
def test_airflow_may_be_served_below_a_path(
    monkeypatch: pytest.MonkeyPatch, base_url: str, path: str
) -> None:
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", base_url)
    assert read_base_path() == path


@pytest.mark.parametrize("text", ["a\0b", "\ud800", "a\udfff", None, 7])
def test_what_no_database_takes_is_no_id(text: object) -> None:
    assert not is_id(text)
    assert is_id("draw_狐.1~\U0001f98a")
