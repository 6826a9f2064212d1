import re
import subprocess
import sys

from PIL import Image

from common.files import REPOSITORY
from scripts.demo import HEIGHT, main

BORN = {"Bruno": 1918.7, "Clara": 1946.2, "Dora": 1949.9, "Frieda": 1979.6}  # by the simulation


def test_the_demo_shows_the_true_age_and_births_that_hold(tmp_path, capsys):
    assert main(["--out", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    age, low, high = (float(text) for text in re.search(r"age +([\d.]+) .*\n.*interval +(\d+) to (\d+)", said).groups())
    assert low <= age <= high and 18 < age < 60
    assert f"true age           42   {abs(age - 42):.0f} years off" in said
    for name, born in BORN.items():
        first, last = (int(year) for year in re.search(rf"{name} +born \d+ +90 %: (\d+) to (\d+)", said).groups())
        assert first - 0.5 < born < last + 1.5
    assert said.count("taken 19") == 5 and "box/040.jpg: Ada" in said and "box/024.jpg: Dora" in said
    assert Image.open(tmp_path / "demo.jpg").height == HEIGHT


def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["--out", str(tmp_path / "file")]) == 2
    assert capsys.readouterr().err.startswith("demo: The image cannot be written")


def test_a_reader_that_goes_away_costs_no_traceback():
    demo = subprocess.Popen(
        [sys.executable, "scripts/demo.py"], cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    demo.stdout.close()
    assert demo.stderr.read() == "" and demo.wait() == 0
