"""The tab Album: photos of several people, names typed once, births and dates, and what follows from all of them."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import streamlit as st

from AlbumPipeline.AlbumPipeline__report import contradictions, fit_of, people_table
from common.errors import UserError
from scripts.page.album import (
    AlbumFace,
    Answer,
    album_faces,
    files_of,
    people_of,
    photo_names,
    solve,
    stated_dates,
    suggested_name,
)
from scripts.page.cards import complaint, data_of, folded, image_of, note, text_of
from scripts.page.photos import PROBABILITY, Upload, Visit
from scripts.page.timelines import photos_table, timeline
from scripts.page.uploads import ask_for_uploads

MOST_TIMELINES = 12
STRIP = 12  # faces of a person that are shown
INTRODUCTION = (
    "Drop the photos of a family: faces are grouped by who they look like, you type each name once. Births and dates "
    "that you know date the rest."
)
FILES = (
    "Dates of the photos, births of the people, what was read of each face; and the years that were found, which "
    "exiftool -csv=exiftool.csv FOLDER writes into the photos. Faces are read by the base alone here: the tab Ages may "
    "differ by a year."
)
UNPLACED = "Nothing connects these faces to a year yet: type a birth, or the date of one photo."


def album_tab(visit: Visit) -> None:
    """The whole tab."""
    uploads = ask_for_uploads("Drop the photos of an album")
    if not uploads:
        st.caption(INTRODUCTION)
        return
    names, faces, bar = photo_names(uploads), [], st.empty()
    for number, upload in enumerate(uploads):
        bar.progress(number / len(uploads), f"Photo {number + 1} of {len(uploads)}")
        faces += album_faces(visit, upload, names[upload.id])
    bar.empty()
    for face in faces:
        if not face.key:
            st.html(note(f"{face.photo}: {face.status}", bad=True))
    result = st.container()
    try:
        with result, st.spinner("Who is who …"):
            groups = people_of(visit, uploads, faces)
        people, births = ask_for_people(visit, groups)
        dates = ask_for_dates(visit, uploads, names, {face.id: face.portrait for face in faces[::-1]})
        with result, st.spinner("Dating the photos …"):
            answer = solve(visit, faces, people, births, dates)
    except UserError as error:
        result.html(note(str(error), bad=True))
        return
    with result:
        show_album(answer, "own album")


def ask_for_people(visit: Visit, groups: Sequence[Sequence[AlbumFace]]) -> tuple[dict[str, str], dict[str, str]]:
    """Names by the key of a face, births as typed by name."""
    st.subheader("Who is who")
    st.caption("Faces are grouped by who they look like. The same name in two boxes makes them one person.")
    names: dict[str, str] = {}
    births: dict[str, str] = {}
    for number, group in enumerate(groups):
        key = " ".join(face.key for face in group)
        with st.container(border=True):
            st.html(f'<div class="age-faces">{"".join(_small(place, face) for place, face in enumerate(group))}</div>')
            with st.container(horizontal=True):
                name = st.text_input("Name", suggested_name(visit, group, number), key=f"name {key}", width=200).strip()
                if again := bool(name) and name in names.values():
                    born = ""
                else:
                    born = st.text_input(
                        "Born", visit.typed.get(f"born {name}", ""), key=f"born {key} {name}", width=200,
                        placeholder="1931, 1940-06-30",
                    ).strip()  # fmt: skip
                others = st.multiselect("Not this person", range(1, len(group) + 1), key=f"not {key}", width=200)
        for place, face in enumerate(group):
            names[face.key] = "" if place + 1 in others else name
            visit.typed[f"name {face.key}"] = name
            if again:
                st.caption(f"The same {name} as above.")
            elif born and not complaint(born):
                births[name] = visit.typed[f"born {name}"] = born
            elif born:
                st.html(note(complaint(born), bad=True))
    return names, births


def _small(place: int, face: AlbumFace) -> str:
    if place >= STRIP:
        return ""
    picture = image_of(face.portrait, f"face {place + 1}, {face.photo}")
    return f"<figure>{picture}<figcaption>{place + 1}<br>{text_of(face.photo)}</figcaption></figure>"


def ask_for_dates(
    visit: Visit, uploads: Sequence[Upload], names: dict[str, str], portraits: dict[str, bytes]
) -> dict[str, tuple[str, str]]:
    """The date that is stated of each photo, and one it is not later than, by the id of the photo.

    `names` and `portraits` (JPEG of its largest face) are by that id, too.
    """
    st.subheader("When it was")
    no_exif = st.checkbox("These are scans: do not believe the camera's date", key="no exif")
    stated = {upload.id: stated_dates(upload, no_exif) for upload in uploads}
    typed = [visit.typed.get(f"date {upload.id} {no_exif}", stated[upload.id][0]) for upload in uploads]
    shown = [data_of(portraits[upload.id]) if portraits.get(upload.id) else None for upload in uploads]
    table = pd.DataFrame({"face": shown, "photo": [names[upload.id] for upload in uploads], "date": typed})
    edited = st.data_editor(
        table, disabled=["face", "photo"], hide_index=True, width="stretch",
        key=f"dates {hash(tuple(stated))} {no_exif}",
        column_config={
            "face": st.column_config.ImageColumn("", width=45),
            "date": st.column_config.TextColumn("date (1987-06-30, 1970s, empty: unknown)"),
        },
    )  # fmt: skip
    dates = {}
    for upload, text in zip(uploads, edited["date"], strict=True):
        typed = visit.typed[f"date {upload.id} {no_exif}"] = (text or "").strip()
        if typed and (wrong := complaint(typed)):
            st.html(note(f"{names[upload.id]}: {wrong}", bad=True))
            typed = ""
        dates[upload.id] = typed, stated[upload.id][1]
    return dates


def show_album(answer: Answer, key: str) -> None:
    """A solved album: contradictions, a timeline for each person, files to download, the dates of the photos.

    `key` tells it from other albums on the page.
    """
    solved = answer.solved
    wrong, placed = contradictions(solved), people_table(solved, PROBABILITY)["status"].to_numpy() != "unknown"
    notes = [folded(f"Contradictions, marked below and not believed: {len(wrong)}", wrong)] if wrong else []
    notes += [note(*answer.problems, bad=True)] if answer.problems else []
    notes += [note(UNPLACED)] if not placed.any() else []
    notes += [note(fit)] if (fit := fit_of(solved)) else []
    if notes:
        st.html("".join(notes))
    columns = st.columns(2)
    for place, number in enumerate(np.flatnonzero(placed)[:MOST_TIMELINES].tolist()):
        columns[place % 2].altair_chart(timeline(solved, number), width="stretch", key=f"{key} {number}")
    with st.container(horizontal=True):
        for name, text in files_of(solved).items():
            st.download_button(f"Download {name}", text, name, "text/csv", on_click="ignore", key=f"{key} {name}")
    st.caption(FILES)
    with st.expander(f"Dates of {len(solved.table.photo)} photos", expanded=True):
        st.html(photos_table(solved))
