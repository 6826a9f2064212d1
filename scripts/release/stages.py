"""What a release is made of: every stage with its commands, from the archives to the tables; nothing here runs.

Recipes stand at the top. A word `@STAGE/PIPELINE` of a command stands for the weights that this training
left, `@STAGE/PIPELINE?FOLDER` for the folder if there is no such run.
"""

from dataclasses import dataclass
from pathlib import Path

from common.base.edgeface import PACKAGE

RUNS, PREPARED, TEACHER = "runs/release", "data/prepared", "runs/release/teacher"
UTKFACE, FAIRFACE, FGNET, PUBLIC = (
    f"{PREPARED}/{name}" for name in ("utkface", "fairface", "fgnet_dev", "publicfigures")
)
BASE, DIFF, EP3, RANGES, ALBUM = (
    "AgeRegBaseline", "DiffPipeline6", "Ep3Pipeline", "RangeClassOrdinalPipeline", "AlbumPipeline",
)  # fmt: skip
LARGE = "-large"  # ends the names of weights that take twice the time
RELEASES = (BASE, DIFF, EP3, RANGES, f"{BASE}{LARGE}", f"{DIFF}{LARGE}")
ARCHIVES = (
    ("utkface", "UTKFace.tar", UTKFACE), ("fairface", "FairFace.tar", FAIRFACE), ("fgnet", "FGNET_dev.tar", FGNET),
    ("public_figures", "PublicFigures.tar", PUBLIC),
)  # fmt: skip
BEFORE = "e5684ef"  # a commit of the release that RESULTS.md compares with

APPARENT, REAL = [UTKFACE, FAIRFACE], [UTKFACE, PUBLIC, FAIRFACE]  # training data: ages as guessed, real ones too
AGAIN = ["--learning-rate", "0.0006", "--patience", "10"]
TAUGHT = ["--teacher", TEACHER, "--teacher-weight", "0.6", "--train-size", "96"]
LARGER = ["--preset", "large", "--teacher", TEACHER, "--teacher-weight", "0.5"]
TRAININGS = {  # of a base: the stage it starts from, its data, its options; how long: EPOCHS
    "start": ("", APPARENT, []),
    "base": ("start", APPARENT, [*AGAIN, "--keep-init", "0.3", "--seed", "1"]),
    "taught": ("base", APPARENT, [*AGAIN, "--keep-init", "0.5", "--seed", "2", *TAUGHT]),
    "large": ("", APPARENT, [*LARGER, "--patience", "10", "--seed", "3"]),
    "large_again": ("large", APPARENT, [*LARGER, *AGAIN, "--keep-init", "0.3", "--seed", "4"]),
    "real": ("taught", REAL, [
        "--batch-size", "128", "--learning-rate", "0.0008", "--backbone-rate", "0.3", "--keep-init", "0.3",
        "--balance", "0.4", "--set-balance", "0.6", "--interval-fraction", "0.3", "--frozen-layers", "9",
        "--patience", "8", "--seed", "5",
    ]),
}  # fmt: skip
EPOCHS = {  # by budget; a training that is not named takes its preset's
    "cpu": {"base": 10, "taught": 6, "large_again": 6, "real": 5},
    "gpu": {"start": 27, "base": 27, "taught": 18, "large": 24, "large_again": 18, "real": 5},
}
HEAD = ["--epochs", "8", "--balance", "0.4", "--set-balance", "0.5", "--decode", "median"]  # embedding and age head
MEAN = ["--part", "0.2", "--input-size", "92"]  # of the start in the released base; the side at which it reads


@dataclass(frozen=True)
class Stage:
    """One step: commands (arguments after `python`), run one after the other, then a run's weights to weights/.

    trains: (stage, pipeline) of the run that the first command trains, in runs/release/<stage>/<pipeline>/.
    release: folder of weights/ that the weights of this run are copied to.
    reads: files and folders that the commands read without naming them.
    """

    name: str
    commands: list[list[str]]
    trains: tuple[str, str] | None = None
    release: str = ""
    reads: tuple[str, ...] = ()


