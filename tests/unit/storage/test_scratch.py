from __future__ import annotations

import multiprocessing
import tempfile
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from airflow_provider_seedream.storage.scratch import PREFIX, make_scratch_folder


@pytest.fixture(autouse=True)
def temp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def hold(temp: str, tell: Connection) -> None:
    """A worker that downloads until it is killed."""
    tempfile.tempdir = temp
    with make_scratch_folder() as folder:
        (folder / "1").write_bytes(b"half an image")
        tell.send(str(folder))
        tell.recv()


@pytest.fixture
def other(temp: Path) -> Iterator[tuple[multiprocessing.process.BaseProcess, Path]]:
    """Another worker at work, and its folder."""
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=hold, args=(str(temp), theirs))
    process.start()
    try:
        yield process, Path(ours.recv())
    finally:
        process.kill()
        process.join()


class TestAFolderIsGoneAfterwards:
    def test_with_all_that_is_in_it(self, temp: Path) -> None:
        with make_scratch_folder() as folder:
            (folder / "sub").mkdir()
            (folder / "sub/1").write_bytes(b"x")
            assert folder.parent == temp
        assert list(temp.iterdir()) == []

    def test_after_an_error_too(self, temp: Path) -> None:
        with pytest.raises(KeyboardInterrupt), make_scratch_folder():
            raise KeyboardInterrupt
        assert list(temp.iterdir()) == []


class TestWhatAKilledWorkerLeftIsDeleted:
    def test_by_the_next_one_and_not_while_it_works(
        self, temp: Path, other: tuple[multiprocessing.process.BaseProcess, Path]
    ) -> None:
        process, theirs = other
        with make_scratch_folder():
            assert (theirs / "1").exists()
        process.kill()
        process.join()
        assert (theirs / "1").exists()
        with make_scratch_folder():
            assert not theirs.exists()

    def test_and_nothing_else_is(self, temp: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
        elsewhere = tmp_path_factory.mktemp("elsewhere")
        (elsewhere / "mine").write_bytes(b"x")
        (temp / f"{PREFIX}link").symlink_to(elsewhere)
        (temp / f"{PREFIX}file").write_bytes(b"x")
        (temp / "seedream-other").mkdir()
        before = set(temp.iterdir())
        with make_scratch_folder():
            pass
        assert set(temp.iterdir()) == before
        assert (elsewhere / "mine").exists()
