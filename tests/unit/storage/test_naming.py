from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_seedream.errors import InvalidRequestError
from airflow_provider_seedream.storage.naming import (
    DEFAULT_TEMPLATE,
    MAX_NAME_BYTES,
    FileNames,
    check_template,
    depends_on_task,
    is_safe_name,
    make_manifest_patterns,
    make_urls_id,
)

FINGERPRINT = "0123456789abcdef" * 4


def names(
    template: str = DEFAULT_TEMPLATE, task_id: str = "task_123", fingerprint: str | None = FINGERPRINT
) -> FileNames:
    return FileNames(template, task_id, fingerprint)


class TestNamesSayWhichImageOfWhichTask:
    @pytest.mark.parametrize(
        ("template", "name"),
        [
            (DEFAULT_TEMPLATE, "task_123-2.png"),
            ("hero-{index:02d}", "hero-02.png"),
            ("{seedream_task_id}/{index}", "task_123/2.png"),
            ("hero-{index}.{ext}", "hero-2.png"),
            (
                "Kaffee & Kuchen 2026-11-22T06:00:00+00:00 {index}",
                "Kaffee & Kuchen 2026-11-22T06:00:00+00:00 2.png",
            ),
            ("hero", "hero.png"),
            ("{fingerprint}/{index}", "0123456789abcdef/2.png"),
        ],
    )
    def test_the_template_is_filled_and_the_true_extension_added(self, template: str, name: str) -> None:
        assert names(template).name_image(2, "png") == name

    def test_the_extension_is_what_the_bytes_are(self) -> None:
        assert names("hero.{ext}").name_image(1, "webp") == "hero.webp"


class TestTheManifestStandsBesideItsImages:
    @pytest.mark.parametrize(
        ("template", "name"),
        [
            (DEFAULT_TEMPLATE, "task_123-manifest.json"),
            ("hero-{index}", "hero-manifest.json"),
            ("hero-{index:02d}.{ext}", "hero-manifest.json"),
            ("{index}", "manifest.json"),
            ("hero", "hero-manifest.json"),
            ("{seedream_task_id}/{index}", "task_123/manifest.json"),
            ("hero-{fingerprint}-{index}", "hero-0123456789abcdef-manifest.json"),
        ],
    )
    def test_one_name_for_the_whole_group(self, template: str, name: str) -> None:
        assert names(template).manifest == name


class TestNamesAreKnownBeforeThePurchase:
    @pytest.mark.parametrize(
        ("template", "depends"),
        [
            ("hero-{index}", False),
            ("{fingerprint}/{index}", False),
            (DEFAULT_TEMPLATE, True),
            ("{seedream_task_id:}/{index}", True),
        ],
    )
    def test_unless_they_hold_the_task_id(self, template: str, depends: bool) -> None:
        assert depends_on_task(template) is depends

    def test_all_that_a_task_may_write(self) -> None:
        assert set(names("{index}/hero").list_possible(2)) == {
            "manifest/hero.json",
            *(f"{index}/hero.{ending}" for index in (1, 2) for ending in ("png", "jpg", "webp")),
        }


class TestManifestsOfAllTasksAreRecognised:
    @pytest.mark.parametrize(
        "template", [DEFAULT_TEMPLATE, "a+b {seedream_task_id}.{fingerprint}/x{seedream_task_id}{index}"]
    )
    @given(st.text(max_size=100) | st.sampled_from(["..", "task_1", "a" * 999]))
    def test_whatever_their_ids(self, template: str, task_id: str) -> None:
        parts = names(template, task_id).manifest.split("/")
        patterns = make_manifest_patterns(template, FINGERPRINT)
        assert len(patterns) == len(parts)
        assert all(pattern.fullmatch(part) for pattern, part in zip(patterns, parts, strict=True))

    @pytest.mark.parametrize(
        ("template", "other"),
        [
            (DEFAULT_TEMPLATE, "task_1-1.json"),
            (DEFAULT_TEMPLATE, ".task_1-manifest.json"),
            (DEFAULT_TEMPLATE, "-manifest.json"),
            (DEFAULT_TEMPLATE, "sub/task_1-manifest.json"),
            ("a.b-" + DEFAULT_TEMPLATE, "axb-task_1-manifest.json"),
            ("{fingerprint}-" + DEFAULT_TEMPLATE, "ffffffffffffffff-task_1-manifest.json"),
        ],
    )
    def test_and_nothing_else_is(self, template: str, other: str) -> None:
        (pattern,) = make_manifest_patterns(template, FINGERPRINT)
        assert not pattern.fullmatch(other)


