"""The page: the same ages as infer2's, plain sentences for bad files, own references; and in a real browser."""

import importlib.util
import io
import shutil
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import skimage.data
from PIL import ExifTags, Image

from common.difference.bank import load_bank
from common.errors import WeightsError
from common.files import WEIGHTS
from common.inference.estimates import Face, FaceAge
from common.pipeline import AgePipeline
from DiffPipeline6.DiffPipeline6__infer2 import main as infer2
from scripts.age_app import main
from scripts.page.cards import STYLE, card, complaint, photo_row, text_of
from scripts.page.photos import Found, Upload, Visit, Workshop
from scripts.page.references import NO_AGE, References, age_at_photo, own_references, packed, with_kept
from scripts.page.server import PAGE
from tests.scripts.test_age_app_server import left, needs_streamlit, start_page

CHROMIUM = shutil.which("chromium")
QUIET = ("--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-sync")
HOSTILE = "![x](http://example.com/x.png) <img src=http://example.com/y.png>.png"


def png_of(image: Image.Image) -> bytes:
    """The bytes of an image as PNG."""
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture(scope="module")
def workshop():
    return Workshop(AgePipeline.from_weights(device="cpu"))


@pytest.fixture(scope="module")
def astronaut():
    """The public-domain portrait of the demo."""
    return Image.fromarray(skimage.data.astronaut())


@pytest.fixture(scope="module")
def portrait(astronaut):
    return png_of(astronaut)


@pytest.fixture(scope="module")
def turned(astronaut):
    """The portrait turned by a few degrees: four other photos of one person."""
    return [Upload(f"{turn}.png", png_of(astronaut.rotate(2 * turn + 1))) for turn in range(4)]


@pytest.mark.parametrize("mode", ["full", "bypass"])
def test_the_page_says_what_infer2_says_and_writes_no_file(workshop, portrait, tmp_path, monkeypatch, mode):
    (tmp_path / "me.png").write_bytes(portrait)
    words = ["--mode", mode, "--interval", "0.9", "--columns", "all", "--out", str(tmp_path / "ages.csv")]
    assert infer2([str(tmp_path / "me.png"), *words]) == 0
    expected = np.genfromtxt(tmp_path / "ages.csv", delimiter=",", names=True, dtype=None, encoding="utf-8")

    def refuse(*given, **named):
        raise AssertionError("a temporary file")

    for name in ("mkstemp", "mkdtemp", "NamedTemporaryFile", "TemporaryFile"):
        monkeypatch.setattr(tempfile, name, refuse)
    (face,) = Visit(workshop).ages(Upload("me.png", portrait), mode)
    for ours, theirs in (("age", "age"), ("base_age", "base_age"), ("low", "interval_low"), ("high", "interval_high")):
        assert getattr(face, ours) == pytest.approx(expected[theirs].item(), abs=0.006)
    assert (face.photo, face.status, face.evidence is not None) == ("me.png", "ok", mode == "full")


def test_a_bad_file_and_an_odd_name_cost_a_sentence_and_lose_nobody_else(workshop, portrait):
    visit, long = Visit(workshop), "x" * 251 + ".png"
    told = [visit.ages(Upload(name, data), "full")[0].status for name, data in
            (("a.jpg", b"hello"), (long, portrait), ("../b.png", b""), ("c\0.png", portrait + b" "))]  # fmt: skip
    assert "not an image" in told[0] and told[1] == told[3] == "ok" and "empty" in told[2]


def test_nothing_is_estimated_twice(workshop, portrait, monkeypatch):
    visit = Visit(workshop)
    first = visit.ages(Upload("a.png", portrait), "full")
    for name in ("find", "estimate"):
        monkeypatch.setattr(Workshop, name, lambda *given, **named: pytest.fail("computed again"))
    (again,) = visit.ages(Upload("b.png", portrait), "full")
    assert again.photo == "b.png" and again.age == first[0].age
    assert visit.found(Upload("c.png", portrait)).faces[0].known.photo == "c.png"


def test_many_visits_at_once_answer_as_one(workshop, turned):
    def ages(number: int) -> list[float]:
        visit = Visit(workshop)
        return [visit.ages(turned[(number + place) % 4], "full")[0].age for place in range(4)]

    with ThreadPoolExecutor(8) as pool:
        answers = [np.roll(given, number) for number, given in enumerate(pool.map(ages, range(8)))]
    assert np.ptp(answers, axis=0).max() < 1e-4


