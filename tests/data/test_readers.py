"""Every reader on a miniature copy of its set, made from the published names and tables."""

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import skimage.data
from PIL import Image
from scipy.io import savemat

from common.data.manifest import load_prepared
from common.data.packing import faces_in
from common.data.readers_tables import read_imdbclean
from common.data.source import Source, from_table, gender_of, number
from common.faces.detection import Face
from scripts.prepare_data import main
from scripts.release.list_public_figures import main as list_albums
from tests.conftest import REPOSITORY


@pytest.fixture
def prepare(tmp_path):
    """Write files {name: bytes or text, None an image of its own}, prepare them, return the manifest by path."""
    random = np.random.default_rng(0)

    def picture() -> bytes:
        stream = io.BytesIO()
        pixels = random.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((64, 64), Image.Resampling.BICUBIC).save(stream, "JPEG")
        return stream.getvalue()

    def run(kind: str, files: dict[str, str | bytes | None], *words: str) -> pd.DataFrame:
        for name, content in files.items():
            path = tmp_path / "set" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            data = picture() if content is None else content
            path.write_bytes(data.encode() if isinstance(data, str) else data)
        source, out = str(tmp_path / "set"), tmp_path / "out"
        assert main([kind, "--source", source, "--out", str(out), "--size", "32", "--crops", *words]) == 0
        return load_prepared(out).manifest.set_index("path")

    run.out = tmp_path / "out"
    return run


def left_out(out: Path) -> dict[str, str]:
    return pd.read_csv(out / "left_out.csv").set_index("path")["reason"].to_dict()


def test_morph2(prepare):
    header = "id_num,picture_num,dob,doa,race,gender,facial_hair,age,age_diff,glasses,photo"
    rows = [
        "009055,1,01/01/1950,01/01/2004,B,M,,54,0,,Album2/009055_1M54.JPG",
        "009055,2,01/01/1950,01/01/2005,B,M,,55,1,,Album2/009055_2M55.JPG",
        "300001,0,01/01/1980,01/01/2004,W,F,,24,0,,Album2/300001_00F24.JPG",
        "300002,0,01/01/1980,01/01/2004,H,F,,x,0,,Album2/300002_00F24.JPG",
        "300003,0,01/01/1980,01/01/2004,A,F,,24,0,,Album2/300003_00F24.JPG",
    ]
    photos = {f"MORPH/{row.rsplit(',', 1)[1]}": None for row in rows[:4]}
    manifest = prepare("morph2", {"MORPH/morph_2008_nonCommercial.csv": "\n".join([header, *rows])} | photos)
    assert manifest[["age", "person", "gender", "group"]].to_numpy().tolist() == [
        [54.0, "009055", "male", "black"],
        [55.0, "009055", "male", "black"],
        [24.0, "300001", "female", "white"],
    ]
    assert manifest["split"].iloc[0] == manifest["split"].iloc[1]
    reasons = left_out(prepare.out)
    assert "'x' is no age" in reasons["Album2/300002_00F24.JPG"]
    assert "no such file" in reasons["MORPH/Album2/300003_00F24.JPG"]


def cacd_metadata(names: list[str], ages: list[int], identities: list[int], ranks: list[int]) -> bytes:
    def column(values: list[int]) -> np.ndarray:
        return np.array(values, np.uint16)[:, None]

    cells = np.empty((len(names), 1), object)
    cells[:, 0] = names
    struct = {"age": column(ages), "identity": column(identities), "year": column([2004] * len(names))}
    struct |= {"feature": np.zeros((0, 0)), "rank": column(ranks), "lfw": column([0] * len(names))}
    stream = io.BytesIO()
    savemat(stream, {"celebrityImageData": struct | {"birth": column([1951] * len(names)), "name": cells}})
    return stream.getvalue()


def test_cacd_with_its_metadata(prepare):
    names = ["53_Robin_Williams_0001.jpg", "54_Robin_Williams_0001.jpg", "30_A_B_0001.jpg", "23_Katie_Findlay_0011.jpg"]
    metadata = cacd_metadata(names, [53, 54, 30, 23], [1, 1, 7, 2000], [1, 1, 3, 20])
    files = {"celebrity2000_meta.mat": metadata} | {f"CACD2000/{name}": None for name in names}
    manifest = prepare("cacd", files)
    assert manifest.index.tolist() == [f"CACD2000/{name}" for name in names]
    assert manifest[["age", "person", "official"]].to_numpy().tolist() == [
        [53.0, "1", "val"],
        [54.0, "1", "val"],
        [30.0, "7", "test"],
        [23.0, "2000", "train"],
    ]
    assert manifest["split"].iloc[2] == "test"


