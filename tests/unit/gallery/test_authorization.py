"""Who may see what, with Airflow's own tokens and checks."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_seedream.storage.index import SAVED_KEY
from tests.support.metadata_rows import MetadataRows, saved_entry
from tests.unit.gallery.gallery_site import (
    PAGES,
    TASK,
    RightsPerDag,
)


class TestOnlyReadersOfTheDag:
    @pytest.mark.parametrize("path", PAGES)
    def test_see_its_pages_and_images(self, log_in: Any, saved: Any, path: str) -> None:
        assert log_in("art").get(path).status_code == 200
        assert log_in("other").get(path).status_code == 403
        assert log_in.nobody.get(path).status_code == 401

    @pytest.mark.parametrize("path", PAGES)
    def test_a_refusal_does_not_tell_whether_there_is_something(
        self, log_in: Any, saved: Any, path: str
    ) -> None:
        refusals = [
            log_in("other").get(one)
            for one in (path, path.replace("/r1", "/nothing"), path.replace("/art/", "/nothing/"))
        ]
        assert len({(answer.status_code, answer.text) for answer in refusals}) == 1
        assert "a fox" not in refusals[0].text

    def test_the_page_of_all_dags_lists_readable_ones_only(
        self, log_in: Any, saved: Any, rows: MetadataRows
    ) -> None:
        secret = {SAVED_KEY: saved_entry(prompt="our next product")}
        rows.task(rows.run("secret", "r1"), "draw", xcoms=secret)
        page = log_in("art").get("/").text
        assert "a fox" in page
        assert "our next product" not in page
        assert "secret" not in page
        assert "our next product" not in log_in("art").get("/?dag_id=secret").text
        assert "a fox" not in log_in("nothing").get("/").text
        assert log_in.nobody.get("/").status_code == 401

    def test_a_right_that_is_withdrawn_ends_with_the_next_request(self, log_in: Any, saved: Any) -> None:
        ann = log_in("art")
        answer = ann.get(TASK.make_thumbnail_path(1))
        assert answer.status_code == 200
        RightsPerDag.rights["ann"] = set()
        assert (
            ann.get(
                TASK.make_thumbnail_path(1), headers={"If-None-Match": answer.headers["ETag"]}
            ).status_code
            == 403
        )
        assert ann.get(TASK.make_file_path(1)).status_code == 403

    @pytest.mark.parametrize("token", ["", "x", "x.y.z"])
    def test_a_forged_token_is_refused(self, log_in: Any, saved: Any, token: str) -> None:
        for path in PAGES:
            answer = log_in.nobody.get(path, headers={"Authorization": f"Bearer {token}"})
            assert answer.status_code in (401, 403)

    def test_the_word_for_any_dag_opens_none(self, log_in: Any, saved: Any) -> None:
        for path in PAGES:
            assert log_in("art").get(path.replace("/art/", "/~/")).status_code in (403, 404)

    def test_a_dag_in_the_query_does_not_replace_that_of_the_path(self, log_in: Any, saved: Any) -> None:
        for path in PAGES:
            assert log_in("other").get(f"{path}?dag_id=other").status_code == 403
