"""What the browser sends, as photos of a visit."""

from collections.abc import Sequence

import streamlit as st

from common.faces.photo_files import IMAGE_SUFFIXES
from scripts.page.cards import note
from scripts.page.photos import Upload

TYPES = sorted(suffix.removeprefix(".") for suffix in IMAGE_SUFFIXES)
MOST_PHOTOS = 200  # of a visit in one tab


def uploads_of(files: Sequence) -> list[Upload]:
    """What the browser sent, each content once; says so where there are more than MOST_PHOTOS."""
    uploads = list({upload.id: upload for upload in (Upload(file.name, file.getvalue()) for file in files)}.values())
    if len(uploads) > MOST_PHOTOS:
        st.html(note(f"Of {len(uploads)} photos the first {MOST_PHOTOS} are looked at.", bad=True))
    return uploads[:MOST_PHOTOS]
