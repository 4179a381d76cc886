from __future__ import annotations

import http.server
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from campaigns.client import Client, Refused, Unreachable
from campaigns.errors import UsageError
from campaigns.keeping import Keeper
from campaigns.leases import metrics_json
from tests.campaigns.served import PYTHON, until


@pytest.fixture(scope="module")
def client(served) -> Iterator[Client]:
    with served.client() as made:
        yield made


class Flaky:
    """A server that fails as told, then answers; it notes what it was sent."""

    def __init__(self, *failures: int | str) -> None:
        seen: list[tuple[str, str | None, bytes]] = []
        left = list(failures)

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                seen.append((self.path, self.headers["Idempotency-Key"], body))
                what = left.pop(0) if left else 200
                if what == "cut":
                    self.connection.close()
                    return
                self.send_response(int(what))
                self.send_header("Content-Type", "application/json")
                if what == 429:
                    self.send_header("Retry-After", "0.01")
                text = b'{"leases": []}'
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_: object) -> None: ...

        self.seen = seen
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def __enter__(self) -> Flaky:
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


def test_importing_it_imports_neither_torch_nor_pymatgen() -> None:
    code = (
        "import sys, campaigns.client, campaigns.adapters.base, campaigns.worker\n"
        "print([m for m in ('torch', 'pymatgen', 'sqlalchemy', 'pandas') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_request_is_made_again_with_one_key_until_it_is_answered() -> None:
    with Flaky("cut", 503, 429, 502) as server, Client(server.url, patience=30.0) as client:
        assert client.lease("toy", worker="me") == []
        assert client.lease("toy", worker="me") == []
    paths, keys, bodies = zip(*server.seen, strict=True)
    assert len(keys) == 6
    assert len(set(keys[:5])) == 1
    assert keys[5] != keys[4]
    assert len(set(bodies)) == 1
    assert set(paths) == {"/v1/campaigns/toy/leases"}


def test_patience_ends() -> None:
    with Flaky(*[503] * 50) as server, Client(server.url, patience=0.5) as client:
        with pytest.raises(Unreachable, match="does not answer"):
            client.lease("toy", worker="me")
        assert 1 < len(server.seen) < 10
    with Client(server.url, patience=0.0) as client, pytest.raises(Unreachable):
        client.health()


@pytest.mark.parametrize("url", ["", "localhost:8000", "ftp://a", "file:///etc/passwd", "http://"])
def test_an_address_that_is_none_is_refused(url) -> None:
    with pytest.raises(UsageError, match="no address"):
        Client(url)


def test_a_campaigns_name_does_not_lead_elsewhere(client) -> None:
    with pytest.raises(Refused) as error:
        client.status("../../tokens")
    assert error.value.status == 404


def test_an_answer_that_is_no_servers_is_told() -> None:
    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>")

        def log_message(self, *_: object) -> None: ...

    with http.server.HTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.handle_request).start()
        with (
            Client(f"http://127.0.0.1:{server.server_address[1]}") as client,
            pytest.raises(Exception, match="not JSON"),
        ):
            client.health()


def test_a_trial_is_leased_answered_and_seen(served, client) -> None:
    toy = served.toy(2)
    one, two = client.lease(toy.name, 5, worker="robot")
    assert (one.trial, one.units) == (0, {"hardness": "GPa", "cost": "dimensionless"})
    assert set(one.params) == {"x", "y", "gas"}
    assert not client.heartbeat(one, 0.5, "heating").cancel
    assert client.trial(toy.name, 0)["lease"]["progress"] == 0.5
    told = client.report(
        one,
        {"hardness": {"value": 5000.0, "unit": "MPa"}, "cost": (2.0, 0.1)},
        realised={"x": 0.51},
        artifacts={"notes.txt": "it smelled"},
        seconds=12.0,
    )
    assert told["observations"]["hardness"] == {"mean": 5.0, "sem": None, "unit": "GPa"}
    client.fail(two, "it exploded", "infeasible")
    assert [t["status"] for t in client.trials(toy.name)] == ["completed", "infeasible"]
    assert client.status(toy.name)["counts"]["completed"] == 1
    kinds = [e["kind"] for e in client.events(toy.name)]
    assert "trial_completed" in kinds
    last = client.events(toy.name)[-1]["id"]
    assert client.events(toy.name, after=last, wait=0.3) == []
    assert [o["metric"] for o in client.observations(toy.name)] == ["hardness", "cost"]
    assert toy.name in {c["name"] for c in client.campaigns()}
    assert client.spec(toy.name).strip().startswith("campaign:")


