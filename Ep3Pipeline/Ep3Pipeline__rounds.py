"""Iterated refinement of the training: every round trains on the errors that the rounds before leave, too.

In use the corrected age becomes the next estimate, and is wrong in other ways than the base's. What it is wrong by is
measured on faces that a head was not trained on: two more heads, each trained on one half of the queries and with no
reference from the other half, correct the half that the other one was trained on.
"""

import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from common.checkpoints import load_checkpoint
from common.embedded import EmbeddedFaces
from common.errors import DataError
from common.tables import markdown
from common.tuning import make_optimizer
from Ep3Pipeline.Ep3Pipeline__dataset import draw_errors
from Ep3Pipeline.Ep3Pipeline__train import (
    BEST,
    LATEST,
    Run,
    export,
    make_run,
    predict,
    set_stages,
    take_up,
    train_epochs,
)


def half_of(faces: EmbeddedFaces) -> np.ndarray:
    """Half (0 or 1) [N] int that each face belongs to, by a hash of its person, or its id where that is unknown."""
    names = np.where(faces.person != "", faces.person, faces.id)
    return np.array([zlib.crc32(str(name).encode()) % 2 for name in names], int)


def half_run(run: Run, half: int) -> Run:
    """A run of its own in <run>/half_<half> on that half of the queries, the faces of the other being no references.

    It is taken up where it was left, if it was. Raises DataError if it has no query of exact age.
    """
    data, mine = run.data, half_of(run.data.queries) == half
    if not data.queries.where(mine).exact.any():
        raise DataError("There are too few queries of exact age for --rounds; give --rounds 1 or more faces.")
    other = data.queries.where(~mine)
    named = np.isin(data.bank.person, other.person) & (data.bank.person != "")
    allowed = ~(named | np.isin(data.bank.id, other.id))
    if not allowed.any():
        raise DataError("Half of the faces is no bank of references; give --bank base+dar.")
    parts = {"queries": data.queries.where(mine), "bank": data.bank.rows(allowed)}
    parts |= {"bank_faces": data.bank_faces.where(allowed), "stages": data.stages[:1]}
    folder = run.folder / f"half_{half}"
    own = make_run(run.config, folder, run.base, run.pipeline, replace(data, **parts))
    if (folder / LATEST).is_file():
        take_up(own)
    return own


def held_out_errors(halves: list[Run], queries: EmbeddedFaces, iterations: int) -> np.ndarray:
    """Errors [N] (age - corrected age, years) of the exactly labelled queries, each by the head of the other half."""
    ages, half = np.empty(len(queries), np.float32), half_of(queries)
    for number, run in enumerate(halves):
        ages[half != number] = predict(run, queries.where(half != number), iterations)
    return (queries.low - ages)[queries.exact]


def begin_round(run: Run, stages: list[np.ndarray]) -> None:
    """Take the best head so far into a new round, whose estimates are wrong by the errors of these stages."""
    run.head.load_state_dict(load_checkpoint(run.folder / BEST)["head"])
    run.optimizer, run.schedule = make_optimizer(run.config, run.head, run.pipeline.model, len(run.data.queries))
    run.progress.round, run.progress.epoch = run.progress.round + 1, 0
    set_stages(run, stages)


def left_errors(run: Run, halves: list[Run]) -> np.ndarray:
    """Errors [N] (years) that the round of a run leaves, after training the halves for it."""
    for number, half in enumerate(halves):
        print(f"Round {run.progress.round}: a head for half {number} of the queries")
        if half.progress.round < run.progress.round:
            begin_round(half, run.data.stages)
        train_epochs(half)
    return held_out_errors(halves, run.data.queries, run.progress.round)


def fit(run: Run) -> Path:
    """Train round after round while the validation error falls; returns the folder of the weights of the best."""
    train_epochs(run)
    halves: list[Run] = []
    while run.progress.round < run.config.rounds and run.progress.best_round == run.progress.round:
        halves = halves or [half_run(run, half) for half in (0, 1)]
        errors = left_errors(run, halves)
        begin_round(run, [*run.data.stages, errors])
        draw_errors(errors, run.data.errors, run.folder / f"errors_{run.progress.round}.png")
        print(f"Round {run.progress.round}: the head of all queries")
        train_epochs(run)
    for each in (run, *halves):
        each.writer.close()
    if run.config.rounds > 1:
        print("\n".join(round_lines(run)))
    return export(run)


def round_lines(run: Run) -> list[str]:
    """Markdown table of the rounds of a run: which errors it added to those drawn, and what came of it on val."""
    rows = []
    for number, part in pd.DataFrame(run.progress.history).groupby("round"):
        added = np.abs(run.data.stages[number - 1]).mean()
        values = (added, part["val_base"].iloc[0], part["val_full"].min())
        cells = [f"{value:.3f}" for value in values]
        rows.append([number, cells[0], len(part), *cells[1:]])
    return markdown(["round", "MAE of the estimates it adds", "epochs", "val base", "val full"], rows)
