"""The tab References: dated photos of one person, the age of each bound to its content, the bank they make."""

from collections.abc import Sequence

import streamlit as st

from common.errors import UserError
from scripts.page.cards import complaint, image_of, note, text_of
from scripts.page.photos import Upload, Visit
from scripts.page.references import References, age_at_photo, own_references, packed, photo_date, with_kept
from scripts.page.uploads import ask_for_uploads

INTRODUCTION = (
    "Photos of one person whose age you know correct the ages of that person in the tab Ages, from the first one on. "
    "Ages come from the birth date and the date in each photo, or from you."
)


def references_tab(visit: Visit) -> tuple[References, "st.delta_generator.DeltaGenerator"]:
    """The whole tab; the references in use, and where to say what they change."""
    uploads = ask_for_uploads("Drop dated photos of one person")
    kept = st.file_uploader("Or a bank kept here before (.npz)", "npz", key="kept bank")
    if not uploads and kept is None:
        st.caption(INTRODUCTION)
        return References(None, [], {}), st.container()
    with st.container(horizontal=True):
        person = st.text_input("Name", "you", key="reference name", width=200).strip() or "you"
        birth = st.text_input("Born", key="birth", placeholder="1960-06-30 or 1960", width=200)
        recognised = st.checkbox("Correct only faces that look like these photos", True, key="recognised")
    told = st.container()
    if birth and (wrong := complaint(birth)):
        told.html(note(wrong, bad=True))
    references = References(None, [], {})
    if uploads:
        ages, places = ask_for_ages(visit, uploads, birth)
        with st.spinner("Looking at the references …"):
            references = own_references(visit, uploads, ages, person, recognised)
        for number, sentence in references.problems.items():
            places[number].html(note(sentence, bad=True))
    if kept is not None:
        try:
            references = with_kept(visit, references, kept.name, kept.getvalue(), person)
        except UserError as error:
            told.html(note(str(error), bad=True))
    if references.own is not None:
        count = len(references.own.bank)
        told.html(note(f"{count} reference{'' if count == 1 else 's'} kept; what they change is said with the ages."))
        offer_bank(references)
    return references, told


def ask_for_ages(visit: Visit, uploads: Sequence[Upload], birth: str) -> tuple[dict, dict]:
    """Thumbnails with the age under each: ages (years, None unknown) by the id of the photo, and a place below each."""
    ages, places = {}, {}
    with st.container(horizontal=True, key="references"):
        for upload in uploads:
            dated = age_at_photo(upload, birth)
            with st.container(width=160, border=True):
                st.html(thumbnail(visit, upload))
                key = f"age {upload.id} {dated}"
                ages[upload.id] = visit.typed[key] = st.number_input(
                    "Age", 0.0, 120.0, visit.typed.get(key, dated), 1.0, "%.1f", key=key, placeholder="type it"
                )
                places[upload.id] = st.empty()
    return ages, places


def thumbnail(visit: Visit, upload: Upload) -> str:
    """A photo of a reference, small, with its name and date."""
    found, taken = visit.found(upload), photo_date(upload)
    picture = image_of(found.picture, upload.name) if found.picture else ""
    said = text_of(upload.name) + (f"<br>dated {text_of(taken)}" if taken else "<br>not dated")
    return f'<figure class="age-thumbnail">{picture}<figcaption>{said}</figcaption></figure>'


def offer_bank(references: References) -> None:
    """The bank to keep."""
    assert references.own is not None
    bank = references.own.bank
    told = "Keep this bank (.npz)"
    st.download_button(told, packed(bank), "references.npz", "application/octet-stream", on_click="ignore")
    more = " It tells who is shown: keep it like a fingerprint." if bank.identity is not None else ""
    st.caption(f"For age-photos --references references.npz. It holds no photos.{more}")