def test_the_same_request_twice_changes_once(served, client) -> None:
    toy = served.toy(3)
    first = client.lease(toy.name, worker="robot", idempotency_key="k1")
    assert client.lease(toy.name, worker="robot", idempotency_key="k1") == first
    assert toy.statuses() == ["running", "candidate", "candidate"]
    answers = [
        client.report(first[0], {"hardness": 1.0, "cost": 1.0}, idempotency_key="k2")
        for _ in range(3)
    ]
    assert answers[0] == answers[1] == answers[2]
    assert len(client.observations(toy.name)) == 2
    with pytest.raises(Refused) as error:
        client.report(first[0], {"hardness": 2.0, "cost": 1.0}, idempotency_key="k2")
    assert error.value.status == 409


def test_errors_say_what_where_and_what_to_do(served, client) -> None:
    toy = served.toy(1)
    (lease,) = client.lease(toy.name, worker="robot")
    hardnes = {"value": 3.0, "unit": "GPa"}
    with pytest.raises(Refused, match="cannot be taken in") as error:
        client.report(lease, {"hardnes": hardnes, "cost": {"value": 1.0, "unit": "GPa"}})
    assert error.value.exit_status == 2
    assert "metrics.hardnes" in str(error.value)
    assert {e["where"] for e in error.value.as_dict()["problems"]} >= {"metrics.cost.unit"}
    with Client(served.url, "mlk_x_y") as nobody, pytest.raises(Refused, match=r"(?i)key") as no:
        nobody.status(toy.name)
    assert no.value.status == 401
    with pytest.raises(UsageError, match="is no measurement"):
        client.report(lease, {"hardness": float("nan")})
    with pytest.raises(UsageError, match="no metric 'hardnes'"):
        client.report(lease, {"hardnes": 3.0})
    client.report(lease, {"hardness": 3.0, "cost": 1.0})


def test_what_was_measured_elsewhere_is_taken_in_once(served, client) -> None:
    toy = served.toy(1)
    design = {"x": 0.25, "y": 0.5, "gas": "air"}
    said = {"hardness": 4.0, "cost": (1.0, 0.2)}
    told = client.observe(toy.name, said, params=design, external_id="book-7", source="1998")
    again = client.observe(toy.name, said, params=design, external_id="book-7", source="1998")
    assert told["trial"] == again["trial"] == 1
    client.observe(toy.name, {"hardness": {"value": 3.0, "unit": "GPa"}, "cost": 1.0}, trial=0)
    assert toy.statuses() == ["completed", "completed"]
    assert len(client.observations(toy.name)) == 4
    csv = b"trial,hardness (GPa)\n0,3.5\n"
    assert client.ingest(toy.name, "later.csv", csv, dry_run=True)["corrected"] == 1
    assert client.ingest(toy.name, "later.csv", csv)["corrected"] == 1
    with pytest.raises(Refused) as error:
        client.ingest(toy.name, "later.csv", b"trial,hardness (GPa)\n0,soft\n77,1\n")
    assert sorted("row 2" in e["where"] for e in error.value.errors) == [False, True]


def test_a_person_decides(served, client) -> None:
    toy = served.toy(3)
    client.reject(toy.name, 0, "no tungsten left")
    client.hold(toy.name, 1)
    assert [lease.trial for lease in client.lease(toy.name, 3, worker="robot")] == [2]
    client.release(toy.name, 1)
    client.approve(toy.name, 1)
    client.stop(toy.name)
    assert client.lease(toy.name, worker="robot") == []
    client.resume(toy.name)
    assert [lease.trial for lease in client.lease(toy.name, worker="robot")] == [1]
    job = client.propose(toy.name, 2)
    assert client.job(toy.name, job["job"])


def test_a_campaign_is_begun_from_its_text(served, client) -> None:
    text = served.toy(0, PYTHON).spec.read_text().replace("toy-", "text-").replace("python", "lab")
    with pytest.raises(Refused) as error:
        client.create(text)
    assert error.value.errors or error.value.why
    lines = [line for line in text.splitlines() if not line.startswith("evaluate")]
    made = client.create("\n".join([*lines, "evaluate: {with: lab}"]))
    assert client.status(made["name"])["counts"]["completed"] == 0


def test_leases_are_kept_alive_while_an_instrument_works(served, client) -> None:
    toy = served.toy(2)
    with Keeper(client) as keeper:
        for lease in client.lease(toy.name, 2, worker="robot", ttl=1.0):
            keeper.hold(lease)
        before = client.trial(toy.name, 0)["lease"]["expires"]
        keeper.progress(0, 0.75)
        until(lambda: client.trial(toy.name, 0)["lease"]["expires"] > before)
        until(lambda: client.trial(toy.name, 0)["lease"]["progress"] == 0.75)
        assert keeper.ended(0) is None
        client.stop(toy.name)
        until(lambda: keeper.ended(0) is not None)
        assert "stopped" in str(keeper.ended(1) or keeper.ended(0))


@pytest.mark.parametrize("value", [float("inf"), "3", None, True, 10**400, (1.0, float("nan")), {}])
def test_what_is_no_number_is_not_sent(value) -> None:
    with pytest.raises(UsageError, match="is no measurement"):
        metrics_json({"density": value}, {})
