"""What a user's own references are worth on a set with known persons: leave-person-out and leave-one-out.

    python scripts/evaluate_references.py --data data/prepared/fgnet_dev --interval 0.9 --out out/references
    python scripts/evaluate_references.py --data data/prepared/publicfigures --held-out --interval 0.9
    python scripts/evaluate_references.py --simulated-people 60
    python scripts/evaluate_references.py --data data/prepared/utkface --split val --limit 300 --simulate blur
    python scripts/evaluate_references.py --table out/references/predictions.csv.gz

Every face is estimated as if it were new. Rows of the table: the base; full (training bank); control (c), offset, line
and isotonic re-calibration of the base fitted on all *other* people; the domain bank (all other people); the personal
bank (the person's other photos, those of the face's own age left out: two photos of one sitting are no test); both.
Then 1, 2, 3, 5 and 10 own photos drawn at random, alone and upon a domain bank, by the mixed model and by the plain
methods it has to beat; the coverage of intervals by decade; and a curve over domain banks of 0, 1, 2, 5 … references.
--simulate makes a domain of its own of a set: all its images grey, blurred, of a warm cast, or dark. The constants are
those beside the base's weights (scripts/release/fit_own_references.py). Writes predictions.csv.gz, own.csv.gz,
coverage.csv, curve.csv and curve.png.
"""

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from common.base.intervals import load_calibrator
from common.base.prediction import spread
from common.data.manifest import SPLITS, load_prepared
from common.data.predictions import read_csv, write_table
from common.difference.bank import ReferenceBank
from common.difference.corrector import Corrector, Faces
from common.difference.embedded import embed, estimator
from common.difference.own_references import UserReferences
from common.difference.own_settings import EffectSettings, load_settings
from common.difference.weights import base_of
from common.errors import DataError, UserError
from common.evaluation.controls import control_table, recalibrations
from common.evaluation.tables import markdown
from common.faces.identity import IdentityEncoder, match_people, threshold
from common.figures import BLUE, ORANGE, new_figure, save_figure
from common.inference.options import AlsoPositional
from common.inference.terminal import until_closed
from common.pipeline import AgePredictBasicPipeline
from DiffPipeline6.DiffPipeline6__model import RELEASED, load_model
from scripts.build_reference_bank import bank_of_prepared
from scripts.references.coverage import coverage_lines, held_by_intervals
from scripts.references.ladder import (
    MODEL,
    age_of,
    curve_tables,
    other_people,
    other_photos,
    own_curve,
    simulated_people,
)

SIMULATIONS = {
    "grey": lambda crop: cv2.cvtColor(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB),
    "blur": lambda crop: cv2.GaussianBlur(crop, (0, 0), 2.0),
    "cast": lambda crop: np.clip(crop * np.array([1.2, 1.0, 0.7]), 0, 255).astype(np.uint8),
    "dark": lambda crop: (255 * (crop / 255) ** 1.8).astype(np.uint8),
}
COUNTS = (0, 1, 2, 5, 10, 20, 50, 100, 200)
DRAWS = 2


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Command line of this script."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--data", dest="folder", type=Path, metavar="DIR", help="prepared folder (see scripts/prepare_data.py)")
    add("folder", nargs="?", type=Path, action=AlsoPositional, help=argparse.SUPPRESS)
    add("--split", choices=SPLITS, help="only this split (all)")
    add("--held-out", action="store_true", help="only faces outside split base, on which bases are trained")
    add("--simulated-people", type=int, metavar="N", help="no data: 11 photos of each of N simulated people")
    add("--interval", type=float, metavar="P", help="also the coverage of intervals of this probability")
    add("--limit", type=int, default=0, metavar="N", help="only N faces, drawn at random")
    add("--simulate", choices=sorted(SIMULATIONS), help="change all images first")
    add("--auto", type=float, metavar="P", help="also find the person by recognition, at this false-match rate")
    add("--weights", type=Path, default=RELEASED, metavar="DIR", help="DiffPipeline6 weights (the released ones)")
    add("--device", default="auto", help="auto, cpu or cuda")
    add("--out", type=Path, default=Path("out/references"), metavar="DIR", help="folder to write (out/references)")
    add("--table", type=Path, metavar="CSV", help="only print the table of stored predictions")
    add("--own", type=Path, metavar="CSV", help="only print the errors by number of own photos of a stored own.csv.gz")
    add("--coverage", type=Path, metavar="CSV", help="only print the coverage of stored intervals")
    add("--curves", type=Path, nargs="+", metavar="CSV", help="only print the errors of stored curves")
    return parser.parse_args(argv)


