"""Make everything in weights/ again: prepare data, train base, differences and ranges, calibrate, measure.

    python scripts/release/train_release.py --sources ARCHIVES    # UTKFace.tar, FairFace.tar, PublicFigures.tar …
    python scripts/release/train_release.py --sources ARCHIVES --plan     # only print the stages and their commands
    python scripts/release/train_release.py --sources ARCHIVES --from graph    # a new base is in weights/: the rest
    python scripts/release/train_release.py --sources ARCHIVES --budget gpu    # three times the epochs

The stages stand in scripts/release/stages.py. A stage is done if its commands and the bytes of all that they read are
those noted in runs/release/done.json, and what they write is there; otherwise it runs, and so does every later one
that reads what it changed. The same command goes on after an interruption, a training in the middle with its own
--resume. --from takes what the earlier stages left as it is. --again does even what is done. --budget cpu (the
default, and what the released weights were made with) takes 6 hours on 2 CPU cores; scripts/release/pack_shards.py
carries prepared sets to a machine with a GPU that has no archives, for the trainings of the bases.
Exit status: 0 done, 2 a stage failed, 130 stopped by Ctrl-C.
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common.base.weight_files import BANK_FILE, CONFIG_FILE, MODEL_FILE, READ
from common.difference.weights import share_bank
from common.errors import DataError, UserError
from common.files import REPOSITORY, only_writer, write_whole
from common.inference.terminal import unless_closed
from scripts.release import stages as planned
from scripts.release.digests import Digests, State, outputs_of, resolved, runs_of
from scripts.release.stages import EPOCHS, RUNS, Stage


class Release:
    """The stages of a release in `root`, and what is noted of those that were begun or done."""

    def __init__(self, root: Path, stages: Sequence[Stage]):
        self.root, self.stages, self.notes = root, stages, root / RUNS / "done.json"
        self.digests = Digests(root, root / RUNS / "digests.json")
        try:
            self.done: dict[str, Any] = json.loads(self.notes.read_text()) if self.notes.is_file() else {}
        except ValueError:
            raise DataError(f"{self.notes} is damaged; delete it, and every stage is done again.") from None

    def why(self, stage: Stage, state: State) -> str:
        """Why a stage is to be done; empty if it is done."""
        noted = self.noted(stage.name)
        if not noted:
            return "never done"
        changed = sorted(
            name for name in {*state.inputs, *noted["inputs"]} if state.inputs.get(name) != noted["inputs"].get(name)
        )
        if changed:
            return f"changed: {', '.join(changed)}"
        if noted["digest"] != state.digest:
            return "its commands changed"
        if noted["seconds"] is None:
            return "interrupted"
        gone = [path for path in outputs_of(stage, self.root) if not path.exists()]
        return f"gone: {gone[0].relative_to(self.root)}" if gone else ""

    def noted(self, name: str) -> dict[str, Any]:
        """What is noted of a stage; nothing of notes by older code, which knew no digests."""
        noted = self.done.get(name)
        return noted if isinstance(noted, dict) else {}

    def note(self, stage: Stage, state: State, seconds: int | None) -> None:
        """Note that a stage was begun (seconds None) or done."""
        self.done[stage.name] = {"digest": state.digest, "seconds": seconds, "inputs": state.inputs}
        self.digests.save()
        write_whole(self.notes, json.dumps(self.done, indent=1) + "\n")

    def make(self, stage: Stage) -> None:
        """Do a stage unless it is done; raises DataError naming the command that failed."""
        state = self.digests.state(stage)
        why = self.why(stage, state)
        if not why:
            print(f"stage {stage.name}: done before", flush=True)
            return
        print(f"stage {stage.name}: {why}", flush=True)
        if stage.trains and self.noted(stage.name).get("digest") != state.digest:
            self.forget(stage)
        self.note(stage, state, None)
        started = time.monotonic()
        for command in self.commands(stage):
            print("$ python " + " ".join(command), flush=True)
            status = subprocess.run([sys.executable, *command], cwd=self.root, check=False).returncode
            if status:
                raise DataError(f"stage {stage.name} stopped: '{command[0]}' ended with status {status}.")
        if stage.release:
            self.release(stage)
        seconds = round(time.monotonic() - started)
        written = {str(path.relative_to(self.root)) for path in outputs_of(stage, self.root)}
        if written & {resolved(name, self.root) for name in state.inputs}:
            state = self.digests.state(stage)  # what it reads and writes: as it is now
        self.note(stage, state, seconds)
        print(f"stage {stage.name}: {seconds} s", flush=True)

    def commands(self, stage: Stage) -> list[list[str]]:
        """The commands of a stage as they are run: a training that was begun goes on, weights are where they lie."""
        commands = [[resolved(word, self.root) for word in command] for command in stage.commands]
        runs = runs_of(*stage.trains, self.root) if stage.trains else []
        if runs and (runs[0] / "latest_model.ckpt").is_file():
            commands[0] = [commands[0][0], "--resume", str(runs[0].relative_to(self.root))]
        return commands

    def forget(self, stage: Stage) -> None:
        """Remove the runs of a stage, made of something else; raises DataError for runs that nothing is noted of."""
        name, pipeline = stage.trains or ("", "")
        folder = self.root / RUNS / name / pipeline
        if runs_of(name, pipeline, self.root) and not self.done.get(stage.name):
            raise DataError(f"{folder} holds runs of unknown making; move them away, or begin later with --from.")
        shutil.rmtree(folder, ignore_errors=True)

    def release(self, stage: Stage) -> None:
        """Copy the weights of a finished run to weights/; what was made of the weights before goes with them.

        A bank that other weights have is stored once.
        """
        run, folder = runs_of(*stage.trains, self.root)[0], self.root / "weights" / stage.release
        folder.mkdir(parents=True, exist_ok=True)
        for name in READ:
            (folder / name).unlink(missing_ok=True)
        for name in (MODEL_FILE, CONFIG_FILE, BANK_FILE):
            if (run / "weights" / name).is_file():
                shutil.copy(run / "weights" / name, folder / name)
        share_bank(folder)
        if (run / "history.csv").is_file():  # a head trained on features has none
            shutil.copy(run / "history.csv", folder / "history.csv")


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Command line of this script."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sources", type=Path, required=True, metavar="DIR", help="folder of the archives")
    parser.add_argument("--plan", action="store_true", help="only print the stages and their commands")
    parser.add_argument("--from", dest="first", metavar="STAGE", help="begin with this stage")
    parser.add_argument("--again", action="store_true", help="do even the stages that are done")
    parser.add_argument("--budget", choices=EPOCHS, default="cpu", help="how much computing there is (cpu)")
    return parser.parse_args(argv)


def run(arguments: argparse.Namespace) -> None:
    """Do or print the stages of a command line; raises UserError."""
    stages = planned.stages(arguments.sources.resolve(), arguments.budget)
    names = [stage.name for stage in stages]
    if arguments.first and arguments.first not in names:
        raise DataError(f"There is no stage '{arguments.first}'; they are {', '.join(names)}.")
    chosen = stages[names.index(arguments.first) if arguments.first else 0 :]
    release = Release(REPOSITORY, chosen)
    if arguments.plan:
        plan = [(f"# {stage.name}", *release.commands(stage)) for stage in chosen]
        lines = [head + "".join("\npython " + " ".join(command) for command in commands) for head, *commands in plan]
        unless_closed(lambda: print("\n".join(lines)))
        return
    release.notes.parent.mkdir(parents=True, exist_ok=True)
    with only_writer(release.notes):
        for stage in chosen if arguments.again else ():
            release.done[stage.name] = "again"
        for stage in chosen:
            release.make(stage)


def main(argv: list[str] | None = None) -> int:
    """Entry point; see the module for the exit status."""
    try:
        run(parse_arguments(argv))
    except UserError as error:
        print(f"train_release: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ntrain_release: stopped. The same command goes on.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
