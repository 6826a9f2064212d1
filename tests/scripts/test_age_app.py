"""The page: the same ages as infer2's, plain sentences for bad files, a personal bank; and in a real browser."""

import importlib.util
import shutil
import sys

import numpy as np
import pytest
import skimage.data
from PIL import ExifTags, Image

from common.data.predictions import OK
from common.errors import DataError
from common.files import WEIGHTS
from common.pipeline import AgePipeline
from DiffPipeline6.DiffPipeline6__infer2 import main as infer2
from scripts.age_app import Upload, age_at_photo, estimate_uploads, main, personal_bank
from scripts.page.server import PAGE
from tests.scripts.test_age_app_server import needs_streamlit, start_page

CHROMIUM = shutil.which("chromium")
QUIET = ("--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-sync")


@pytest.fixture(scope="module")
def pipeline():
    return AgePipeline.from_weights(device="cpu")


@pytest.fixture(scope="module")
def portrait(tmp_path_factory):
    """The public-domain portrait of the demo, as a file."""
    path = tmp_path_factory.mktemp("portrait") / "astronaut.png"
    Image.fromarray(skimage.data.astronaut()).save(path)
    return path


@pytest.mark.parametrize(("mode", "faces"), [("full", 1), ("bypass", 0)])
def test_the_page_says_what_infer2_says(pipeline, portrait, tmp_path, mode, faces):
    result = estimate_uploads([Upload("me.png", portrait.read_bytes())], pipeline, mode)
    words = ["--mode", mode, "--interval", "0.9", "--columns", "all", "--out", str(tmp_path / "ages.csv")]
    assert infer2([str(portrait), *words]) == 0
    expected = np.genfromtxt(tmp_path / "ages.csv", delimiter=",", names=True, dtype=None, encoding="utf-8")
    for name in ("age", "base_age", "interval_low", "interval_high"):
        assert result.table[name].item() == pytest.approx(expected[name].item(), abs=0.006)
    assert result.table["path"].tolist() == ["me.png"] and result.table["status"].tolist() == [OK]
    assert (len(result.photos), len(result.faces)) == (1, faces)
    assert all(picture.startswith(b"\x89PNG") for picture in result.photos + result.faces)


def test_a_bad_file_has_a_sentence_and_loses_nobody_else(pipeline, portrait):
    uploads = [Upload("a.jpg", b"hello"), Upload("same.png", portrait.read_bytes()), Upload("../same.png", b"")]
    table = estimate_uploads(uploads, pipeline, "full").table
    assert table["path"].tolist() == ["a.jpg", "same.png", "../same.png"]
    assert "not an image" in table["status"][0] and table["status"][1] == OK and "empty" in table["status"][2]


def test_dated_photos_of_the_person_move_the_estimate_towards_their_ages(pipeline, portrait):
    image, albums = Image.open(portrait), {}
    for shift in (-1, 1):  # photos of somebody who is always taken for 20 years younger, or older
        uploads = []
        for turn in range(4):
            path = portrait.with_name(f"{turn}.png")
            image.rotate(2 * turn + 1).save(path)
            data = path.read_bytes()
            said = estimate_uploads([Upload("x.png", data)], pipeline, "full").table["age"].item()
            uploads.append(Upload(path.name, data, max(1.0, said + 20 * shift)))
        bank, problems = personal_bank([*uploads, Upload("b.png", b"x", 30.0), Upload("c.png", data)], pipeline)
        assert len(bank) == 4 and len(problems) == 2 and "no age given" in problems[1]
        result = estimate_uploads([Upload("me.png", portrait.read_bytes())], pipeline, "full", bank)
        albums[shift] = result.table["age"].item()
    alone = estimate_uploads([Upload("me.png", portrait.read_bytes())], pipeline, "full").table["age"].item()
    assert albums[-1] < alone - 3 and albums[1] > alone + 3
    with pytest.raises(DataError, match="Not one of 1 images"):
        personal_bank([Upload("b.png", b"x", 30.0)], pipeline)


