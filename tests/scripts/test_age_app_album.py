"""The tab Album: AlbumPipeline's own answer, faces grouped by recognition, names that stay with their faces."""

from datetime import date

import numpy as np
import pytest
import skimage.data
from PIL import Image

from AlbumPipeline.AlbumPipeline__infer2 import DEMO
from AlbumPipeline.AlbumPipeline__report import people_table, solve_table
from AlbumPipeline.AlbumPipeline__tables import make_album, read_faces_table
from AlbumPipeline.AlbumPipeline__weights import RELEASED, load_errors
from common.data.dates import decimal_year
from common.errors import DataError
from common.pipeline import AgePipeline
from scripts.page.album import album_faces, demo, files_of, people_of, photo_names, solve, stated_dates, suggested_name
from scripts.page.photos import Upload, Visit, Workshop
from scripts.page.timelines import points_of, timeline
from tests.scripts.test_age_app import png_of


@pytest.fixture(scope="module")
def visit():
    return Visit(Workshop(AgePipeline.from_weights(device="cpu")))


@pytest.fixture(scope="module")
def uploads():
    """The portrait of the demo in four years, and a photo of nobody."""
    image = Image.fromarray(skimage.data.astronaut())
    dated = [Upload(f"{2000 + turn}-05-01.png", png_of(image.rotate(2 * turn + 1))) for turn in range(4)]
    return [*dated, Upload("green.png", png_of(Image.new("RGB", (64, 64), "green")))]


def test_the_demo_is_that_of_the_command_line(visit):
    errors, _ = load_errors(RELEASED)
    faces, births, _ = read_faces_table(DEMO)
    solved = solve_table(make_album(faces, births, errors, date.today())[0], errors)
    assert people_table(demo(visit).solved, 0.9).equals(people_table(solved, 0.9))


def test_a_timeline_ends_today_and_says_the_years_of_the_table(visit):
    solved, today = demo(visit).solved, decimal_year(date.today())
    points = points_of(solved, 0)
    assert points["taken"].tolist() == [str(int(year)) for year in points["year"]]
    until = solved.ages.taken + today - points["year"].max()  # the last photo is of today
    later = solved._replace(ages=solved.ages._replace(taken=until))
    for album, last in ((solved, points["year"].max() + 1), (later, today)):
        layers = timeline(album, 0).to_dict()["layer"]
        domains = [layer["encoding"]["x"]["scale"]["domain"] for layer in layers if "scale" in layer["encoding"]["x"]]
        assert len(domains) == 2 and all(domain[1] == pytest.approx(last) for domain in domains)


def test_dated_photos_of_one_person_give_her_birth(visit, uploads):
    names = photo_names(uploads)
    faces = [face for upload in uploads for face in album_faces(visit, upload, names[upload.id])]
    (group,) = people_of(visit, uploads, faces)
    assert len(group) == 4 and [face.status for face in faces if not face.key] == ["no face found"]
    dates = {upload.id: stated_dates(upload, False) for upload in uploads}
    people = {face.key: "Eileen" for face in group}
    solved = solve(visit, faces, people, {}, dates).solved
    (person,) = people_table(solved, 0.9).to_dict("records")
    young = np.mean([face.estimate for face in group])
    assert person["person"] == "Eileen" and abs(2002 - young - person["birth_year"]) < 6
    stated = solve(visit, faces, people, {"Eileen": "1970"}, dates).solved
    assert people_table(stated, 0.9)["status"].tolist() == ["stated"]
    files = files_of(solved)
    assert list(files) == ["dates.csv", "people.csv", "faces.csv", "exiftool.csv"] and "Eileen" in files["people.csv"]
    with pytest.raises(DataError, match="No face has a name"):
        solve(visit, faces, {}, {}, dates)


def test_a_typed_name_stays_with_its_faces(visit, uploads):
    group = album_faces(visit, uploads[0], "a") + album_faces(visit, uploads[1], "b")
    assert suggested_name(visit, group, 2) == "person 3"
    visit.typed[f"name {group[0].key}"] = "Anna"
    assert suggested_name(visit, group[::-1], 0) == "Anna" and suggested_name(visit, group[1:], 0) == "person 1"


def test_photos_of_one_name_are_told_apart():
    same = [Upload("a.png", b"1"), Upload("a.png", b"2"), Upload("a.png (2)", b"3")]
    assert list(photo_names(same).values()) == ["a.png", "a.png (2)", "a.png (2) (2)"]
