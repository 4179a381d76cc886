"""What pages show of a campaign equals what the store holds, in ordinary and in ugly states."""

from __future__ import annotations

import gzip
import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from campaigns import Campaign
from campaigns.facts import read_facts
from campaigns.service import look_tables, tokens, view_data
from campaigns.service.app import create_app
from campaigns.service.looks import Look

VIEWS = ("front", "candidates.columns", "latent", "curve", "model", "elements", "ax/cards")


def _made() -> Any:
    path = Path(__file__).parents[2] / "dashboards" / "page_campaigns.py"
    spec = importlib.util.spec_from_file_location("page_campaigns", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    url = f"sqlite:///{tmp_path_factory.mktemp('views') / 'm.db'}"
    made = _made()
    made.ugly(url)
    made.perovskites(url)
    return url


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[TestClient]:
    app = create_app(url)
    with app.state.service.store.write() as session:
        key, _ = tokens.make(session, "test", ("read", "decide"))
    with TestClient(app, headers={"Authorization": f"Bearer {key}"}) as made:
        yield made


STATES = ["no-trials", "one-trial", "all-failed", "one-objective", "four-objectives", "perovskites"]


@pytest.mark.parametrize("name", STATES)
def test_every_view_answers_in_every_state(client: TestClient, name: str) -> None:
    for view in VIEWS:
        answer = client.get(f"/v1/campaigns/{name}/{view}")
        assert answer.status_code == 200, answer.text
        assert "NaN" not in answer.text
        assert answer.json()["rev"] > 0
    told = client.get(f"/v1/campaigns/{name}/front").json()
    assert (
        sum(told["counts"].values())
        == client.get(f"/v1/campaigns/{name}/candidates.columns").json()["n"]
    )


def test_what_did_not_change_is_not_sent_again(client: TestClient) -> None:
    first = client.get("/v1/campaigns/one-trial/curve")
    again = client.get(
        "/v1/campaigns/one-trial/curve", headers={"If-None-Match": first.headers["etag"]}
    )
    assert again.status_code == 304
    assert client.get("/v1/campaigns/none/curve").status_code == 404


def test_the_front_and_the_columns_are_the_stores(client: TestClient, url: str) -> None:
    with Campaign.open("perovskites", url) as campaign:
        facts = read_facts(campaign)
    told = client.get("/v1/campaigns/perovskites/front").json()
    on = {t["trial"] for t, mask in zip(facts.trials, facts.front, strict=True) if mask}
    assert {row["trial"] for row in told["front"]} == on
    columns = client.get("/v1/campaigns/perovskites/candidates.columns").json()["columns"]
    for j, metric in enumerate(facts.metrics):
        seen = np.array(columns[f"mean:{metric}"], dtype=float)
        assert np.allclose(seen, facts.outcomes[:, j], rtol=1e-4, equal_nan=True)
        assert told["front"][0]["values"][metric]["mean"] in facts.outcomes[:, j]


def test_a_new_result_is_in_the_next_answer(client: TestClient) -> None:
    before = client.get("/v1/campaigns/one-trial/front").json()
    body = {"trial": 0, "metrics": {"gain": {"value": 3.0, "unit": "dimensionless"}}}
    key = client.app.state.service.store  # type: ignore[attr-defined]
    with key.write() as session:
        token, _ = tokens.make(session, "lab", ("ingest",))
    answer = client.post(
        "/v1/campaigns/one-trial/observations", json=body,
        headers={"Authorization": f"Bearer {token}"},
    )  # fmt: skip
    assert answer.status_code < 300, answer.text
    after = client.get("/v1/campaigns/one-trial/front").json()
    assert before["front"][0]["values"]["gain"]["mean"] == 1.0
    assert after["front"][0]["values"]["gain"]["mean"] == 3.0
    assert after["rev"] > before["rev"]


def test_elements_are_those_of_the_crystals(client: TestClient) -> None:
    told = client.get("/v1/campaigns/perovskites/elements").json()
    assert told["elements"]["O"]["tried"] <= told["trials"]
    assert told["without"] == 0
    assert max(told["elements"].values(), key=lambda e: e["tried"])["mean"]["density"] > 0


def test_ten_thousand_candidates_are_less_than_150_kilobytes(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'big.db'}"
    _made().many(url, 10_000)
    with Campaign.open("big", url) as campaign:
        look = Look(1, read_facts(campaign), {})
    data = json.dumps(look_tables.columns(look), allow_nan=False, separators=(",", ":"))
    assert len(gzip.compress(data.encode(), 5)) < 150_000


def test_no_request_imports_torch(url: str) -> None:
    code = f"""
import sys
from fastapi.testclient import TestClient
from campaigns.service.app import create_app
from campaigns.service import tokens
app = create_app({url!r})
with app.state.service.store.write() as session:
    key, _ = tokens.make(session, "t", ("read",))
with TestClient(app, headers={{"Authorization": "Bearer " + key}}) as client:
    for view in {VIEWS!r}:
        assert client.get("/v1/campaigns/four-objectives/" + view).status_code == 200
heavy = {{"torch", "pymatgen", "ax", "sklearn"}} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]


def test_a_table_gives_a_band_of_random_searches(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = "".join(f"{x:.3f},{1000 * x:.2f},{(x - 0.5) ** 2:.4f}\n" for x in rng.uniform(size=60))
    (tmp_path / "t.csv").write_text("x,gain (MPa),loss (J)\n" + rows)
    spec = {
        "campaign": "tabled",
        "space": {"x": {"range": [0, 1]}},
        "objectives": {
            "gain": {"goal": "maximize", "unit": "GPa", "threshold": 0},
            "loss": {"goal": "minimize", "unit": "J", "threshold": 1},
        },
        "evaluate": {"with": "table", "table": str(tmp_path / "t.csv")},
        "budget": {"trials": 20, "batch": 2},
    }
    made = _made()
    with made._campaign(f"sqlite:///{tmp_path / 'm.db'}", spec) as campaign:
        found = view_data.compute(campaign)["curve"]["random"]
    assert found["of"] == "hypervolume"
    assert found["n"] == 20
    # in GPa: the table's are MPa
    assert 0 < found["p10"][-1] <= found["p50"][-1] <= found["p90"][-1] < 1.0
    assert found["p50"] == sorted(found["p50"])
