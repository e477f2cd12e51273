"""The table of models holds together: what can be ordered has a size, and sizes fit their ratios."""

from __future__ import annotations

import pytest

from airflow_provider_seedream.apixo.model import MODELS, Model, Range

RATIOS = ("1:1", "2:3", "3:2", "3:4", "4:3", "9:16", "16:9", "21:9")


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
class TestEveryModel:
    def test_draws_each_ratio_in_each_resolution(self, model: Model) -> None:
        assert model.aspect_ratios == RATIOS
        assert all(tuple(one.sizes) == RATIOS for one in model.resolutions.values())

    def test_draws_sizes_of_the_ratio_that_they_are_named_after(self, model: Model) -> None:
        for resolution in model.resolutions.values():
            for ratio, (width, height) in resolution.sizes.items():
                across, down = map(int, ratio.split(":"))
                assert width / height == pytest.approx(across / down, rel=0.02)

    def test_is_polled_no_earlier_than_it_can_be_done_and_ends_before_the_images_go(
        self, model: Model
    ) -> None:
        for resolution in model.resolutions.values():
            pace = resolution.pace
            assert pace.first_poll <= resolution.typical_seconds.low
            assert 0 < pace.interval_low <= pace.interval_high < model.upstream_timeout
        assert model.upstream_timeout < model.result_lifetime


def test_a_range_holds_both_its_ends() -> None:
    assert [value in Range(1, 10) for value in (0, 1, 10, 11)] == [False, True, True, False]
    assert str(Range(1, 10)) == "1-10"
