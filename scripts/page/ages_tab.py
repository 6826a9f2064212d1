"""The tab Ages: photos in, a row of cards for each out, a table to download."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import streamlit as st

from common.errors import UserError
from common.inference.estimates import FaceAge
from common.inference.inputs import demo_photo
from common.inference.options import SHORT
from common.inference.table import as_text, predictions_of
from scripts.page.album import demo
from scripts.page.album_tab import show_album
from scripts.page.cards import note, photo_row
from scripts.page.photos import MODES, Upload, Visit
from scripts.page.references import References
from scripts.page.uploads import ask_for_uploads, uploads_of

PORTRAIT, ALBUM, CAMERA = "Try a portrait", "Try an album", "Take a photo"


def ask_for_photos() -> tuple[list[Upload], bool]:
    """The photos to estimate (files, the camera's, or the example), and whether the example album is asked for."""
    uploads = ask_for_uploads("Drop photos here, or choose them")
    with st.container(horizontal=True):
        for name in (CAMERA, PORTRAIT, ALBUM):
            if st.button(name, key=name):
                st.session_state["start"] = "" if st.session_state.get("start") == name else name
    start = st.session_state.get("start", "")
    if start == CAMERA and (taken := st.camera_input(CAMERA, label_visibility="collapsed")):
        uploads += uploads_of([taken], CAMERA)
    if start == PORTRAIT and not uploads:
        uploads = [Upload("astronaut.png", demo_photo().read_bytes())]
    return uploads, start == ALBUM and not uploads


def ages_tab(visit: Visit, references: References, place) -> None:
    """The whole tab; `references` are those of the tab References, where `place` is to say what they change, too."""
    uploads, album = ask_for_photos()
    if album:
        st.html(note("An example: six simulated people, half of the photos undated. Your own go to the tab Album."))
        show_album(demo(visit), "demo")
    if not uploads:
        return
    downloads, wrong, rows, told = st.container(horizontal=True), st.container(), st.container(), st.container()
    mode = st.session_state.get("mode", next(iter(MODES)))
    alone = estimate_all(visit, uploads, MODES[mode])
    faces = [replace(face, row=row) for row, ages in enumerate(alone) for face in ages]
    corrected: list[FaceAge] = []
    if references.own is not None and MODES[mode] == "full":
        try:
            estimates = visit.with_own(uploads, MODES[mode], references.own)
            faces = corrected = estimates.faces
            for somewhere in (told, place):
                somewhere.html("".join(note(said) for said in estimates.notes))
        except UserError as error:
            wrong.html(note(str(error), bad=True))
    for row, (upload, ages) in enumerate(zip(uploads, alone, strict=True)):
        own = [face for face in corrected if face.row == row]
        rows.html(photo_row(upload.name, visit.found(upload), ages, own, references.faces))
    offer(downloads, uploads, faces)
    with st.expander("Settings"):
        st.radio("Estimate", list(MODES), horizontal=True, key="mode")


def estimate_all(visit: Visit, uploads: Sequence[Upload], mode: str) -> list[list[FaceAge]]:
    """The ages of each photo without own references, showing how far it is."""
    bar, ages = st.empty(), []
    for number, upload in enumerate(uploads):
        if len(uploads) > 1:
            bar.progress(number / len(uploads), f"Photo {number + 1} of {len(uploads)}")
        ages.append(visit.ages(upload, mode))
    bar.empty()
    return ages


def table_of(uploads: Sequence[Upload], faces: Sequence[FaceAge]) -> pd.DataFrame:
    """The predictions table of faces whose `row` numbers these photos."""
    manifest = pd.DataFrame({"path": [upload.name for upload in uploads], "id": [upload.id for upload in uploads]})
    unknown = {"person": "", "gender": "", "group": "", "age": np.nan, "age_min": np.nan, "age_max": np.nan}
    return predictions_of(faces, manifest.assign(**unknown))


def offer(place, uploads: Sequence[Upload], faces: Sequence[FaceAge]) -> None:
    """The table to download, as CSV and JSON."""
    table = table_of(uploads, faces)
    for kind, media in (("csv", "text/csv"), ("json", "application/json")):
        text, name = as_text(table, SHORT, Path(f"ages.{kind}")), f"Download {kind.upper()}"
        place.download_button(name, text, f"ages.{kind}", media, on_click="ignore")