def test_cacd_by_names(prepare):
    manifest = prepare("cacd", {"CACD2000/53_Robin_Williams_0001.jpg": None, "CACD2000/Robin_0001.jpg": None})
    assert manifest[["age", "person"]].to_numpy().tolist() == [[53.0, "Robin_Williams"]]
    assert "misnamed" in left_out(prepare.out)["CACD2000/Robin_0001.jpg"]


def test_cacd_metadata_that_is_none(tmp_path, capsys):
    (tmp_path / "celebrity2000_meta.mat").write_bytes(b"no MATLAB file at all, but long enough to be one" * 9)
    assert main(["cacd", "--source", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert "is not CACD's metadata" in capsys.readouterr().err


def test_afad(prepare):
    files = ["AFAD-Full/15/111/638660-1.jpg", "AFAD-Full/15/111/638660-0.jpg", "AFAD-Full/40/112/1-0.jpg", "logo.jpg"]
    manifest = prepare("afad", dict.fromkeys(files))
    columns = ["age", "person", "gender", "group"]
    assert manifest.loc[files[0], columns].tolist() == [15.0, "638660", "male", "asian"]
    assert manifest.loc[files[1], "split"] == manifest.loc[files[0], "split"]
    assert manifest.loc[files[2], columns].tolist() == [40.0, "1", "female", "asian"]
    assert "misplaced" in left_out(prepare.out)["logo.jpg"]


def test_agedb(prepare):
    files = ["0_MariaCallas_35_f.jpg", "16487_Jean_LucGodard_101_m.jpg", "MariaCallas_35.jpg"]
    manifest = prepare("agedb", dict.fromkeys(files))
    assert manifest.loc[files[0], ["age", "person", "gender"]].tolist() == [35.0, "MariaCallas", "female"]
    assert manifest.loc[files[1], ["age", "person", "gender"]].tolist() == [101.0, "Jean_LucGodard", "male"]
    assert "misnamed" in left_out(prepare.out)["MariaCallas_35.jpg"]


def test_all_age_faces(prepare):
    names = ["00000A02.jpg", "07380A30.jpg", "07381A30.jpg", "13321A80.jpg"]
    files = {f"AAF/{folder}/{name}": None for folder in ("original images", "aligned faces") for name in names}
    lists = {"AAF/image sets/train.txt": "00000A02 0\n07381A30 1\n", "AAF/image sets/val.txt": "07380A30.jpg 0\n"}
    manifest = prepare("aaf", files | lists)
    assert manifest.index.tolist() == [f"AAF/original images/{name}" for name in names]
    assert manifest["gender"].tolist() == ["female", "female", "male", "male"]
    assert manifest["age"].tolist() == [2, 30, 30, 80] and manifest["person"].iloc[3] == "13321"
    assert manifest["official"].tolist() == ["train", "test", "train", "train"]
    assert manifest["split"].iloc[1] == "test"


@pytest.mark.parametrize(("label", "age"), [("real", 24.0), ("apparent", 26.4)])
def test_appareal_keeps_both_ages_and_the_spread(prepare, label, age):
    header = "file_name,num_ratings,apparent_age_avg,apparent_age_std,real_age\n"
    files = {f"gt_avg_{part}.csv": header + f"{part}.jpg,38,26.4,5.1,24\n" for part in ("train", "valid", "test")}
    files |= {f"{part}/{part}.jpg": None for part in ("train", "valid", "test")}
    files |= {"train/train.jpg_face.jpg": None}
    files |= {"allcategories_train.csv": "file,gender,race\ntrain.jpg,female,caucasian\n"}
    manifest = prepare("appareal", files, "--label", label)
    assert manifest.index.tolist() == ["train/train.jpg_face.jpg", "valid/valid.jpg", "test/test.jpg"]
    row = manifest.iloc[0]
    kept = ["real_age", "apparent_age", "apparent_spread", "ratings", "gender", "group"]
    assert row[kept].tolist() == ["24", "26.4", "5.1", "38", "female", "caucasian"] and row["age"] == age
    assert manifest["official"].tolist() == ["train", "val", "test"] and manifest["split"].iloc[2] == "test"


def test_chalearn(prepare):
    files = {f"{part}_gt.csv": f"image,mean,stdv\n{part}.jpg,30.5,4.25\n" for part in ("train", "valid", "test")}
    manifest = prepare("chalearn", files | {f"{part}/{part}.jpg": None for part in ("train", "valid", "test")})
    assert manifest["age"].tolist() == [30.5] * 3 and manifest["apparent_spread"].tolist() == ["4.25"] * 3
    assert manifest.loc["valid/valid.jpg", "official"] == "val"


def imdb_tables(names: dict[str, str], ending: str) -> dict[str, str]:
    header = "filename,age,gender,x_min,y_min,x_max,y_max,head_roll,head_yaw,head_pitch\n"
    return {f"csvs/imdb_{part}_{ending}.csv": header + f"{names[part]},35,M,1,2,50,60,0,0,0\n" for part in names}


def test_imdbclean(prepare):
    names = {part: f"0{number}/nm000010{number}_rm1_1950-1-1_1985.jpg" for number, part in enumerate(("train", "test"))}
    names["valid"] = "00/nm0000100_rm2_1950-1-1_1985.jpg"
    photos = {f"data/{folder}/{name}": None for folder in ("imdb", "imdb-clean-1024") for name in names.values()}
    manifest = prepare("imdbclean", imdb_tables(names, "new_1024") | imdb_tables(names, "new") | photos)
    assert sorted(manifest.index) == sorted(f"data/imdb-clean-1024/{name}" for name in names.values())
    row = manifest.loc[f"data/imdb-clean-1024/{names['train']}"]
    assert row[["age", "person", "gender", "official"]].tolist() == [35.0, "nm0000100", "male", "train"]
    assert manifest.loc[f"data/imdb-clean-1024/{names['valid']}", "person"] == "nm0000100"


def test_imdbclean_reads_the_whole_photos_without_the_small_tables(tmp_path):
    names = dict.fromkeys(("train", "valid", "test"), "00/nm0000100_rm2_1950-1-1_1985.jpg")
    for name, text in imdb_tables(names, "new").items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    for folder in ("imdb", "imdb-clean-1024"):
        (tmp_path / folder / "00").mkdir(parents=True)
        (tmp_path / folder / names["train"]).write_bytes(b"")
    entries = read_imdbclean(Source(tmp_path), {"crops": False})
    assert [entry.path for entry in entries] == ["imdb/" + names["train"]] * 3
    assert entries[0].box == (1.0, 2.0, 50.0, 60.0)


def test_adience(prepare):
    header = "user_id\toriginal_image\tface_id\tage\tgender\tx\ty\tdx\tdy\ttilt_ang\tfiducial_yaw_angle\tfiducial_score"
    ages = ["(25, 32)", "35", "(60, 100)", "None", "(38, 43)"]
    genders = ["f", "m", "u", "f", ""]
    files, paths = {}, []
    for fold, (age, gender) in enumerate(zip(ages, genders, strict=True)):
        row = f"30601258@N0{fold}\t1039_o.jpg\t{fold + 1}\t{age}\t{gender}\t0\t0\t9\t9\t0\t0\t9"
        files[f"fold_{fold}_data.txt"] = f"{header}\n{row}\n"
        files[f"fold_frontal_{fold}_data.txt"] = f"{header}\n"
        paths.append(f"aligned/30601258@N0{fold}/landmark_aligned_face.{fold + 1}.1039_o.jpg")
    manifest = prepare("adience", files | dict.fromkeys(paths))
    intervals = manifest[["age", "age_min", "age_max"]].astype(object).where(manifest.notna(), None)
    assert intervals.to_numpy().tolist() == [
        [None, 25.0, 32.0],
        [35.0, None, None],
        [None, 60.0, 100.0],
        [None, 38.0, 43.0],
    ]
    assert manifest["gender"].tolist() == ["female", "male", "", ""]
    assert manifest["fold"].tolist() == ["0", "1", "2", "4"] and manifest["person"].iloc[0] == "30601258@N00/1"
    assert left_out(prepare.out) == {paths[3]: "no age"}


def test_a_picture_listed_twice_is_used_once(prepare):
    manifest = prepare("chalearn", {
        "train_gt.csv": "image,mean,stdv\na.jpg,30,4\na.jpg,50,4\n",
        "valid_gt.csv": "image,mean,stdv\n",
        "test_gt.csv": "image,mean,stdv\n",
        "train/a.jpg": None,
    })  # fmt: skip
    assert manifest["age"].tolist() == [30.0]
    assert "listed twice" in left_out(prepare.out)["train/a.jpg"]


@pytest.mark.parametrize(
    ("kind", "file", "message"),
    [
        ("morph2", "a.txt", "holds no morph_2008_nonCommercial.csv"),
        ("appareal", "a.txt", "holds no gt_avg_train.csv"),
        ("adience", "fold_0_data.txt", "fold_0_data.txt has no column 'original_image'"),
        ("imdbclean", "imdb_train_new.csv", "imdb_train_new.csv has no column 'filename'"),
        ("agedb", "a.txt", "holds no image with a agedb label"),
    ],
)
def test_mistakes_are_one_sentence(kind, file, message, tmp_path, capsys):
    (tmp_path / file).write_text("a,b\n1,2\n")
    assert main([kind, "--source", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err.strip()
    assert message in error and "\n" not in error


def test_rows_become_entries_or_problems():
    table = pd.DataFrame({"name": ["a", "b"], "age": ["3", "old"]})
    found = from_table(table, ("name", "age"), "t.csv", lambda row: number(row["age"]))
    assert found[0] == 3.0 and found[1].path == "b" and "'old'" in found[1].reason
    assert [gender_of(text) for text in ("M", "female", "u", "", " f")] == ["male", "female", "", "", "female"]


def test_the_face_that_the_box_means():
    marks = np.zeros((5, 2), np.float32)
    large, near, far = (Face(box, marks, 1.0) for box in ((0, 0, 90, 90), (100, 0, 120, 20), (118, 0, 138, 20)))
    assert faces_in([large, far, near], (98, 0, 130, 20)) == [near, far]
    assert faces_in([large], (98, 0, 130, 20)) == []


def test_imdbclean_takes_the_smaller_face_if_the_box_says_so(tmp_path):
    portrait = Image.fromarray(skimage.data.astronaut()).crop((100, 0, 400, 300))
    photo = Image.new("RGB", (520, 300), (128, 128, 128))
    photo.paste(portrait, (0, 0))
    photo.paste(portrait.resize((200, 200)).transpose(Image.Transpose.FLIP_LEFT_RIGHT), (310, 50))
    header, name = "filename,age,gender,x_min,y_min,x_max,y_max", "00/nm1_rm1.jpg"
    (tmp_path / "00").mkdir()
    photo.save(tmp_path / name, quality=95)
    for part in ("train", "valid", "test"):
        row = f"{name},42,F,310,50,510,250" if part == "train" else ""
        (tmp_path / f"imdb_{part}_new.csv").write_text(f"{header}\n{row}\n")
    assert main(["imdbclean", "--source", str(tmp_path), "--out", str(tmp_path / "out"), "--size", "64"]) == 0
    crop = load_prepared(tmp_path / "out").crops[0]
    (tmp_path / "imdb_train_new.csv").write_text(f"{header}\n{name},42,F,0,0,300,300\n")
    main(["imdbclean", "--source", str(tmp_path), "--out", str(tmp_path / "other"), "--size", "64"])
    other = load_prepared(tmp_path / "other").crops[0]
    mirrored = np.abs(crop[:, ::-1].astype(int) - other).mean()
    assert mirrored < np.abs(crop.astype(int) - other).mean()  # the small face is the mirror image of the large one


PUBLIC_HEADER = "path,age,age_min,age_max,person,gender,source,born,photo_date"


def test_public_figures(prepare):
    rows = [
        "lfw/a1.webp,42,,,p1,,lfw,,2003-01-01",
        "us_voteview/b2.webp,,58,65,p2,male,us_voteview,1951-02-03,2009-05-31",
        "fr_dep13/c3.webp,old,,,p3,male,fr_dep13,1951-02-03,2009-05-31",
    ]
    photos = {f"PF/{row.split(',')[0]}": None for row in rows}
    manifest = prepare("public_figures", {"PF/labels.csv": "\n".join([PUBLIC_HEADER, *rows])} | photos)
    columns = ["person", "gender", "source", "born", "photo_date"]
    assert manifest.loc["PF/lfw/a1.webp", columns].tolist() == ["p1", "", "lfw", "", "2003-01-01"]
    assert manifest.loc["PF/lfw/a1.webp", "age"] == 42
    row = manifest.loc["PF/us_voteview/b2.webp"]
    assert row[columns].tolist() == ["p2", "male", "us_voteview", "1951-02-03", "2009-05-31"]
    assert (row["age_min"], row["age_max"]) == (58, 65) and np.isnan(row["age"])
    assert "'old' is no age" in left_out(prepare.out)["fr_dep13/c3.webp"]


def test_albums_stay_out_of_base_and_the_long_ones_are_divided(tmp_path):
    long = [f"a/{person}{photo}.webp,{age},,,{person},,lfw,,{year}-01-01"
            for person in "abcd" for photo, age, year in ((1, 40, 2001), (2, 45, 2006))]  # fmt: skip
    others = [
        "a/e1.webp,40,,,e,,lfw,,2001-12-31", "a/e2.webp,41,,,e,,lfw,,2003-01-01",  # years 2 apart, ages 1
        "a/f1.webp,,40,50,f,,lfw,,2001-01-01", "a/f2.webp,,50,60,f,,lfw,,2011-01-01",  # no exact age
        "a/g1.webp,40,,,g,,lfw,,2001-01-01", "a/g2.webp,41,,,g,,lfw,,2002-12-31",  # no album
    ]  # fmt: skip
    (tmp_path / "labels.csv").write_text("\n".join([PUBLIC_HEADER, *long, *others]))
    out = tmp_path / "splits.csv"
    assert list_albums(["--source", str(tmp_path), "--out", str(out)]) == 0
    split = pd.read_csv(out).set_index("name")["split"]
    people = {name[0]: part for name, part in split.items()}
    assert len(split) == 12 and sorted(people) == list("abcdef")
    assert sorted(people[name] for name in "abcd") == ["dar", "dar", "test", "test"]
    assert people["e"] == people["f"] == "dar"


def test_the_committed_list_keeps_every_album_out_of_base(shared_data, tmp_path):
    out = tmp_path / "splits.csv"
    assert list_albums(["--source", str(shared_data / "PublicFigures.tar"), "--out", str(out)]) == 0
    listed = REPOSITORY / "data" / "public_figures_splits.csv"
    assert out.read_text() == listed.read_text()
    split = pd.read_csv(listed)["split"].value_counts().to_dict()
    assert split == {"dar": 593, "test": 255}


def test_pictures_of_another_set_and_listed_ones_are_left_out(tmp_path):
    for folder, names in (("ours", range(6)), ("theirs", range(4, 12))):
        (tmp_path / folder).mkdir()
        for name in names:
            pixels = np.random.default_rng(name).integers(0, 256, (8, 8, 3), dtype=np.uint8)
            image = Image.fromarray(pixels).resize((64, 64), Image.Resampling.BICUBIC)
            image.save(tmp_path / folder / f"{name}.jpg", quality=95 if folder == "ours" else 80)
        rows = [f"{name}.jpg,{20 + name}" for name in names]
        (tmp_path / folder / "labels.csv").write_text("\n".join(["path,age", *rows]))
    words = {
        folder: ["csv", "--source", str(tmp_path / folder / "labels.csv"), "--out", str(tmp_path / f"p_{folder}"),
                 "--size", "32", "--crops"] for folder in ("ours", "theirs")
    }  # fmt: skip
    (tmp_path / "dropped.csv").write_text("name,reason\n1.jpg,somebody else\n")
    assert main(words["theirs"]) == 0
    before = load_prepared(tmp_path / "p_theirs").manifest
    more = ["--apart-from", str(tmp_path / "p_theirs"), "--leave-out", str(tmp_path / "dropped.csv")]
    assert main([*words["ours"], *more]) == 0
    assert load_prepared(tmp_path / "p_ours").manifest["path"].tolist() == ["0.jpg", "2.jpg", "3.jpg"]
    copied = "shows the same image as one of p_theirs"
    assert left_out(tmp_path / "p_ours") == {"1.jpg": "somebody else", "4.jpg": copied, "5.jpg": copied}
    assert load_prepared(tmp_path / "p_theirs").manifest.equals(before)
    assert main([*words["ours"], *more[:2]]) == 2  # other settings
