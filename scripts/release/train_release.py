"""Make everything in weights/ again: prepare data, train base, differences and ranges, calibrate, measure.

    python scripts/release/train_release.py --sources ARCHIVES    # UTKFace.tar, FairFace.tar, PublicFigures.tar …
    python scripts/release/train_release.py --sources ARCHIVES --plan     # only print the commands
    python scripts/release/train_release.py --sources ARCHIVES --from difference
    python scripts/release/train_release.py --sources ARCHIVES --budget gpu    # three times the epochs

Runs stage by stage and notes each finished one in runs/release/done.json; the same command goes on after an
interruption (a training in the middle goes on with its own --resume); --from removes the runs of that stage and all
later ones first. --budget cpu (the default, and what the released weights were made with) takes 6 hours on 2 CPU cores.
More epochs of the base on a GPU were not better (AgeRegBaseline/README.md).
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from common.base.edgeface import PACKAGE
from common.difference.weights import share_bank
from common.errors import DataError, UserError
from common.files import REPOSITORY, WEIGHTS

WORK = REPOSITORY / "runs" / "release"
PREPARED = "data/prepared"
BASE_DATA = ["--data", f"{PREPARED}/utkface", f"{PREPARED}/fairface"]
PIPELINES = ("AgeRegBaseline", "DiffPipeline6", "Ep3Pipeline", "RangeClassOrdinalPipeline")
LARGE = "-large"  # ends the names of weights that take twice the time
RELEASES = (*PIPELINES, f"AgeRegBaseline{LARGE}", f"DiffPipeline6{LARGE}")
BUDGETS = {  # of the base's first training, its second, its third, of the larger network
    "cpu": ([], ["--epochs", "10"], ["--epochs", "6"], [[], ["--epochs", "6"]]),
    "gpu": (
        ["--epochs", "27"], ["--epochs", "27"], ["--epochs", "18"], [["--epochs", "24"], ["--epochs", "18"]],
    ),
}  # fmt: skip
# the base's later trainings start from the one before and keep a part of it
AGAIN = ["--learning-rate", "0.0006", "--patience", "10", "--keep-init"]
TEACHER = "runs/release/teacher"
TAUGHT = ["--teacher", TEACHER, "--teacher-weight", "0.6", "--train-size", "96"]
# the base's last training, on real ages: UTKFace, PublicFigures and the base split of FairFace
REAL_DATA = [f"{PREPARED}/utkface", f"{PREPARED}/publicfigures", f"{PREPARED}/fairface_base"]
REAL = [
    "--epochs", "1", "--batch-size", "64", "--learning-rate", "0.0008", "--backbone-rate", "0.3", "--keep-init", "0.5",
    "--balance", "0.6", "--set-balance", "0.9", "--interval-fraction", "0.2", "--frozen-layers", "9", "--seed", "5",
]  # fmt: skip
HEAD = [
    "--limit", "6000", "--epochs", "8", "--balance", "0.4", "--set-balance", "0.3", "--interval-fraction", "0.3",
    "--decode", "median",
]  # fmt: skip
LARGE_TAUGHT = ["--preset", "large", "--teacher", TEACHER, "--teacher-weight", "0.5"]
FILES = ("model.safetensors", "config.json", "bank.npz")


@dataclass(frozen=True)
class Stage:
    """One step: commands (arguments after `python`), run one after the other; then a run's weights to release."""

    name: str
    commands: list[list[str]]
    release: tuple[str, str] | None = None  # (stage of the run, folder in weights/)


def runs_of(stage: str, pipeline: str = "*") -> list[Path]:
    """Run folders of a training stage, the oldest first; later ones are those of its controls."""
    return sorted(path.parent for path in (WORK / stage).glob(f"{pipeline}/*/config.json"))


def trained(stage: str, pipeline: str = "*") -> str:
    """Where the weights of a training stage lie."""
    found = runs_of(stage, pipeline)
    return str(((found[0] if found else WORK / stage / "<run>") / "weights").relative_to(REPOSITORY))