def test_age_from_birth_date_and_the_date_in_the_file(tmp_path):
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = "2007:06:30 12:00:00"
    Image.new("RGB", (20, 20)).save(tmp_path / "a.jpg", exif=exif)
    photo = Upload("a.jpg", (tmp_path / "a.jpg").read_bytes())
    assert age_at_photo(photo, "1987-06-30") == 20.0
    assert np.isnan(age_at_photo(photo, "")) and np.isnan(age_at_photo(Upload("b.jpg", b"x"), "1987-06-30"))


def test_without_streamlit_or_weights_one_sentence(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert main([]) == 2 and "requirements-app.txt" in capsys.readouterr().err
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    assert main(["--weights", str(tmp_path)]) == 2 and "no weights" in capsys.readouterr().err


@needs_streamlit
def test_the_page_corrects_by_dated_photos_and_warns_of_those_it_cannot_use(pipeline, portrait, monkeypatch):
    from streamlit.testing.v1 import AppTest

    monkeypatch.setattr(sys, "argv", [str(PAGE), str(WEIGHTS / "DiffPipeline6")])
    page = AppTest.from_file(str(PAGE), default_timeout=60).run()
    assert [box.label for box in page.file_uploader] == ["Photos", "Dated photos"] and not page.exception
    page.file_uploader[0].upload("me.png", portrait.read_bytes(), "image/png").run()
    alone = estimate_uploads([Upload("x.png", portrait.read_bytes())], pipeline, "full").table
    assert page.main.markdown[0].value.startswith(f"### {alone['age'].item():.1f} years")
    page.file_uploader[1].upload("old.png", portrait.read_bytes(), "image/png").run()
    assert [box.value for box in page.warning] == ["Not one of 1 images could be used; old.png: no age given."]
    page.radio[0].set_value("base estimate alone").run()
    assert page.main.markdown[0].value.startswith(f"### {alone['base_age'].item():.1f} years")
    assert len(page.file_uploader) == 1 and not page.exception


@pytest.fixture
def address(tmp_path):
    """The page, served on a free port."""
    server, address = start_page(tmp_path, "--max-mb", "1")
    yield f"http://{address}"
    server.terminate()
    server.wait(20)


@needs_streamlit
@pytest.mark.skipif(importlib.util.find_spec("playwright") is None, reason="playwright is not installed")
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
def test_in_a_browser_a_photo_gives_its_age_and_a_bad_file_a_sentence(address, portrait, pipeline, tmp_path):
    from playwright.sync_api import expect, sync_playwright

    (tmp_path / "text.jpg").write_text("hello")
    (tmp_path / "big.jpg").write_bytes(bytes(1_100_000))
    table = estimate_uploads([Upload("x.png", portrait.read_bytes())], pipeline, "full").table
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(QUIET))
        page = browser.new_page()
        asked = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(address)
        files = page.locator("input[type=file]").first
        files.set_input_files([portrait, tmp_path / "text.jpg", tmp_path / "big.jpg"], timeout=60_000)
        expect(page.locator("h3").first).to_contain_text(f"{table['age'].item():.1f} years", timeout=60_000)
        expect(page.get_by_text("text.jpg: this is not an image in a known format")).to_be_visible()
        expect(page.get_by_text("must be 1.0MB or smaller")).to_be_visible()
        with page.expect_download() as download:
            page.get_by_text("Download the table").click()
        assert "astronaut.png" in download.value.path().read_text()
        page.get_by_text("base estimate alone").click()
        expect(page.locator("h3").first).to_contain_text(f"{table['base_age'].item():.1f} years", timeout=60_000)
        page.screenshot(path=tmp_path / "page.png", full_page=True)
        browser.close()
    assert {url.split("/")[2] for url in asked if url.startswith("http")} == {address.removeprefix("http://")}