def test_own_references_move_an_age_as_the_kept_bank_does(workshop, portrait, turned, tmp_path):
    visit, me, moved = Visit(workshop), Upload("me.png", portrait), {}
    (alone,) = visit.ages(me, "full")
    for shift in (-1, 1):  # photos of somebody who is always taken for 20 years younger, or older
        said = {one.id: max(1.0, visit.ages(one, "full")[0].age + 20 * shift) for one in turned}
        bad = Upload("bad.png", b"x"), Upload("undated.png", portrait + b"1")
        kept = own_references(visit, [*turned, *bad], said | {bad[0].id: 30.0, bad[1].id: None}, "you", True)
        assert "not an image" in kept.problems[bad[0].id] and kept.problems[bad[1].id] == NO_AGE
        assert len(kept.own.bank) == len(kept.faces) == 4
        estimates = visit.with_own([me], "full", kept.own)
        moved[shift] = estimates.faces[0].age
        assert kept.own.person == "you" and estimates.notes[0] == "recognised as you: 1 of 1 faces"  # strangers stay
        assert estimates.notes[1].startswith("4 references of yours (4 of you) ch")
    assert moved[-1] < alone.age - 3 and moved[1] > alone.age + 3
    (tmp_path / "kept.npz").write_bytes(packed(kept.own.bank))
    assert load_bank(tmp_path / "kept.npz", workshop.pipeline.base.fingerprint).ages.tolist() == list(
        kept.own.bank.ages
    )
    (face,) = workshop.pipeline.estimate(np.asarray(skimage.data.astronaut()), tmp_path / "kept.npz", "you")
    assert face.age == pytest.approx(moved[1], abs=0.01)
    nothing = References(None, [], {})
    again = with_kept(visit, nothing, "kept.npz", packed(kept.own.bank), "You")
    assert visit.with_own([me], "full", again.own).faces[0].age == pytest.approx(moved[1], abs=0.01)
    assert len(with_kept(visit, kept, "kept.npz", packed(kept.own.bank), "you").own.bank) == 4  # the same ones once
    for data, told in (
        (b"x" * 100, "kept.npz cannot be read as a reference bank"),
        (packed(replace(kept.own.bank, fingerprint="0" * 40)), "kept.npz was made with other base weights"),
    ):
        with pytest.raises(WeightsError, match=told):
            with_kept(visit, nothing, "kept.npz", data, "you")


def test_references_near_the_estimates_are_said_to_change_little(workshop, portrait, turned):
    visit = Visit(workshop)
    said = {one.id: visit.ages(one, "full")[0].age for one in turned[:2]}
    kept = own_references(visit, turned[:2], said, "you", False)
    estimates = visit.with_own([Upload("me.png", portrait)], "full", kept.own)
    assert estimates.notes[0].startswith("2 references of yours (2 of you) changed 1 face by ")
    assert abs(estimates.faces[0].age - estimates.faces[0].base_age) < 1
    assert own_references(visit, turned[:1], {turned[0].id: None}, "you", False).own is None


def test_age_from_birth_date_and_the_date_in_the_file():
    exif, stream = Image.Exif(), io.BytesIO()
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = "2007:06:30 12:00:00"
    exif[ExifTags.Base.DateTime] = "2010:01:01 12:00:00"
    Image.new("RGB", (20, 20)).save(stream, "JPEG", exif=exif)
    photo, birth = Upload("a.jpg", stream.getvalue()), "1987-06-30"
    assert age_at_photo(photo, birth) == 20.0 and photo.exif[0][:10] == "2007:06:30"
    assert age_at_photo(photo, "") is None and age_at_photo(photo, "1987") == 20.0
    assert age_at_photo(Upload("b.jpg", b"x"), birth) is None
    assert age_at_photo(Upload("1997-06-30.jpg", b"x"), birth) == 10.0 and Upload("b.jpg", b"x").exif == ("", "")


def test_nothing_in_a_name_is_markup(workshop, portrait):
    visit, upload = Visit(workshop), Upload(HOSTILE, portrait)
    row = photo_row(upload.name, visit.found(upload), visit.ages(upload, "full"))
    assert "<img src=http" not in row and row.count("<img ") == 2 and "&lt;img src=http" in row
    assert f'alt="{text_of(HOSTILE)}: 1 face in numbered boxes"' in row and "Why?" in row and "http" not in STYLE
    assert text_of('a\0<b>"') == "a\\x00&lt;b&gt;&quot;"


def test_a_photo_of_two_has_two_cards_and_numbers(workshop, astronaut):
    both = Image.new("RGB", (1100, 512))
    both.paste(astronaut, (0, 0))
    both.paste(astronaut.resize((400, 400)), (600, 60))
    visit, upload = Visit(workshop), Upload("two.png", png_of(both))
    found = visit.found(upload)
    assert isinstance(found, Found) and sum(isinstance(face, Face) for face in found.faces) == 2
    row = photo_row(upload.name, found, visit.ages(upload, "full"))
    assert row.count("<article") == 2 and ", face 2</small>" in row
    assert max(Image.open(io.BytesIO(found.picture)).size) == 720


