"""Pictures that came with a trial: TIFF and arrays become PNG, within limits; pages show them."""

from __future__ import annotations

import base64
import io
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from campaigns import Campaign
from campaigns.service.artifacts import decoded, keep
from campaigns.service.bodies import File
from campaigns.spec import Spec
from campaigns.store.models import Trial
from dashboards import pictures
from tests.dashboards.browser import Server, faults, ready, window
from tests.dashboards.page_campaigns import one_axis
from tests.dashboards.watched_browser import browser

PHASES = (np.arange(48 * 32).reshape(32, 48) // 7 % 2).astype(np.uint8)
VOLUME = np.stack([np.roll(PHASES, k, axis=1) for k in range(5)])


def tiff(*slices: np.ndarray, **more: Any) -> bytes:
    first, *rest = [Image.fromarray(values) for values in slices]
    told = io.BytesIO()
    first.save(told, "tiff", save_all=True, append_images=rest, **more)
    return told.getvalue()


def npy(values: np.ndarray, **more: Any) -> bytes:
    told = io.BytesIO()
    np.save(told, values, **more)
    return told.getvalue()


def claims(side: int, slices: int = 1) -> bytes:
    """A TIFF of a few bytes that claims slices of so many pixels each way."""
    tags = [(256, side), (257, side), (258, 8), (259, 1), (262, 1), (273, 8), (277, 1),
            (278, side), (279, 100)]  # fmt: skip
    body = struct.pack("<H", len(tags))
    body += b"".join(struct.pack("<HHII", t, 4, 1, v) for t, v in tags)
    size = len(body) + 4
    parts = [body + struct.pack("<I", 8 + (k + 1) * size) for k in range(slices - 1)]
    return b"".join([b"II*\0", struct.pack("<I", 8), *parts, body, b"\0" * 4])


CUT = tiff(np.tile(PHASES, (20, 20)), compression="tiff_lzw")[:200]


def shown(data: bytes, at: int = 0) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(pictures.png(data, at))))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int32", "float32", "bool"])
def test_a_picture_keeps_its_pattern_whatever_its_numbers_are(dtype: str) -> None:
    data = tiff(PHASES.astype(dtype))
    assert pictures.size(data) == pictures.Size(1, 48, 32)
    assert np.array_equal(shown(data), 255 * PHASES)
    if dtype != "bool":
        assert np.array_equal(shown(tiff(1000 + PHASES.astype("uint16"))), 255 * PHASES)
    colour = np.stack([PHASES * 200] * 3, axis=-1)
    assert np.array_equal(shown(tiff(colour, compression="tiff_lzw")), colour)


@pytest.mark.parametrize("make", [lambda v: tiff(*v), npy, lambda v: npy(np.asfortranarray(v))])
def test_a_stack_is_shown_slice_by_slice(make: Any) -> None:
    data = make(VOLUME)
    assert pictures.size(data) == pictures.Size(5, 48, 32)
    for at in range(5):
        assert np.array_equal(shown(data, at), 255 * VOLUME[at])
    with pytest.raises(pictures.NoPicture, match="slice"):
        pictures.png(data, 5)


