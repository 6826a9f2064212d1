"""What a reference bank holds and what it would change: printed and drawn."""

from pathlib import Path

import numpy as np

from common.difference.bank import load_bank, one_spelling
from common.difference.corrector import Faces
from common.difference.own_references import UserReferences
from common.difference.own_settings import load_settings
from common.errors import DataError
from common.faces.photo_files import DRAWING_HEAD, is_drawing
from common.figures import BLUE, ORANGE, new_figure, save_figure
from common.pipeline import AgePredictBasicPipeline


def inspect_bank(path: Path, base: AgePredictBasicPipeline) -> None:
    """Print count, ages, people, the base's residuals and the leave-one-out correction; draw it beside the bank."""
    bank = one_spelling(load_bank(path, base.fingerprint))
    drawn = path.with_suffix(".png")
    refuse_picture(drawn)
    user = UserReferences(bank, load_settings(base.folder))
    people, photos = np.unique(bank.person[bank.named], return_counts=True)
    ages, several = bank.ages, int((photos > 1).sum())
    print(f"{len(bank)} references, ages {ages.min():.0f} to {ages.max():.0f}, median {np.median(ages):.0f}")
    unnamed = int((~bank.named).sum())
    print(f"{len(people)} named people, {several} of them with several images; {unnamed} images unnamed")
    print("identities: " + ("none (built without --identities)" if bank.identity is None else "yes, for --person auto"))
    known = bank.estimates.astype(float)
    residual = bank.ages - known
    print(
        f"true age minus the base's estimate: mean {residual.mean():+.2f}, median {np.median(residual):+.2f}, "
        f"standard deviation {residual.std():.2f} years"
    )
    domain, both = user.leave_one_out()
    print("mean absolute error of these faces, each corrected by the others (years):")
    for name, ages in (("as estimated", known), ("with other people", domain.age), ("and the person's own", both.age)):
        print(f"  {name:22s} {np.abs(ages - bank.ages).mean():.2f}")
    figure, (axis,) = new_figure(6, 4.5)
    span = np.linspace(known.min(), known.max(), 100)
    nobody = np.full(100, "")
    corrected = user.correct(Faces(np.zeros((100, 1)), span, nobody, nobody)).age
    axis.scatter(known, residual, s=12, color=BLUE, alpha=0.6, label="reference")
    axis.axhline(0, color="black", linewidth=0.8)
    axis.plot(span, corrected - span, color=ORANGE, label="correction")
    axis.set(xlabel="the base's estimate (years)", ylabel="true age - estimate (years)", title=path.name)
    axis.legend(frameon=False)
    save_figure(figure, drawn)
    print(f"drawn: {drawn}")


def refuse_picture(path: Path) -> None:
    """Raise DataError for a file that is no drawing of ours: an image of somebody's own is not drawn over."""
    if not path.exists():
        return
    with path.open("rb") as file:
        if is_drawing(file.read(DRAWING_HEAD)):
            return
    raise DataError(f"{path}, where the bank would be drawn, is another image; move it or rename the bank.")
