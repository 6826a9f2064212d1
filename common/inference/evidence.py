"""Each face drawn beside the references that corrected it."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from common.files import short_stem
from common.inference.drawings import draw_votes, save_drawing
from common.inference.estimates import Evidence, FaceAge
from common.inference.own_drawn import draw_own


def draw_evidence(faces: Sequence[FaceAge], folder: Path) -> None:
    """Draw each face that holds its evidence beside its references into `folder`; prints where.

    The user's own are shown by their faces, without them those of the training bank by dots; where the age is not the
    one by these (a gate), both are marked. Raises DataError where an image cannot be written.
    """
    drawn = [(number, face) for number, face in enumerate(faces) if face.evidence is not None]
    for number, face in drawn:
        if face.evidence is not None:
            _draw(face, face.evidence, folder / f"{number:04d}_{short_stem(face.photo)}_references")
    count = sum(face.face is not None for face in faces)
    print(f"drawn: {len(drawn)} of {count} faces beside their references in {folder}")


def _draw(face: FaceAge, evidence: Evidence, path: Path) -> None:
    if evidence.own:
        save_drawing(draw_own(face, evidence), Path(f"{path}.jpg"))
        return
    votes = pd.DataFrame({"age": evidence.reference_ages, "vote": evidence.votes, "weight": evidence.weights})
    marks = {"base": face.base_age, "corrected": evidence.corrected}
    if abs(face.age - evidence.corrected) > 0.05:
        marks = {"base": face.base_age, "in the end": face.age, "by these": evidence.corrected}
    draw_votes(evidence.crop, votes, marks, (face.low, face.high), Path(f"{path}.png"))