def read_bank(arguments: argparse.Namespace, pipeline: AgePredictBasicPipeline) -> ReferenceBank:
    """The exactly labelled faces of the folder (or of one split, or so many, or changed ones) as a bank."""
    encoder = IdentityEncoder() if arguments.auto else None
    if not (arguments.split or arguments.limit or arguments.simulate or arguments.held_out):
        return bank_of_prepared(arguments.folder, pipeline, encoder)
    prepared = load_prepared(arguments.folder)
    manifest = prepared.manifest[prepared.manifest["age"].notna()]
    manifest = manifest[manifest["split"] == arguments.split] if arguments.split else manifest
    manifest = manifest[manifest["split"] != "base"] if arguments.held_out else manifest
    if arguments.limit:
        manifest = manifest.sample(min(arguments.limit, len(manifest)), random_state=0).sort_index()
    if manifest.empty:
        raise DataError(f"{arguments.folder} has no face of exact age in split '{arguments.split}'.")
    change = SIMULATIONS.get(arguments.simulate, lambda crop: crop)
    crops = np.stack([change(prepared.crops[row]) for row in manifest.index])
    embeddings, estimates = embed(estimator(pipeline), crops, 0, 0.0, 0)
    ids, persons = (manifest[name].to_numpy(str) for name in ("id", "person"))
    ages, seen = manifest["age"].to_numpy(np.float32), np.zeros(len(manifest), bool)
    return ReferenceBank(
        embeddings[0], ages, estimates[0], seen, persons, ids, pipeline.fingerprint,
        encoder(crops).astype(np.float16) if encoder else None,
    )  # fmt: skip


def evaluate(user: UserReferences, full: np.ndarray, rate: float | None) -> pd.DataFrame:
    """Predictions of every variant for every face: columns id, person, true_age, variant, seed, age.

    `full` [N] years are the ages by the training bank. With a false-match rate also those where the person is not known
    but recognised by the bank's identities.
    """
    bank, rows = user.bank, []
    for row in range(len(bank)):
        others, own = other_people(bank, row), other_photos(bank, row)
        estimate = bank.estimates[row : row + 1].astype(float)
        ages = {"base": float(estimate[0]), "full": float(full[row])}
        for name, calibration in recalibrations(bank.estimates[others].astype(float), bank.ages[others]).items():
            ages[f"(c) {name}"] = float(calibration(estimate)[0])
        parts = {"domain bank": others, "domain + personal bank": np.append(others, own), "personal bank": own}
        ages |= {name: age_of(bank, row, part, user.settings) for name, part in parts.items()}
        if rate is not None:
            ages[f"domain + recognised ({rate:g})"] = age_if_recognised(user, row, rate)
        rows += [(bank.id[row], bank.person[row], bank.ages[row], name, 0, age) for name, age in ages.items()]
    return pd.DataFrame(rows, columns=["id", "person", "true_age", "variant", "seed", "age"])


def usable(bank: ReferenceBank, row: int) -> np.ndarray:
    """Mask [N] bool of the references but the photos of the same person at this very age."""
    return np.isin(np.arange(len(bank)), np.append(other_people(bank, row), other_photos(bank, row)))


def recognised(bank: ReferenceBank, row: int, rate: float) -> str:
    """Whom the face of this row is taken for ('' nobody), photos of its person at this very age left out."""
    identity, allowed = bank.identity.astype(np.float32), usable(bank, row)
    limit = threshold(rate, int((bank.named & allowed).sum()))
    return match_people(identity[row : row + 1], identity, bank.person, allowed[None], limit)[0]