def stages(sources: Path, budget: str) -> list[Stage]:
    """All stages in order; `sources` is the folder of the archives, `budget` a key of EPOCHS.

    The trainings of the larger network stand before the last of the base, which does not enter them.
    """
    teacher = [
        ["-m", "pip", "install", "--quiet", "--upgrade", *PACKAGE],
        ["scripts/release/make_teacher.py", *APPARENT, "--base", f"@base/{BASE}", "--out", TEACHER],
    ]
    return [
        Stage("data", prepare(sources)),
        base_training("start", budget),
        base_training("base", budget),
        Stage("teacher", teacher),
        *(base_training(name, budget) for name in ("taught", "large", "large_again", "real")),
        *last_layers(),
        Stage("graph", [["scripts/export_onnx.py", "--fast", UTKFACE]], reads=(f"weights/{BASE}",)),
        joined(),
        *differences(),
        Stage("graph_hashes", [["scripts/hash_weights.py", "--graphs"]],
              reads=tuple(f"weights/{name}/*.onnx" for name in RELEASES)),
        Stage("intervals", intervals()),
        Stage("own_references", [["scripts/release/fit_own_references.py", "--data", PUBLIC, UTKFACE, "--weights",
                                  f"weights/{name}"] for name in (BASE, f"{BASE}{LARGE}")]),
        Stage("two_photos", [["scripts/calibrate_differences.py", "--data", PUBLIC, "--weights", f"weights/{name}"]
                             for name in (DIFF, f"{DIFF}{LARGE}")], reads=models(BASE, f"{BASE}{LARGE}")),
        Stage("golden", [["tests/test_golden.py"]], reads=models(*RELEASES)),
        Stage("album", [
            [f"{ALBUM}/{ALBUM}__main.py", "--data", FGNET, "--out", f"weights/{ALBUM}"],
            [f"{ALBUM}/{ALBUM}__infer.py", "--data", FGNET, "--out", f"weights/{ALBUM}/evaluation.csv"],
        ], reads=models(BASE)),
        *predictions(sources),
        Stage("album_public", [
            [f"{ALBUM}/{ALBUM}__infer.py", "--limit", "200", "--weights", f"weights/{ALBUM}", "--predictions",
             f"weights/{BASE}/predictions/publicfigures_test.csv.gz", "--out",
             f"weights/{ALBUM}/evaluation_publicfigures.csv"],
        ], reads=(*models(ALBUM), f"weights/{BASE}/predictions/publicfigures_test.csv.gz")),
        Stage("metrics", [report(name) for name in RELEASES]),
        Stage("compared", [["scripts/release/compare_releases.py", "--before", BEFORE, "--sources", str(sources)]],
              reads=("weights/*/predictions/*.csv.gz",)),
        *controls(),
        Stage("images", [["scripts/demo.py", "--out", "docs"], ["scripts/release/screenshots.py", "--out", "docs"]],
              reads=models(BASE, DIFF, ALBUM)),
        Stage("tables", [["scripts/release/refresh_tables.py"]],
              reads=("weights/*/predictions/*.csv.gz", "weights/*/*.csv", "weights/*/*.csv.gz", "*.md", "*/*.md",
                     "weights/*/*.md")),
    ]  # fmt: skip


def prepare(sources: Path) -> list[list[str]]:
    """Commands that make data/prepared of the archives; the public figures are kept apart from copies elsewhere."""
    commands = [
        ["scripts/prepare_data.py", kind, "--source", str(sources / archive), "--out", folder]
        for kind, archive, folder in ARCHIVES
    ]
    commands[-1] += ["--apart-from", *APPARENT]
    return commands


def base_training(name: str, budget: str) -> Stage:
    """The stage of a training of a base, by TRAININGS and EPOCHS."""
    begins, data, words = TRAININGS[name]
    command = [f"{BASE}/{BASE}__main.py", "--data", *data, *words]
    command += ["--init-weights", f"@{begins}/{BASE}"] if begins else []
    command += ["--epochs", str(EPOCHS[budget][name])] if name in EPOCHS[budget] else []
    return Stage(name, [[*command, "--runs", f"{RUNS}/{name}"]], (name, BASE))


def last_layers() -> list[Stage]:
    """Stages that train the last layers of both bases on with real ages, and the mean with the start: the release."""
    command = {
        name: ["scripts/release/retrain_head.py", *REAL, "--base", base, *HEAD, "--limit", limit, "--out",
               f"{RUNS}/{name}/{BASE}/head"]
        for name, base, limit in (("large_head", f"@large_again/{BASE}", "6000"), ("head", f"@real/{BASE}", "9000"))
    }  # fmt: skip
    mean = ["scripts/release/average_weights.py", f"@head/{BASE}", f"@taught/{BASE}", *MEAN, "--out",
            f"{RUNS}/mean/{BASE}/mean/weights"]  # fmt: skip
    return [
        Stage("large_head", [command["large_head"]], ("large_head", BASE)),
        Stage("head", [command["head"]], ("head", BASE)),
        Stage("mean", [mean], ("mean", BASE), BASE),
    ]


def joined() -> Stage:
    """The base of two networks: the released one and EdgeFace's (without a run of it, that in weights/), its graph."""
    target = f"weights/{BASE}{LARGE}"
    join = ["scripts/release/join_bases.py", f"weights/{BASE}", f"@large_head/{BASE}?{target}", "--out", target]
    return Stage("joined", [join, ["scripts/export_onnx.py", "--weights", target]])