def training(stage: str, pipeline: str, words: list[str]) -> list[str]:
    """The command of a training in runs/release/<stage>, going on where it stopped if it was begun."""
    script = f"{pipeline}/{pipeline}__main.py"
    begun = [folder for folder in runs_of(stage, pipeline) if (folder / "latest_model.ckpt").is_file()]
    if begun:
        return [script, "--resume", str(begun[0])]
    return [script, *words, "--runs", str((WORK / stage).relative_to(REPOSITORY))]


def pipeline_of(weights: str) -> str:
    """The pipeline that a folder of weights/ is for."""
    return weights.removesuffix(LARGE)


def forget(stage: Stage) -> None:
    """Remove the runs of a stage that is to be done again."""
    folder = WORK / stage.release[0] / pipeline_of(stage.release[1]) if stage.release else WORK / stage.name
    shutil.rmtree(folder, ignore_errors=True)


def stages(sources: Path, budget: str = "cpu") -> list[Stage]:
    """All stages in order; `sources` is the folder of the archives, `budget` a key of BUDGETS."""
    base, diff = "AgeRegBaseline", "DiffPipeline6"
    prepare = [
        ["scripts/prepare_data.py", kind, "--source", str(sources / archive), "--out", f"{PREPARED}/{folder}"]
        for kind, archive, folder in (
            ("utkface", "UTKFace.tar", "utkface"), ("fairface", "FairFace.tar", "fairface"),
            ("fgnet", "FGNET_dev.tar", "fgnet_dev"), ("public_figures", "PublicFigures.tar", "publicfigures"),
        )
    ]  # fmt: skip
    prepare[-1] += ["--apart-from", *BASE_DATA[1:]]
    prepare.append(["scripts/select_faces.py", f"{PREPARED}/fairface", "--only", "split=base", "--out", REAL_DATA[-1]])
    first, second, third, larger = BUDGETS[budget]
    again = [*BASE_DATA, "--init-weights", trained("start", base), *AGAIN, "0.3", "--seed", "1", *second]
    taught = [*BASE_DATA, "--init-weights", trained("base", base), *AGAIN, "0.5", "--seed", "2", *TAUGHT, *third]
    real = ["--data", *REAL_DATA, "--init-weights", trained("taught", base), *REAL]
    joined = f"weights/{base}{LARGE}"
    ep3, ranges = "Ep3Pipeline", "RangeClassOrdinalPipeline"  # in the folder of `difference`, whose embeddings they use
    return [
        Stage("data", prepare),
        Stage("start", [training("start", base, [*BASE_DATA, *first])]),
        Stage("base", [training("base", base, again)]),
        Stage("teacher", teacher(trained("base", base))),
        Stage("taught", [training("taught", base, taught)]),
        Stage("real", [training("real", base, real)]),
        Stage("head", [["scripts/release/retrain_head.py", *REAL_DATA, "--base", trained("real", base), *HEAD,
                        "--out", f"runs/release/head/{base}/head"]], ("head", base)),
        Stage("graph", [["scripts/export_onnx.py", "--fast", f"{PREPARED}/utkface"]]),
        *larger_base(larger, joined),
        Stage("difference", [training("difference", diff, BASE_DATA)], ("difference", diff)),
        Stage("ep3", [training("difference", ep3, BASE_DATA)], ("difference", ep3)),
        Stage("ranges", [training("difference", ranges, BASE_DATA[:2])], ("difference", ranges)),
        Stage("difference_large", [training("difference_large", diff, [*BASE_DATA, "--base-weights", joined,
                                                                       "--embedding-size", "512"])],
              ("difference_large", f"{diff}{LARGE}")),
        Stage("intervals", [["scripts/calibrate_intervals.py", "--data", f"{PREPARED}/utkface",
                             "--ep3", f"weights/{ep3}", "--ranges", f"weights/{ranges}"],
                            ["scripts/calibrate_intervals.py", "--data", f"{PREPARED}/utkface",
                             "--base", joined, "--weights", f"weights/{diff}{LARGE}"]]),
        Stage("differences", [["scripts/calibrate_differences.py", "--data", f"{PREPARED}/publicfigures",
                               "--weights", f"weights/{name}"] for name in (diff, f"{diff}{LARGE}")]),
        Stage("predictions", predictions(sources)),
        Stage("metrics", [report(name) for name in RELEASES]),
        Stage("controls", controls()),
    ]  # fmt: skip