def age_if_recognised(user: UserReferences, row: int, rate: float) -> float:
    """Age (years) of the face of this row where all that is known of the person is whom the face is taken for."""
    bank, person = user.bank, recognised(user.bank, row, rate)
    face = Faces(
        *(part[row : row + 1] for part in (bank.embeddings, bank.estimates)), np.array(["new"]), np.array([""])
    )
    known = UserReferences(bank.rows(np.flatnonzero(usable(bank, row))), user.settings)
    return float(known.correct(face, np.array([person])).age[0])


def recognition_lines(bank: ReferenceBank, rate: float) -> list[str]:
    """Markdown: how many faces are taken for the right person, a wrong one, and nobody, by age."""
    taken = np.array([recognised(bank, row, rate) for row in range(len(bank))])
    right, wrong = taken == bank.person, (taken != bank.person) & (taken != "")
    bands = {"all": (0, 200), "0-12 years": (0, 13), "13-17 years": (13, 18), "18+ years": (18, 200)}
    rows = []
    for name, (low, high) in bands.items():
        part = (bank.ages >= low) & (bank.ages < high)
        if part.any():
            shares = [100 * share[part].mean() for share in (right, wrong, taken == "")]
            rows.append([name, part.sum(), *(f"{share:.0f}" for share in shares)])
    return markdown([f"false-match rate {rate:g}", "faces", "right (%)", "wrong (%)", "nobody (%)"], rows)


def curve(user: UserReferences) -> pd.DataFrame:
    """MAE over the number of references of other people, drawn `DRAWS` times at random for each face."""
    bank, rows, random = user.bank, [], np.random.default_rng(0)
    for row in range(len(bank)):
        others, truth = other_people(bank, row), float(bank.ages[row])
        for _ in range(DRAWS):
            drawn = random.permutation(others)
            for count in [count for count in COUNTS if count <= len(others)]:
                age = age_of(bank, row, drawn[:count], user.settings)
                rows.append(("domain", count, abs(age - truth), abs(bank.estimates[row] - truth)))
    table = pd.DataFrame(rows, columns=["bank", "references", "error", "error_without"])
    grouped = table.groupby(["bank", "references"])
    result = grouped[["error", "error_without"]].mean()
    result["gain"] = result["error_without"] - result["error"]
    result["faces"] = grouped.size() // DRAWS
    return result.reset_index()


def draw_curve(domain: pd.DataFrame, own: pd.DataFrame, title: str, path: Path) -> None:
    """Draw the MAE over the number of references: of other people; own photos alone, and upon a domain bank."""
    figure, (axis,) = new_figure(6, 4.2)
    axis.plot(domain["references"], domain["error"], "o-", color=BLUE, label="other people's photos")
    for upon, style, label in ((False, "s--", "own photos alone"), (True, "^:", "own photos upon a domain bank")):
        part = own[(own["method"] == MODEL) & (own["domain"] == upon)].groupby("own")["error"].mean()
        axis.plot(part.index, part, style, color=ORANGE, label=label)
    axis.set_xscale("symlog", linthresh=1)
    shown = [count for count in COUNTS if count != 100]  # its label would touch that of 200
    axis.set_xticks(shown, [str(count) for count in shown])
    axis.set_xlim(-0.2, 250)
    axis.set(xlabel="references", ylabel="mean absolute error (years)", title=title)
    axis.legend(frameon=False)
    save_figure(figure, path)


def spreads_of(folder: Path, bank: ReferenceBank, base: AgePredictBasicPipeline) -> np.ndarray:
    """Standard deviation [N] (years) of the distribution that the base predicts of each face of a prepared folder."""
    prepared = load_prepared(folder)
    place = {number: row for row, number in enumerate(prepared.manifest["id"])}
    prediction = base.predict([prepared.crops[place[number]] for number in bank.id])
    return spread(prediction.log_probs, base.ages)


