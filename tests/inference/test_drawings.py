"""Images of results say what the table says."""

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot
from PIL import Image

from common.errors import DataError, ImageError
from common.faces.images import load_image
from common.faces.photo_files import is_drawing
from common.inference import drawings, faces_drawn


@pytest.fixture
def written(monkeypatch):
    """The texts in the images that are drawn, in order."""
    texts = []

    def look(figure, path):
        for axis in figure.axes:
            legend = axis.get_legend()
            texts.extend(text.get_text() for text in [*axis.texts, *(legend.get_texts() if legend else [])])
        pyplot.close(figure)

    monkeypatch.setattr(drawings, "save_figure", look)
    return texts


@pytest.mark.parametrize(("interval", "said"), [((31.4, 50.6), True), ((np.nan, np.nan), False)])
def test_the_votes_are_drawn_with_the_interval_that_was_asked_for(written, tmp_path, interval, said):
    votes = pd.DataFrame({"age": [40.0, 44.0], "vote": [41.0, 42.0], "weight": [0.7, 0.3]})
    marks = {"base": 39.0, "corrected": 41.3}
    drawings.draw_votes(np.zeros((16, 16, 3), np.uint8), votes, marks, interval, tmp_path / "a.png")
    assert "base 39.0" in written and "corrected 41.3" in written
    assert ("interval 31 to 51" in written) == said


def table_of(*boxes: str) -> pd.DataFrame:
    count = len(boxes)
    return pd.DataFrame(
        {
            "path": "a.png", "face": range(count), "box": boxes, "status": ["ok", "doubtful", *["ok"] * count][:count],
            "age": [41.3, 7.6, *[30.0] * count][:count],
            "interval_low": [31.4, *[np.nan] * count][:count], "interval_high": [50.6, *[np.nan] * count][:count],
        }
    )  # fmt: skip


def test_labels_say_ages_intervals_numbers_and_doubt():
    assert drawings.labels_of(table_of("1 1 5 5")) == ["41 years (31-51)"]
    assert drawings.labels_of(table_of("1 1 5 5", "6 1 9 5")) == ["0: 41 (31-51)", "1: 8?"]


def test_photos_are_drawn_at_their_own_size_and_never_read_again(tmp_path, monkeypatch, capsys):
    Image.fromarray(np.full((300, 400, 3), 200, np.uint8)).save(tmp_path / "photo.png")
    table = table_of("50 100 150 220", "", "250 100 350 220").assign(path="ph\\udcff.png")
    table.loc[1, ["age", "status"]] = np.nan, "no face found"
    files = {"ph\\udcff.png": str(tmp_path / "photo.png")}
    drawings.draw_photos(table, files, tmp_path / "out")
    drawn = tmp_path / "out" / "0000_ph\\udcff.jpg"
    assert str(drawn) in capsys.readouterr().out
    with Image.open(drawn) as image:
        assert image.size == (400, 300) and image.info["comment"] == b"age-by-difference"
    assert is_drawing(drawn.read_bytes())
    with pytest.raises(ImageError, match="is a drawing of age-by-difference itself"):
        load_image(drawn)


def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="The image cannot be written to"):
        drawings.save_drawing(Image.new("RGB", (20, 20)), tmp_path / "file" / "a.jpg")


def test_an_image_too_long_for_a_jpeg_is_shrunk(tmp_path):
    drawings.save_drawing(Image.new("RGB", (70_000, 20)), tmp_path / "a.jpg")
    with Image.open(tmp_path / "a.jpg") as image:
        assert image.size == (65_500, 19)


@pytest.mark.parametrize(
    ("size", "boxes"),
    [
        ((675, 675), [(200, 180, 440, 480)]),
        ((150, 150), [(50, 40, 100, 110)]),
        ((1000, 800), [(left, top, left + 60, top + 80) for top in (10, 300, 700) for left in range(20, 940, 110)]),
        ((900, 900), [(300, 200, 700, 700), *[(left, 20, left + 40, 70) for left in range(10, 860, 60)]]),
    ],
)
def test_labels_overlap_nothing_and_lie_inside(size, boxes):
    taken = list(boxes)
    for number, box in enumerate(boxes):
        place, text, font = faces_drawn.place_label(f"{number}: 41 (31-51)", box, taken, size)
        assert place[0] >= 0 and place[1] >= 0 and place[2] <= size[0] and place[3] <= size[1]
        assert sum(faces_drawn.common_area(place, other) for other in taken) == 0
        assert text.startswith(f"{number}: 41") and font.size >= 12
        taken.append(place)


def test_letters_grow_with_the_face_and_are_drawn_beside_it():
    small, large = (faces_drawn.font_sizes((0, 0, side, side), (2000, 1500))[0] for side in (100, 400))
    assert small == pytest.approx(33.3, abs=0.1) and large == pytest.approx(80)
    before = Image.new("RGB", (400, 300), (200, 200, 200))
    after = np.asarray(faces_drawn.draw_faces(before, [((150, 100, 250, 220), "41 years")]))
    assert (np.asarray(before) == 200).all()
    changed = (after != 200).any(axis=2)
    assert not changed[105:215, 156:245].any() and changed[60:98, 130:270].any()


def test_a_face_that_fills_the_photo_still_has_a_label_inside():
    image = faces_drawn.draw_faces(Image.new("RGB", (120, 120)), [((0, 0, 119, 119), "41 years (31-51)")])
    assert image.size == (120, 120) and (np.asarray(image) == (238, 119, 51)).all(axis=2).sum() > 300
