"""The page that scripts/age_app.py serves; Streamlit runs it from top to bottom at every click."""

import sys

import pandas as pd
import streamlit as st

from common.data.predictions import answered, to_csv
from common.difference.bank import ReferenceBank
from common.errors import UserError
from common.pipeline import AgePipeline
from scripts.age_app import PROBABILITY, Estimated, Upload, age_at_photo, estimate_uploads, personal_bank

TYPES = ["jpg", "jpeg", "png", "webp", "bmp", "tif", "tiff"]
MODES = {"corrected by references": "full", "base estimate alone": "bypass"}


@st.cache_resource(show_spinner="Loading the weights …")
def pipeline_of(weights: str) -> AgePipeline:
    """The weights, loaded once for all visitors."""
    return AgePipeline.from_weights(weights)


def uploads_of(files: list) -> list[Upload]:
    """What the browser sent."""
    return [Upload(file.name, file.getvalue()) for file in files if file is not None]


def ask_for_photos() -> list[Upload]:
    """The photos to estimate, from files or the camera."""
    source = st.segmented_control("Photos from", ["files", "camera"], default="files", label_visibility="collapsed")
    if source == "camera":
        return uploads_of([st.camera_input("Take a photo")])
    return uploads_of(st.file_uploader("Photos", TYPES, accept_multiple_files=True))


def ask_for_bank(pipeline: AgePipeline) -> ReferenceBank | None:
    """The bank of the person's own dated photos, where there are any."""
    with st.expander("Correct with dated photos of the same person"):
        st.caption("Two or more help. Ages come from the birth date and the camera's date in the file, or from you.")
        birth = st.text_input("Birth date", placeholder="1987-06-30")
        uploads = uploads_of(st.file_uploader("Dated photos", TYPES, accept_multiple_files=True))
        if not uploads:
            return None
        known = pd.DataFrame({"photo": [upload.name for upload in uploads]})
        known["age"] = [age_at_photo(upload, birth) for upload in uploads]
        ages = st.data_editor(known, disabled=["photo"], hide_index=True, key=f"ages {birth} {len(uploads)}")["age"]
        dated = [Upload(upload.name, upload.data, float(age)) for upload, age in zip(uploads, ages, strict=True)]
        try:
            bank, problems = personal_bank(dated, pipeline)
        except UserError as error:
            st.warning(str(error))
            return None
        for problem in problems:
            st.warning(f"Not used: {problem}")
        st.success(f"{len(bank)} reference(s) in use.")
        return bank


def show(result: Estimated) -> None:
    """Ages, images, what could not be used, and the table to download."""
    table = result.table
    for row in table[~answered(table)].itertuples():
        st.error(f"{row.path}: {row.status}")
    for row in table[answered(table)].itertuples():
        span = "" if pd.isna(row.interval_low) else f" · {row.interval_low:.0f} to {row.interval_high:.0f}"
        st.markdown(f"### {row.age:.1f} years{span}")
        st.caption(f"{row.path}, face {row.face + 1} · base estimate {row.base_age:.1f}")
    for photo in result.photos:
        st.image(photo)
    if result.faces:
        st.subheader("What the faces were compared with")
        st.caption("The bank holds no images: only the ages of its faces and what each of them says.")
    for face in result.faces:
        st.image(face)
    st.download_button("Download the table (CSV)", to_csv(table), "ages.csv", "text/csv")


def page(weights: str) -> None:
    """The whole page."""
    st.set_page_config("Age by difference", layout="centered")
    st.title("Age by difference")
    st.caption(
        f"Apparent age from one image, wrong by several years as a rule; the span holds the age {PROBABILITY:.0%} of "
        "the time on photos like those it was calibrated on. Nothing leaves this machine. Not for decisions on people."
    )
    pipeline = pipeline_of(weights)
    uploads = ask_for_photos()
    mode = MODES[st.radio("Estimate", list(MODES), horizontal=True)]
    bank = ask_for_bank(pipeline) if mode == "full" else None
    if uploads:
        try:
            with st.spinner("Estimating …"):
                show(estimate_uploads(uploads, pipeline, mode, bank))
        except UserError as error:
            st.error(str(error))


if __name__ == "__main__":
    page(sys.argv[1])
