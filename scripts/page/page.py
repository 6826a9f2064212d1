"""The page that scripts/age_app.py serves; Streamlit runs it from top to bottom at every click."""

import os
import sys

import streamlit as st

from common.pipeline import AgePipeline
from scripts.page.ages_tab import ages_tab
from scripts.page.album_tab import album_tab
from scripts.page.cards import STYLE
from scripts.page.photos import PROBABILITY, Visit, Workshop
from scripts.page.references_tab import references_tab

TITLE = "How old do faces look, and when was a photo taken? Estimated on this machine; nothing leaves it."
ABOUT = (
    "Apparent age from one image, wrong by several years as a rule; the bar holds the age "
    f"{PROBABILITY:.0%} of the time on photos like those it was calibrated on. "
    "A reload of the page forgets photos and what was typed. Not for decisions on people."
)


@st.cache_resource(show_spinner="Loading the weights …")
def workshop_of(weights: str) -> Workshop:
    """The weights, loaded once for all visitors."""
    return Workshop(AgePipeline.from_weights(weights), os.cpu_count() or 1)


def visit_of(weights: str) -> Visit:
    """This visitor's photos and results, seen by nobody else and gone with the visit."""
    if "visit" not in st.session_state:
        st.session_state["visit"] = Visit(workshop_of(weights))
    return st.session_state["visit"]


def page(weights: str) -> None:
    """The whole page."""
    st.set_page_config("Age by difference", layout="wide")
    st.html(STYLE)
    st.caption(TITLE)
    visit = visit_of(weights)
    ages, own, album = st.tabs(["Ages", "References", "Album"])
    with own:
        references, place = references_tab(visit)
    with ages:
        ages_tab(visit, references, place)
    with album:
        album_tab(visit)
    st.caption(ABOUT)


if __name__ == "__main__":
    page(sys.argv[1])