def test_what_is_shown_has_a_bounded_size() -> None:
    wide = tiff(np.zeros((100, 5000), dtype=np.uint8))
    assert pictures.size(wide).width == 5000
    assert shown(wide).shape == (20, pictures.LARGEST)
    unknown = shown(npy(np.array([[np.nan, 1.0], [2.0, np.inf]])))
    assert unknown.tolist() == [[0, 0], [255, 255]]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (claims(60_000), "million pixels"),
        (claims(6_000), "6,000 x 6,000 pixels: it has more than"),
        (claims(1, pictures.SLICES + 1), "2,048 slices"),
        (CUT, "cannot be read"),
        (b"II*\0 nothing of a TIFF", "cannot be read"),
        (b"GIF89a", "neither a TIFF"),
        (npy(np.array([{}], dtype=object), allow_pickle=True), "no picture"),
        (npy(PHASES)[:-5], "cut off"),
        (npy(PHASES)[:9], "cannot be read"),
        (npy(np.zeros(4)), "no picture: 4 of float64"),
        (npy(np.zeros((2, 2), dtype=complex)), "no picture"),
    ],
    ids=["bomb", "large", "endless", "cut", "nothing", "other", "pickle", "short", "headless",
         "line", "complex"],
)  # fmt: skip
def test_a_hostile_or_damaged_file_is_refused_with_a_reason(data: bytes, why: str) -> None:
    with pytest.raises(pictures.NoPicture, match=why):
        (pictures.png if data == CUT else pictures.size)(data)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A campaign of two trials: with pictures, and with a bomb beside a picture."""
    url = f"sqlite:///{tmp_path / 'matloop.db'}"
    png = io.BytesIO()
    Image.fromarray(255 * PHASES).save(png, "png")
    came = (
        [("cut.png", "image/png", png.getvalue()), ("volume.tif", "image/tiff", tiff(*VOLUME))],
        [
            ("page.tiff", "x/y", tiff(PHASES)),
            ("b.tif", "image/tiff", claims(60_000)),
        ],
    )
    spec = one_axis("micro", {"gain": {"goal": "maximize", "unit": "eV"}})
    with (
        Campaign.create(Spec.model_validate(spec), url) as campaign,
        campaign.store.write() as session,
    ):
        for index, files in enumerate(came):
            trial = Trial(
                campaign_id=campaign._row.id, index=index, status="candidate", attempt=0,
                design={"x": 0.5, "y": 0.5}, provenance={"method": "prior", "seed": 0},
            )  # fmt: skip
            session.add(trial)
            session.flush()
            bodies = [
                File(name=n, media_type=m, base64=base64.b64encode(d).decode()) for n, m, d in files
            ]
            keep(session, trial, decoded(bodies))
    made = Server(url)
    yield made
    made.api.close()
    made.stop()


def test_a_trial_shows_its_pictures(server: Server) -> None:
    base = "/v1/campaigns/micro/trials"
    loaded = "image => image.complete && image.naturalWidth"
    with browser() as made, window(made, server) as (page, heard):
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(f"{server.address}/c/micro/trials/0")
        ready(page)
        page.wait_for_load_state("load")
        assert len([url for url in asked if url.startswith("http")]) < 10, asked
        picture = page.get_by_alt_text("cut.png of trial 0")
        picture.scroll_into_view_if_needed()
        page.wait_for_function(loaded, arg=picture.element_handle())
        assert picture.evaluate("image => [image.naturalWidth, image.naturalHeight]") == [48, 32]
        stack = page.get_by_role("img", name="volume.tif of trial 0, slice 2")
        page.wait_for_function(loaded, arg=stack.element_handle())
        assert faults(page) == []

        # the slider shows another slice, and a link keeps it
        with page.expect_response(f"**{base}/0/pictures/*slice=4") as answered:
            page.get_by_label("Slice").fill("4")
        drawn = np.asarray(Image.open(io.BytesIO(answered.value.body())))
        assert np.array_equal(drawn, 255 * VOLUME[4])
        assert page.url.endswith("?slice=4")
        page.reload()
        page.get_by_role("img", name="volume.tif of trial 0, slice 4").wait_for()

        # a bomb says why it is not shown; what came beside it is
        page.goto(f"{server.address}/c/micro/trials/1")
        ready(page)
        page.get_by_alt_text("page.tiff of trial 1").wait_for()
        page.locator("summary", has_text="1 more picture").click()
        page.locator(
            ".notice", has_text="b.tif is not shown: it has more than the 34 million pixels"
        ).wait_for()
        heard.nothing()
    (_, bad) = server.get(f"{base}/1/pictures")["pictures"]
    refused = server.api.get(f"{base}/1/pictures/{bad['sha256']}")
    assert refused.status_code == 422
    assert "million pixels" in refused.json()["detail"]
    other = server.api.get(f"{base}/0/pictures/{bad['sha256']}")
    assert (other.status_code, other.json()["title"]) == (404, "there is no such file")
    wrong = server.api.get(f"{base}/0/pictures/{bad['sha256']}", params={"slice": -1})
    assert wrong.status_code == 422
