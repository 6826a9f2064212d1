"""What every `__infer2` does with its options: refuse, estimate, write the table, and only then print and draw."""

import sys
from collections.abc import Callable, Iterable
from typing import Protocol, TypeVar

import pandas as pd

from common.base.regressor import AgePredictBasicPipeline
from common.data.predictions import check_out, write_text
from common.errors import DataError, UserError
from common.inference.drawings import draw_photos
from common.inference.estimates import Estimates, Face, FaceAge, Request
from common.inference.evidence import draw_evidence
from common.inference.inputs import list_inputs, read_faces
from common.inference.options import ALL, SHORT, InferenceOptions
from common.inference.progress import progress
from common.inference.report import SHOWN, SHOWN_BESIDE_FILE, exit_status, print_failed, print_gain, print_result
from common.inference.shards import infer_in_shards, take_shard
from common.inference.table import MARK, as_text, predictions_of
from common.inference.terminal import attempt, command, ended_like_ctrl_c, patient_output, printable, unless_closed

EXPLAINED = 50  # faces drawn by --explain at most
Kind = TypeVar("Kind", bound=InferenceOptions)


class EstimatesFaces(Protocol):
    """An AgePipeline, or what stands in for one."""

    base: AgePredictBasicPipeline

    def bypass(self) -> "EstimatesFaces": ...

    def estimate_faces(self, found: Iterable[Face | FaceAge], request: Request) -> Estimates: ...


def infer(
    options: Kind,
    name: str,
    load: Callable[[Kind], EstimatesFaces],
    told: Callable[[pd.DataFrame, Kind], None] = lambda table, options: None,
) -> int:
    """Estimate all inputs of a command line, write and tell; returns the exit status.

    `name` is the pipeline's, `load` loads its weights, `told` prints what only this pipeline has to say of its table.
    """
    try:
        with patient_output():
            return _infer(options, load, told)
    except UserError as error:
        print(f"{command(name)}: {printable(str(error))}", file=sys.stderr)
        return 2


def _infer(options: Kind, load: Callable[[Kind], EstimatesFaces], told: Callable[[pd.DataFrame, Kind], None]) -> int:
    options.check()
    if options.out:
        check_out(options.out)
    manifest = list_inputs(options)
    if options.processes > 1:
        table = infer_in_shards(options, manifest)
        unless_closed(lambda: _tell(table, Estimates([], [], False), options, told))
        print_failed(table)
        return exit_status(table)
    if options.shard:
        return _infer_shard(options, load, manifest)
    pipeline = load(options)
    with ended_like_ctrl_c():
        estimates = estimate(pipeline, manifest, options)
    table = predictions_of(estimates.faces, manifest)
    _write(table, options)
    unless_closed(lambda: _tell(table, estimates, options, told))
    print_failed(table)
    files = dict(zip(manifest["path"], manifest["file"], strict=True))
    drawn = attempt(lambda: _draw(table, files, estimates, options)) if options.explain else True
    whole = drawn and not estimates.stopped
    return exit_status(table) if whole else max(exit_status(table), 1)


def _infer_shard(options: Kind, load: Callable[[Kind], EstimatesFaces], manifest: pd.DataFrame) -> int:
    shard = options.shard
    assert shard is not None
    rows, mine = take_shard(manifest, options, shard)
    estimates = estimate(load(options), rows, options)
    if estimates.stopped:
        raise DataError(f"Stopped; shard {shard} was not written.")
    table = predictions_of(estimates.faces, rows)
    _write(table, mine)
    print(f"shard {shard}: {mine.out}; merge all by --processes {shard.count}")
    return exit_status(table)


def estimate(pipeline: EstimatesFaces, manifest: pd.DataFrame, options: InferenceOptions) -> Estimates:
    """Estimate the inputs of a manifest as the options ask; raises UserError."""
    if options.fast:
        pipeline.base.use_int8()
    if options.mode == "bypass":
        pipeline = pipeline.bypass()
    if options.mode == "oracle" and not (manifest["age"].notna() | (manifest["age_min"] == manifest["age_max"])).all():
        raise DataError("--mode oracle needs the exact age of every face in the manifest.")
    request = Request(
        options.references, options.person, options.false_match_rate, options.interval, options.mode == "oracle",
        votes=_columns(options) == ALL, evidence=EXPLAINED if options.explain else 0, batch_size=options.batch_size,
    )  # fmt: skip
    found = progress(read_faces(manifest, options, pipeline.base), len(manifest), options.shard)
    return pipeline.estimate_faces(found, request)


def _columns(options: InferenceOptions) -> str:
    return options.columns or (ALL if options.manifest else SHORT)


def _write(table: pd.DataFrame, options: InferenceOptions) -> None:
    """Write --out; if that fails at the end (a full disk), print the table, so that nothing is lost."""
    if not options.out:
        return
    text = as_text(table, _columns(options), options.out)
    try:
        write_text(text, options.out)
    except DataError:
        print(text.removeprefix(MARK), end="")
        raise


def _tell(table: pd.DataFrame, estimates: Estimates, options: Kind, told: Callable[[pd.DataFrame, Kind], None]) -> None:
    if options.mode == "oracle":
        print("oracle: the TRUE age was used; these figures are an upper bound.")
    for note in estimates.notes:
        print(note)
    told(table, options)
    print_result(table, options.mode != "bypass", SHOWN_BESIDE_FILE if options.out else SHOWN, options.interval)
    print_gain(table)
    if estimates.stopped:
        print("Stopped before all images were estimated; those that were are in the table.", file=sys.stderr)
    if options.out:
        print(f"predictions: {printable(str(options.out))}")


def _draw(table: pd.DataFrame, files: dict[str, str], estimates: Estimates, options: InferenceOptions) -> None:
    folder = options.explain
    assert folder is not None
    if options.mode != "bypass":
        draw_evidence(estimates.faces, folder)
    if not (options.crops or options.manifest):
        draw_photos(table, files, folder)