def differences() -> list[Stage]:
    """Heads on the released bases with their banks; they share a folder of runs, for the embeddings in it."""
    graph, large = ["scripts/export_onnx.py", "--weights", f"weights/{DIFF}"], f"weights/{BASE}{LARGE}"
    words = {pipeline: [f"{pipeline}/{pipeline}__main.py", "--data"] for pipeline in (DIFF, EP3, RANGES)}
    runs, runs_large = ["--runs", f"{RUNS}/difference"], ["--runs", f"{RUNS}/difference_large"]
    larger = [*words[DIFF], *REAL, "--base-weights", large, "--embedding-size", "512", *runs_large]
    return [
        Stage("difference", [[*words[DIFF], *REAL, *runs]], ("difference", DIFF), DIFF, models(BASE)),
        Stage("difference_graph", [graph], reads=models(DIFF)),
        Stage("ep3", [[*words[EP3], *REAL, *runs]], ("difference", EP3), EP3, models(BASE)),
        Stage("ranges", [[*words[RANGES], UTKFACE, PUBLIC, *runs]], ("difference", RANGES), RANGES, models(BASE, DIFF)),
        Stage("difference_large", [larger], ("difference_large", DIFF), f"{DIFF}{LARGE}"),
        Stage("difference_large_graph", [[*graph[:-1], f"weights/{DIFF}{LARGE}"]]),
    ]


def models(*names: str) -> tuple[str, ...]:
    """Folders of weights/, as inputs: what is learnt in them."""
    return tuple(f"weights/{name}" for name in names)


def intervals() -> list[list[str]]:
    """Commands that calibrate the intervals of all released weights, on real ages too."""
    command = ["scripts/calibrate_intervals.py", "--data", UTKFACE, PUBLIC]
    return [
        [*command, "--base", f"weights/{BASE}", "--weights", f"weights/{DIFF}", "--ep3", f"weights/{EP3}", "--ranges",
         f"weights/{RANGES}"],
        [*command, "--base", f"weights/{BASE}{LARGE}", "--weights", f"weights/{DIFF}{LARGE}"],
    ]  # fmt: skip


def test_sets(sources: Path) -> dict[str, list[str]]:
    """Words of an inference on each test set, by its name."""
    return {
        "utkface_test": ["--manifest", f"{UTKFACE}/manifest.csv", "--split", "test", "--interval", "0.9"],
        "publicfigures_test": ["--manifest", f"{PUBLIC}/manifest.csv", "--split", "test", "--interval", "0.9"],
        "fairface_test": ["--manifest", f"{FAIRFACE}/manifest.csv", "--split", "test"],
        "fgnet_dev": ["--manifest", f"{FGNET}/manifest.csv"],
        "photos": ["--manifest", str(sources / "photos" / "photos.csv")],
    }


def predictions(sources: Path) -> list[Stage]:
    """A stage for each release that estimates every test set; the test splits are touched here alone."""
    stages = []
    for weights in RELEASES:
        pipeline = weights.removesuffix(LARGE)
        chosen = [] if weights == pipeline else ["--weights", f"weights/{weights}"]
        commands = [
            [f"{pipeline}/{pipeline}__infer2.py", *words, *chosen, "--out",
             f"weights/{weights}/predictions/{name}.csv.gz"]
            for name, words in test_sets(sources).items()
        ]  # fmt: skip
        needs = (*models(BASE, DIFF, weights), f"weights/{weights}/intervals.json", str(sources / "photos"))
        stages.append(Stage(f"predictions_{weights}", commands, reads=needs))
    return stages


def report(weights: str) -> list[str]:
    """Command that writes metrics.json of released weights from their stored predictions."""
    folder = f"weights/{weights}"
    sets = [f"{name}={folder}/predictions/{name}.csv.gz" for name in sorted(test_sets(Path()))]
    return ["scripts/report_metrics.py", *sets, "--json", f"{folder}/metrics.json"]


def controls() -> list[Stage]:
    """Stages of the further tables in the documents: own references, classes, and the controls of each head."""
    folder, test, evaluate = f"weights/{DIFF}", ["--split", "test", "--out"], "scripts/evaluate_references.py"
    data, larger = ["--data", *REAL, "--runs"], f"@difference_large/{DIFF}/../config.json"
    pair, several = f"{EP3}/{EP3}__controls.py", f"{DIFF}/{DIFF}__controls.py"
    return [
        Stage("own_photos", [
            [evaluate, FGNET, "--auto", "0.01", "--interval", "0.9", "--out", f"{folder}/references_fgnet_dev"],
            [evaluate, PUBLIC, "--held-out", "--interval", "0.9", "--out", f"{folder}/references_publicfigures"],
        ], reads=models(BASE, DIFF)),
        Stage("classes", [
            [f"{RANGES}/{RANGES}__infer.py", "--data", UTKFACE, "--out", f"weights/{RANGES}/classes", "--gzip"],
        ], reads=models(BASE, DIFF, RANGES)),
        Stage("controls_ep3", [[pair, *data, f"{RUNS}/difference", *test, f"weights/{EP3}/controls.csv.gz"]],
              reads=models(BASE, EP3)),
        Stage("controls_difference", [[several, *data, f"{RUNS}/difference", *test, f"{folder}/controls.csv.gz"]],
              reads=models(BASE, DIFF)),
        Stage("controls_large", [[several, *data, f"{RUNS}/difference_large", "--config", larger, *test,
                                  f"{folder}{LARGE}/controls.csv.gz"]], reads=models(f"{BASE}{LARGE}")),
    ]  # fmt: skip
