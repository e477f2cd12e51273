"""Images that are there already are reused, kept or replaced, as the author chose."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_seedream.operators.seedream import (
    SeedreamDownloadOperator,
    SeedreamGenerateOperator,
)
from tests.support.airflow_tries import TaskTries
from tests.support.apixo import Apixo, Connect
from tests.support.purchases import bought, generate

pytestmark = pytest.mark.usefixtures("quick")


class TestIfExists:
    def task(self, tmp_path: Path, **arguments: Any) -> TaskTries:
        return generate(**{"destination": tmp_path.as_uri(), "max_images": 2, **arguments})

    @pytest.fixture(params=["{seedream_task_id}-{index}", "{fingerprint}-{index}", "refresh/hero-{index}"])
    def filename(self, request: pytest.FixtureRequest) -> str:
        return str(request.param)

    def test_a_refresh_with_the_same_request_costs_nothing(
        self, connected: Apixo, tmp_path: Path, filename: str
    ) -> None:
        first = self.task(tmp_path, filename=filename).run()
        again = self.task(tmp_path, filename=filename, if_exists="reuse").run()
        assert len(bought(connected)) == 1
        assert again["images"] == first["images"]
        assert again["manifest"] == first["manifest"]
        assert (again["reused"], again["cost_usd"], again["charged_usd"]) == (True, 0.0, 0.0)
        assert (first["reused"], first["cost_usd"]) == (False, 0.07)
        assert again.keys() == first.keys()

    def test_another_request_is_bought(self, connected: Apixo, tmp_path: Path, filename: str) -> None:
        self.task(tmp_path, filename=filename).run()
        result = self.task(tmp_path, filename=filename, if_exists="reuse", prompt="an owl").run()
        assert not result["reused"]
        assert len(bought(connected)) == 2

    def test_a_changed_image_is_bought_anew(self, connected: Apixo, tmp_path: Path, filename: str) -> None:
        self.task(tmp_path, filename=filename).run()
        image = next(tmp_path.rglob("*.png"))
        image.write_bytes(image.read_bytes()[:-1] + b"?")
        result = self.task(tmp_path, filename=filename, if_exists="reuse").run()
        assert not result["reused"]
        assert len(bought(connected)) == 2

    def test_fewer_images_than_wanted_are_no_result(self, connected: Apixo, tmp_path: Path) -> None:
        self.task(tmp_path, prompt="x [[deliver:1]]").run()
        assert self.task(tmp_path, prompt="x [[deliver:1]]", if_exists="reuse").run()["reused"]
        with pytest.raises(AirflowFailException, match="min_images=2"):
            self.task(tmp_path, prompt="x [[deliver:1]]", if_exists="reuse", min_images=2).run()
        assert len(bought(connected)) == 2

    def test_the_routing_is_part_of_the_request(
        self, connected: Apixo, tmp_path: Path, connect: Connect
    ) -> None:
        self.task(tmp_path).run()
        connect(host=connected.base_url, extra={"provider": "official"})
        assert not self.task(tmp_path, if_exists="reuse").run()["reused"]

    def test_replace_buys(self, connected: Apixo, tmp_path: Path, filename: str) -> None:
        self.task(tmp_path, filename=filename).run()
        assert not self.task(tmp_path, filename=filename).run()["reused"]
        assert len(bought(connected)) == 2

    def test_fail_says_what_is_there(self, connected: Apixo, tmp_path: Path, filename: str) -> None:
        self.task(tmp_path, filename=filename, if_exists="fail").run()
        with pytest.raises(AirflowFailException, match="already holds .*nothing was bought"):
            self.task(tmp_path, filename=filename, if_exists="fail").run()
        assert len(bought(connected)) == 1

    @pytest.mark.parametrize("if_exists", ["fail", "reuse"])
    def test_a_retry_takes_its_own_images_for_what_they_are(
        self, connected: Apixo, tmp_path: Path, filename: str, if_exists: str
    ) -> None:
        task = self.task(tmp_path, filename=filename, if_exists=if_exists)
        first = task.run()
        again = task.run()
        assert (again["seedream_task_id"], again["reused"]) == (first["seedream_task_id"], False)
        assert len(bought(connected)) == 1

    def test_unknown_words_are_refused_when_the_dag_is_parsed(self) -> None:
        for name in ("if_exists", "on_partial", "on_ambiguous_submit"):
            with pytest.raises(ValueError, match=f"{name}='maybe': must be one of"):
                SeedreamGenerateOperator(task_id="generate", prompt="x", **{name: "maybe"})

    def test_a_file_name_with_a_fingerprint_needs_a_request(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="fingerprint"):
            SeedreamDownloadOperator(
                task_id="download",
                urls=["https://example.com/a.png"],
                destination=tmp_path.as_uri(),
                filename="{fingerprint}-{index}",
            )
