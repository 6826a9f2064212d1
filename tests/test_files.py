"""Files are whole, have one writer, and a planted link leads nowhere."""

import multiprocessing

import pytest

from common.errors import DataError
from common.files import only_writer, replacing, write_whole


def test_a_planted_partial_file_is_not_written_through(tmp_path):
    victim = tmp_path / "victim.txt"
    victim.write_text("mine")
    (tmp_path / ".ages.partial.csv").symlink_to(victim)
    write_whole(tmp_path / "ages.csv", "path,age\n")
    assert victim.read_text() == "mine" and (tmp_path / "ages.csv").read_text() == "path,age\n"


def test_two_writers_at_once_have_a_file_each(tmp_path):
    with replacing(tmp_path / "a.csv") as first, replacing(tmp_path / "a.csv") as second:
        assert first != second
        first.write_text("1")
        second.write_text("2")
    assert (tmp_path / "a.csv").read_text() == "1"  # the outer one is put in place last, whole
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]


def test_a_failed_writing_leaves_the_old_file_and_no_other(tmp_path):
    write_whole(tmp_path / "a.csv", "old")
    with pytest.raises(RuntimeError), replacing(tmp_path / "a.csv") as whole:
        whole.write_text("half")
        raise RuntimeError
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.csv", "old")]


def _try_to_lock(path, answers):
    try:
        with only_writer(path):
            answers.put("locked")
    except DataError as error:
        answers.put(str(error))


def test_a_second_writer_is_told_in_one_sentence(tmp_path):
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    with only_writer(tmp_path / "set"):
        other = context.Process(target=_try_to_lock, args=(tmp_path / "set", answers))
        other.start()
        assert "is being written by another process" in answers.get(timeout=20)
        other.join()
    with only_writer(tmp_path / "set"):
        pass