def teacher(weights: str) -> list[list[str]]:
    """Commands that make the soft labels of the base's third training, with `weights` as a part of the teacher."""
    return [
        ["-m", "pip", "install", "--quiet", "--upgrade", *PACKAGE],
        ["scripts/release/make_teacher.py", *BASE_DATA[1:], "--base", weights, "--out", TEACHER],
    ]


def larger_base(epochs: list[list[str]], target: str) -> list[Stage]:
    """Stages of the base of two networks: EdgeFace trained, trained on, and joined with the released base."""
    base = "AgeRegBaseline"
    words = [*BASE_DATA, *LARGE_TAUGHT]
    again = [*words, "--init-weights", trained("large", base), *AGAIN, "0.3", "--seed", "4", *epochs[1]]
    return [
        Stage("large", [training("large", base, [*words, "--patience", "10", "--seed", "3", *epochs[0]])]),
        Stage("large_again", [training("large_again", base, again)], ("large_again", f"{base}{LARGE}")),
        Stage("joined", [
            ["scripts/release/join_bases.py", f"weights/{base}", trained("large_again", base), "--out", target],
            ["scripts/export_onnx.py", "--weights", target],
        ]),
    ]  # fmt: skip


def predictions(sources: Path) -> list[list[str]]:
    """Commands that estimate every test set by every pipeline; the test splits are touched here alone."""
    commands = []
    for weights in RELEASES:
        pipeline = pipeline_of(weights)
        for name, words in {
            "utkface_test": ["--manifest", f"{PREPARED}/utkface/manifest.csv", "--split", "test", "--interval", "0.9"],
            "publicfigures_test": ["--manifest", f"{PREPARED}/publicfigures/manifest.csv", "--split", "test"],
            "fairface_test": ["--manifest", f"{PREPARED}/fairface/manifest.csv", "--split", "test"],
            "fgnet_dev": ["--manifest", f"{PREPARED}/fgnet_dev/manifest.csv"],
            "photos": ["--manifest", str(sources / "photos" / "photos.csv")],
        }.items():
            chosen = [] if weights == pipeline else ["--weights", f"weights/{weights}"]
            out = f"weights/{weights}/predictions/{name}.csv.gz"
            commands.append([f"{pipeline}/{pipeline}__infer2.py", *words, *chosen, "--out", out])
    return commands


def controls() -> list[list[str]]:
    """Commands of the tables in the READMEs of the pipelines."""
    folder, ep3 = "weights/DiffPipeline6", "weights/Ep3Pipeline"
    data = [*BASE_DATA, "--runs", str((WORK / "difference").relative_to(REPOSITORY))]  # where the embeddings are kept
    classes, large = "RangeClassOrdinalPipeline", Path(trained("difference_large", "DiffPipeline6")).parent
    return [
        ["scripts/evaluate_references.py", f"{PREPARED}/fgnet_dev", "--auto", "0.01",
         "--out", f"{folder}/references_fgnet_dev"],
        ["DiffPipeline6/DiffPipeline6__infer.py", "--data", f"{PREPARED}/utkface", "--out", "out/differences"],
        [f"{classes}/{classes}__infer.py", "--data", f"{PREPARED}/utkface", "--out", f"weights/{classes}/classes",
         "--gzip"],
        ["Ep3Pipeline/Ep3Pipeline__controls.py", *data, "--split", "test", "--out", f"{ep3}/controls.csv.gz"],
        ["DiffPipeline6/DiffPipeline6__controls.py", *data, "--split", "test", "--out", f"{folder}/controls.csv.gz"],
        ["DiffPipeline6/DiffPipeline6__controls.py", *BASE_DATA, "--runs", str(large.parents[1]),
         "--config", str(large / "config.json"), "--split", "test", "--out", f"{folder}{LARGE}/controls.csv.gz"],
        ["DiffPipeline6/DiffPipeline6__sweep.py", *data, "--seeds", "1", "--out", f"{folder}/sweep.csv"],
        ["scripts/release/refresh_tables.py"],
    ]  # fmt: skip


