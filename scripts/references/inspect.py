"""What a reference bank holds and what it would change: printed and drawn."""

from pathlib import Path

import numpy as np

from common.difference.bank import load_bank, one_spelling
from common.difference.corrector import Faces
from common.difference.own_references import UserReferences
from common.difference.own_settings import load_settings
from common.errors import DataError
from common.faces.photo_files import DRAWING_HEAD, is_drawing
from common.pipeline import AgePredictBasicPipeline
from scripts.references.card import card_lines, draw_card, make_card

FEW = 10  # references below which leaving one out changes much


def inspect_bank(path: Path, base: AgePredictBasicPipeline) -> None:
    """Print the calibration card of a bank and the leave-one-out correction; draw both beside the bank."""
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
    card = make_card(bank)
    print("\n".join(card_lines(card)) + "\n")
    domain, both = user.leave_one_out()
    print("mean absolute error of these faces, each corrected by the others (years):")
    alone = len(people) == 1 and not unnamed
    others = {} if alone else {"with other people": domain.age}
    corrected = {"as estimated": bank.estimates} | others | {"and the person's own": both.age}
    for name, ages in corrected.items():
        print(f"  {name:22s} {np.abs(ages - bank.ages).mean():.2f}")
    if 1 < len(bank) < FEW:
        count = len(bank)
        print(f"(each by {count - 1}; a new photo is corrected by all {count}, which with so few is better)")
    draw_card(card, lambda span: _domain_correction(user, span), drawn)
    print(f"drawn: {drawn}")


def _domain_correction(user: UserReferences, estimates: np.ndarray) -> np.ndarray:
    nobody = np.full(len(estimates), "")
    return user.correct(Faces(np.zeros((len(estimates), 1)), estimates, nobody, nobody)).age - estimates


def refuse_picture(path: Path) -> None:
    """Raise DataError for a file that is no drawing of ours: an image of somebody's own is not drawn over."""
    if not path.exists():
        return
    with path.open("rb") as file:
        if is_drawing(file.read(DRAWING_HEAD)):
            return
    raise DataError(f"{path}, where the bank would be drawn, is another image; move it or rename the bank.")