def curve_lines(curves: list[Path]) -> list[str]:
    """Markdown table of the MAE with domain banks of so many references, a row for the folder of each curve.csv."""
    shown = (1, 2, 5, 20, 50, 200)
    rows = []
    for path in curves:
        table = read_csv(path)
        errors = table[table["bank"] == "domain"].set_index("references")["error"]
        name = path.parent.name.removeprefix("references_")
        rows.append([name, *(f"{errors[count]:.2f}" for count in (0, *shown))])
    return markdown(["set", "without", *shown], rows)


def stored_lines(arguments: argparse.Namespace) -> list[str]:
    """Markdown tables of what an earlier run stored; raises DataError if a file cannot be read."""
    lines = curve_lines(arguments.curves) if arguments.curves else []
    lines += curve_tables(read_csv(arguments.own, dtype={"person": str})) if arguments.own else []
    return lines + (["", *coverage_lines(read_csv(arguments.coverage))] if arguments.coverage else [])


def run(arguments: argparse.Namespace, corrector: Corrector) -> None:
    """Evaluate a prepared folder and write everything; raises DataError if it names no persons."""
    bank, base = read_bank(arguments, corrector.pipeline), corrector.pipeline
    user = UserReferences(bank, load_settings(base.folder))
    arguments.out.mkdir(parents=True, exist_ok=True)
    if arguments.auto:
        print("\n".join(recognition_lines(bank, arguments.auto)))
    faces = Faces(bank.embeddings.astype(np.float32), bank.estimates, bank.id, bank.person)
    full = corrector.correct(faces, votes=False).age
    write_table(evaluate(user, full, arguments.auto), arguments.out / "predictions.csv.gz", 3)
    own = own_curve(bank, user.settings)
    write_table(own, arguments.out / "own.csv.gz", 3)
    print("\n".join(curve_tables(own)))
    if arguments.interval is not None:
        calibrator = load_calibrator(base.folder, "bypass", base.fingerprint)
        held = held_by_intervals(user, spreads_of(arguments.folder, bank, base), calibrator, arguments.interval)
        write_table(held, arguments.out / "coverage.csv", 3)
        print("\n".join(["", *coverage_lines(held), ""]))
    gains = curve(user)
    write_table(gains, arguments.out / "curve.csv", 3)
    title = f"{arguments.folder.name} {arguments.simulate or ''}: {len(bank)} faces"
    draw_curve(gains, own, title, arguments.out / "curve.png")
    print(gains.to_string(index=False, float_format=lambda value: f"{value:.3f}"))
    print(f"written: {arguments.out}")


def run_simulated(arguments: argparse.Namespace, settings: EffectSettings) -> None:
    """Evaluate on simulated people, numbers only."""
    own = own_curve(simulated_people(arguments.simulated_people, 11, settings), settings, most=100)
    print("\n".join(curve_tables(own)))


def main(argv: list[str] | None = None) -> int:
    """Entry point; exit status 0 done, 2 nothing could be done."""
    arguments = parse_arguments(argv)
    try:
        if arguments.curves or arguments.own or arguments.coverage:
            print("\n".join(stored_lines(arguments)))
            return 0
        if arguments.interval is not None and arguments.simulate:
            raise DataError("--interval is of the faces as they are; leave out --simulate.")
        if arguments.simulated_people:
            run_simulated(arguments, load_settings(base_of(arguments.weights)))
            return 0
        if not arguments.table:
            if not arguments.folder:
                raise DataError("Give a prepared folder, or stored predictions with --table.")
            run(arguments, load_model(arguments.weights, arguments.device))
        stored = arguments.table or arguments.out / "predictions.csv.gz"
        table = read_csv(stored, dtype={"id": str, "person": str})
        for best in ("domain bank", "domain + personal bank"):
            print("\n".join(["", *control_table(table, best)]))
    except (UserError, FileNotFoundError) as error:
        print(f"evaluate_references: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(until_closed(main))