def test_a_face_that_hardly_shows_an_age_and_one_that_is_nobody_known_say_so():
    face = FaceAge("a.jpg", 0, base_age=64.0, age=64.0, low=0.0, high=120.0)
    assert "nearly any is possible" in card(0, face, None, b"")
    sure = replace(face, low=50.0, high=80.0)
    assert "nearly any" not in card(0, sure, None, b"")
    assert "your photos change nothing here" in card(0, sure, sure, b"")
    assert "with your photos 64 → 60, as you" in card(0, sure, replace(sure, age=60.0, references=2, person="you"), b"")


@pytest.mark.parametrize(
    ("text", "wrong"), [("1960", False), ("1970s", False), ("around 60", True), ("2020-13-40", True)]
)
def test_a_date_that_cannot_be_read_is_said_where_it_is_typed(text, wrong):
    assert bool(complaint(text)) == wrong


@pytest.mark.parametrize("words", [[], ["--api"]])
def test_without_the_packages_or_weights_one_sentence(monkeypatch, tmp_path, capsys, words):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert main(words) == 2 and "requirements-app.txt" in capsys.readouterr().err
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    assert main([*words, "--weights", str(tmp_path)]) == 2 and "no weights" in capsys.readouterr().err


@needs_streamlit
def test_a_typed_age_stays_with_its_photo(turned, monkeypatch):
    from streamlit.testing.v1 import AppTest

    monkeypatch.setattr(sys, "argv", [str(PAGE), str(WEIGHTS / "DiffPipeline6")])
    page = AppTest.from_file(str(PAGE), default_timeout=60).run()
    assert [tab.label for tab in page.tabs] == ["Ages", "References", "Album"] and not page.exception
    files = [(one.name, one.data, "image/png") for one in turned[:3]]
    page.file_uploader[1].set_value(files).run()
    for box, age in zip(page.number_input, (20.0, 30.0, 40.0), strict=True):
        box.set_value(age)
    page.run()
    assert [box.value for box in page.number_input] == [20.0, 30.0, 40.0] and not page.exception
    page.file_uploader[1].set_value([files[2], files[1]]).run()  # the first one is gone, the others changed places
    assert [box.value for box in page.number_input] == [40.0, 30.0] and not page.exception


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
def test_in_a_browser_each_tab_answers_and_another_visit_sees_nothing(
    address, portrait, turned, workshop, tmp_path_factory, tmp_path
):
    from playwright.sync_api import expect, sync_playwright

    (face,) = Visit(workshop).ages(Upload("x.png", portrait), "full")
    files = [{"name": HOSTILE, "mimeType": "image/png", "buffer": portrait},
             {"name": "text.jpg", "mimeType": "image/jpeg", "buffer": b"hello"},
             {"name": "big.jpg", "mimeType": "image/jpeg", "buffer": bytes(1_100_000)}]  # fmt: skip
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(QUIET))
        page, asked = browser.new_context(viewport={"width": 390, "height": 800}).new_page(), []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(address)
        page.locator("input[type=file]").first.set_input_files(files, timeout=60_000)
        expect(page.locator(".age-years").first).to_contain_text(f"{face.age:.0f} years", timeout=60_000)
        expect(page.get_by_text("this is not an image in a known format")).to_be_visible()
        expect(page.get_by_text("must be 1.0MB or smaller")).to_be_visible()
        page.get_by_text("Why?").first.click()
        expect(page.get_by_text("references of similar faces vote for").first).to_be_visible()
        with page.expect_download() as download:
            page.get_by_text("Download CSV").click()
        assert "example.com" in download.value.path().read_text(encoding="utf-8-sig")
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        page.get_by_role("tab", name="Album").click()
        album = [{"name": f"{2000 + n}-05-01.png", "mimeType": "image/png", "buffer": one.data}
                 for n, one in enumerate(turned)]  # fmt: skip
        page.locator("input[type=file]").nth(3).set_input_files(album)
        expect(page.get_by_text("Download dates.csv")).to_be_visible(timeout=60_000)
        other = browser.new_context().new_page()
        other.goto(address)
        expect(other.get_by_text("Try an album")).to_be_visible(timeout=60_000)
        assert other.locator(".age-years").count() == 0 and other.get_by_text("example.com").count() == 0
        browser.close()
    assert {url.split("/")[2] for url in asked if url.startswith("http")} == {address.removeprefix("http://")}
    assert left(tmp_path) == []
