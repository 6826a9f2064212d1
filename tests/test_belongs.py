"""A short round of tests/belongs.py, and that its checks see a row that belongs to another image."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.belongs import Album, Wrong, check_bank, check_predictions, check_prepared, grow_bank, prepare, show

TESTS = Path(__file__).parent


def test_two_kills_and_edits_in_between_move_no_age_to_another_picture(capsys):
    show(2, 0, 12, [prepare, grow_bank])
    assert capsys.readouterr().out.endswith("2 commands killed; every age belongs to its image.\n")


@pytest.fixture(scope="module")
def album(tmp_path_factory):
    """Eight images, edited once."""
    album = Album(tmp_path_factory.mktemp("album"), 8, 0, 8)
    album.edit()
    return album


def table_of(album, **columns):
    """A manifest or predictions table that is right, but for `columns`."""
    names = list(album.ages)
    right = {"path": names, "id": [album.id_of(name) for name in names], "age": list(album.ages.values())}
    return pd.DataFrame(right | columns)


def exchanged(values):
    """The first two values exchanged."""
    return [values[1], values[0], *values[2:]]


@pytest.mark.parametrize("fault", ["", "id", "age", "crop", "path"])
def test_a_prepared_row_of_another_picture_is_seen(album, tmp_path, fault):
    table, crops = table_of(album), [album.crop(name) for name in album.ages]
    if fault in table.columns:
        table[fault] = exchanged(table[fault].tolist())
    table.to_csv(tmp_path / "manifest.csv", index=False)
    np.save(tmp_path / "crops.npy", np.stack(exchanged(crops) if fault == "crop" else crops))
    pd.DataFrame({"path": [], "reason": []}).to_csv(tmp_path / "left_out.csv", index=False)
    if fault:
        with pytest.raises(Wrong):
            check_prepared(album, tmp_path)
    else:
        check_prepared(album, tmp_path)


@pytest.mark.parametrize("fault", ["", "age", "estimate", "stranger", "missing"])
def test_a_reference_of_another_picture_is_seen(album, tmp_path, fault):
    names = list(album.ages)
    ids, ages = [album.id_of(name) for name in names], [album.ages[name] for name in names]
    estimates = [album.base_age(name) for name in names]
    parts = {"id": ids, "ages": ages, "estimates": estimates}
    if fault in ("age", "estimate"):
        parts[fault + "s"] = exchanged(parts[fault + "s"])
    if fault == "stranger":
        parts["id"] = ["0" * 40, *ids[1:]]
    if fault == "missing":
        parts = {name: part[1:] for name, part in parts.items()}
    np.savez(tmp_path / "bank.npz", **parts)
    if fault:
        with pytest.raises(Wrong):
            check_bank(album, tmp_path / "bank.npz", set(ids))
    else:
        check_bank(album, tmp_path / "bank.npz", set(ids))


@pytest.mark.parametrize("fault", ["", "id", "true_age", "base_age", "age", "path"])
def test_an_estimate_of_another_picture_is_seen(album, tmp_path, fault):
    names = list(album.ages)
    base, full = ([said(name) for name in names] for said in (album.base_age, album.corrected_age))
    table = table_of(album, true_age=list(album.ages.values()), base_age=base, age=full)
    if fault == "age":
        table["age"] += 0.05  # of every one: only a sample is compared
    elif fault:
        table[fault] = exchanged(table[fault].tolist())
    table.to_csv(tmp_path / "ages.csv", index=False, float_format="%.2f")
    if fault:
        with pytest.raises(Wrong):
            check_predictions(album, tmp_path / "ages.csv", names)
    else:
        check_predictions(album, tmp_path / "ages.csv", names)


def test_the_table_of_faults_names_tests_that_there_are():
    named = re.findall(r"`([\w/]+\.py)`", (TESTS / "README.md").read_text())
    missing = [file for file in named if file.startswith("test_") or "/test_" in file if not (TESTS / file).is_file()]
    assert len(named) > 20 and missing == []
