"""What the browser sends, as photos of a visit."""

from collections.abc import Sequence

import streamlit as st

from common.faces.photo_files import IMAGE_SUFFIXES
from scripts.page.cards import note
from scripts.page.photos import Upload

TYPES = sorted(suffix.removeprefix(".") for suffix in IMAGE_SUFFIXES)
MOST_PHOTOS = 200  # of a visit in one tab


def ask_for_uploads(label: str) -> list[Upload]:
    """A place to drop photos, and those that are there, each content once."""
    return uploads_of(st.file_uploader(label, TYPES, accept_multiple_files=True, key=label), label)


def uploads_of(files: Sequence, key: str) -> list[Upload]:
    """What the browser sent into the widget `key`, each content once; says so beyond MOST_PHOTOS.

    What was read from a file that is still there (its SHA-1, its dates) is not read again.
    """
    known = st.session_state.get(f"uploads {key}", {})
    here = {file.file_id: known.get(file.file_id) or Upload(file.name, file.getvalue()) for file in files}
    st.session_state[f"uploads {key}"] = here
    uploads = list({upload.id: upload for upload in here.values()}.values())
    if len(uploads) > MOST_PHOTOS:
        st.html(note(f"Of {len(uploads)} photos the first {MOST_PHOTOS} are looked at.", bad=True))
    return uploads[:MOST_PHOTOS]