def report(weights: str) -> list[str]:
    """Command that writes metrics.json of released weights from their stored predictions."""
    folder = f"weights/{weights}"
    sets = [
        f"{name}={folder}/predictions/{name}.csv.gz"
        for name in ("fairface_test", "fgnet_dev", "photos", "publicfigures_test", "utkface_test")
    ]
    timed = ["--speed", "--weights", folder] if pipeline_of(weights) in PIPELINES[:2] else []
    return ["scripts/report_metrics.py", *sets, *timed, "--json", f"{folder}/metrics.json"]


def release(stage: str, target: str) -> None:
    """Copy the weights of a finished run to weights/<target>; a bank that other weights have is stored once."""
    source, folder = REPOSITORY / trained(stage, pipeline_of(target)), WEIGHTS / target
    folder.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        if (source / name).is_file():
            shutil.copy(source / name, folder / name)
    share_bank(folder)
    if (source.parent / "history.csv").is_file():  # a head trained on features has none
        shutil.copy(source.parent / "history.csv", folder / "history.csv")


def run(stage: Stage) -> None:
    """Run all commands of a stage; raises DataError naming the one that failed."""
    for command in stage.commands:
        print("$ python " + " ".join(command), flush=True)
        status = subprocess.run([sys.executable, *command], cwd=REPOSITORY, check=False).returncode
        if status:
            raise DataError(f"stage {stage.name} stopped: '{' '.join(command[:1])}' ended with status {status}.")
    if stage.release:
        release(*stage.release)


def main(argv: list[str] | None = None) -> int:
    """Entry point; exit status 0 done, 2 a stage failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sources", type=Path, required=True, metavar="DIR", help="folder of the archives")
    parser.add_argument("--plan", action="store_true", help="only print the commands")
    parser.add_argument("--from", dest="first", metavar="STAGE", help="do this stage and all later ones again")
    parser.add_argument("--budget", choices=BUDGETS, default="cpu", help="how much computing there is (cpu)")
    arguments = parser.parse_args(argv)
    planned, notes = partial(stages, arguments.sources.resolve(), arguments.budget), WORK / "done.json"
    names = [stage.name for stage in planned()]
    done = json.loads(notes.read_text()) if notes.is_file() else {}
    try:
        if arguments.first and arguments.first not in names:
            raise DataError(f"There is no stage '{arguments.first}'; they are {', '.join(names)}.")
        if arguments.first:
            for stage in planned()[names.index(arguments.first) :] if not arguments.plan else ():
                forget(stage)
            done = {name: done[name] for name in names[: names.index(arguments.first)] if name in done}
        for number, name in enumerate(names):
            stage = planned()[number]  # made anew: a stage's command depends on what the earlier ones left
            if arguments.plan:
                print(f"# {name}\n" + "\n".join("python " + " ".join(command) for command in stage.commands))
            elif name not in done:
                started = time.monotonic()
                run(stage)
                done[name] = round(time.monotonic() - started)
                notes.parent.mkdir(parents=True, exist_ok=True)
                notes.write_text(json.dumps(done, indent=1))
                print(f"stage {name}: {done[name]} s", flush=True)
    except UserError as error:
        print(f"train_release: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