class TestAFingerprintInANameMustBeOne:
    @pytest.mark.parametrize("fingerprint", [None, "", "0123456789", "../../../../etc/passwd", "F" * 64])
    def test_a_template_that_needs_one_is_refused(self, fingerprint: str | None) -> None:
        with pytest.raises(InvalidRequestError, match=r"needs the fingerprint.* Use \{seedream_task_id\}"):
            names("{fingerprint}-{index}", fingerprint=fingerprint)
        assert names(fingerprint=fingerprint).name_image(1, "png") == "task_123-1.png"

    def test_before_anything_runs_where_it_is_known_that_there_is_none(self) -> None:
        check_template("{fingerprint}-{index}")
        with pytest.raises(InvalidRequestError, match="plain URLs"):
            check_template("{fingerprint}-{index}", has_fingerprint=False)


class TestTemplatesAreRefusedBeforeMoneyIsSpent:
    @pytest.mark.parametrize(
        ("template", "says"),
        [
            (None, "non-empty string"),
            (7, "non-empty string"),
            ("", "non-empty string"),
            ("{index", "cannot be read"),
            ("index}", "cannot be read"),
            ("{}", "unknown placeholder"),
            ("{prompt}-{index}", "unknown placeholder {prompt}"),
            ("{seedream_task_id.__class__}", "unknown placeholder"),
            ("{index[0]}", "unknown placeholder"),
            ("{index!r}", "not allowed"),
            ("{index:99999999d}", "not allowed"),
            ("{index:3}", "not allowed"),
            ("{index:{ext}}", "doubled brace"),
            ("{seedream_task_id:>50}", "not allowed"),
            ("{fingerprint:.99}", "not allowed"),
            ("{ext}/{index}", "elsewhere than at its end"),
            ("{{index}}", "doubled brace"),
            ("{{ ds }}-{index}", "Render Jinja first"),
            ("{% if x %}{index}", "Render Jinja first"),
            ("/data/{index}", "relative"),
            ("C:/{index}", "relative"),
            ("a//{index}", "relative"),
            ("{index}/", "dot"),
            ("../{index}", "leave the destination"),
            ("a/../../{index}", "leave the destination"),
            (".hidden-{index}", "dot"),
            ("a\\{index}", "the character"),
            ("a*{index}", "the character"),
            ("s3://other/{index}", "relative"),
            ("a::b{index}", "the character"),
            ("a\n{index}", "control character"),
            ("a\u202egnp.{index}", "control character"),
            ("a\ud800{index}", "control character"),
            (" {index}", "space"),
            ("a /{index}", "space"),
            ("x" * 200 + "{index}", "longer than 200 bytes"),
            ("x" * 180 + "{fingerprint}", "longer than 200 bytes"),
            ("\N{SNOWMAN}" * 70 + "{index}", "longer than 200 bytes"),
            ("hero-{index}.png", "extension follows the bytes"),
            ("hero-{index}.JPEG", "extension follows the bytes"),
            ("hero-{index}.png.{ext}", "extension follows the bytes"),
        ],
    )
    def test_each_with_its_rule(self, template: object, says: str) -> None:
        with pytest.raises(InvalidRequestError) as refused:
            check_template(template, images=None)
        assert says in str(refused.value)
        assert {problem.field for problem in refused.value.problems} == {"filename"}

    def test_several_images_need_several_names(self) -> None:
        with pytest.raises(InvalidRequestError, match=r"4 images one name. Add \{index\}"):
            check_template("hero", images=4)
        check_template("hero", images=1)
        check_template("hero", images=None)


class TestAHostileTaskIdCannotChooseThePath:
    @given(
        st.text(max_size=300)
        | st.sampled_from(["..", "../../etc/passwd", "/", "", "a/b", ".", "CON", "a" * 999])
    )
    def test_its_part_of_the_name_stays_one_harmless_part(self, task_id: str) -> None:
        image = names("{seedream_task_id}", task_id).name_image(1, "png")
        assert set(image) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
        assert not image.startswith(".")
        assert len(image.encode()) <= MAX_NAME_BYTES

    def test_ids_that_clean_up_alike_are_still_told_apart(self) -> None:
        ids = ["a/b", "a?b", "a_b", "x" * 80, "x" * 81, "..", "...", ""]
        assert len({names(task_id=task_id).name_image(1, "png") for task_id in ids}) == len(ids)


class TestPlainUrlsHaveAStableId:
    def test_the_same_for_the_same_urls_in_the_same_order(self) -> None:
        assert make_urls_id(["a", "b"]) == make_urls_id(["a", "b"])
        assert len({make_urls_id(urls) for urls in (["a", "b"], ["b", "a"], ["ab"], ["a"])}) == 4
        assert make_urls_id(["a"]).startswith("urls-")
        assert len(make_urls_id(["a"])) == 17


class TestANameFromAManifestIsRead:
    @pytest.mark.parametrize("name", ["task_1-1.png", "shop/a mug-1.webp"])
    def test_where_a_task_may_have_given_it(self, name: str) -> None:
        assert is_safe_name(name)

    @pytest.mark.parametrize(
        "name", ["../a.png", "/a.png", "a//b.png", ".hidden/a.png", "C:a.png", "a\n.png", "a*"]
    )
    def test_and_refused_where_it_leads_elsewhere(self, name: str) -> None:
        assert not is_safe_name(name)
