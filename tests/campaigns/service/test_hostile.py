"""What strangers send: each is refused with a clear error, and nothing is changed."""

from __future__ import annotations

import asyncio
import io
import json
import pickle
import stat
import time
import warnings
import zipfile

import pytest
from sqlalchemy import func, select

from campaigns.errors import InputErrors, UsageError
from campaigns.service.reading import Reader
from campaigns.store.models import Artifact, Observation, Trial

# twenty general positions in Fm-3m stand for 3,840 atoms
BOMB = """data_bomb
_symmetry_space_group_name_H-M 'F m -3 m'
_cell_length_a 40
_cell_length_b 40
_cell_length_c 40
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
loop_
_atom_site_label
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
""" + "".join(f"Si{i} 0.{i + 11} 0.{2 * i + 13} 0.{3 * i + 17}\n" for i in range(20))

# CVE-2024-23346: text of a transformation that pymatgen once evaluated
EVIL = """data_evil
_cell_length_a 4
_cell_length_b 4
_cell_length_c 4
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_space_group_magn.transform_BNS_Pp_abc 'a,b,[d for d in ().__class__.__mro__[1].__getattribute__ ( *[().__class__.__mro__[1]]+["__sub" + "classes__"]) () if d.__name__ == "BuiltinImporter"][0].load_module ("os").system ("touch %s");0,0,0'
_space_group_magn.number_BNS 62.448
_space_group_magn.name_BNS "P n' m a'"
loop_
_atom_site_label
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
Si1 0 0 0
"""  # noqa: E501


def unchanged(door):
    with door.service.store.read() as session:
        seen = session.scalar(select(func.count()).select_from(Observation))
        files = session.scalar(select(func.count()).select_from(Artifact))
        done = session.scalar(select(func.count()).where(Trial.status == "completed"))
    assert (seen, files, done) == (0, 0, 0)


def problem(answer, status, *words):
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    told = answer.json()
    assert {"type", "title", "status"} <= set(told)
    for word in words:
        assert word in answer.text
    return told


def raw(door, path, body):
    return door.ask("POST", path, content=body, headers={"content-type": "application/json"})


def test_a_value_is_a_finite_number(door):
    (lease,) = door.lease()
    values = ["NaN", "Infinity", "-Infinity", "1e400", '"nan"', '"1"', "true", "null", "1" * 400]
    for value in values:
        body = '{"token": 1, "metrics": {"hardness": {"unit": "GPa", "value": ' + value + "}}}"
        problem(raw(door, f"/trials/{lease['trial']}/result", body), 422)
    unchanged(door)


def test_a_body_is_strict_json(door):
    for body in (
        b"{",
        b"\xff\xfe",
        pickle.dumps({"token": 1}),
        b'{"token": 1, "token": 2}',
        b"[" * 100_000,
        b'{"a":' * 5000,
        b'{"worker": "\\ud800"}',
        b'{"worker": "a\\u0000b"}',
        b'"text"',
        b"null",
        b"",
    ):
        problem(raw(door, "/leases", body), 422)
    unchanged(door)


def test_what_is_no_number_hides_nowhere(door):
    (lease,) = door.lease()
    for part in ('"provenance": {"a": [NaN]}', '"realised": {"x": Infinity}', '"seconds": 1e999'):
        body = '{"token": 1, "metrics": {"cost": {"value": 1, "unit": "1"}}, ' + part + "}"
        answer = door.ask(
            "POST", f"/trials/{lease['trial']}/result", content=body,
            headers={"content-type": "application/json"},
        )  # fmt: skip
        problem(answer, 422)
    unchanged(door)


def test_no_module_is_imported_that_json_names(door):
    (lease,) = door.lease()
    evil = {"@module": "os", "@callable": "system", "@bound": None, "@class": "Popen"}
    problem(door.report(lease, {"cost": {**evil, "value": 1}}), 422)
    problem(door.post("/observations", {"design": evil, "metrics": door.METRICS}), 422)
    design = {"x": evil, "y": 0.5, "t": 1000}
    problem(door.post("/observations", {"design": design, "metrics": door.METRICS}), 422)
    # as the evaluator's own words it is kept, as words
    assert door.report(lease, provenance=evil).status_code == 200
    (event,) = door.events("trial_completed")
    assert event.payload["evaluator"] == evil


@pytest.mark.parametrize(
    ("path", "most"), [("/leases", 1), ("/trials/0/result", 32), ("/ingest", 64)]
)
def test_a_gigabyte_is_refused_before_it_is_read(door, path, most):
    multipart = b"multipart/form-data; boundary=x"
    kind = multipart if path == "/ingest" else b"application/json"
    first = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'

    def send(*headers):
        """How many MiB were read, and the status."""
        taken, told = 0, []

        async def receive():
            nonlocal taken
            taken += 1
            part = first if taken == 1 and path == "/ingest" else b" " * (1 << 20)
            return {"type": "http.request", "body": part, "more_body": taken < 1024}

        async def answer(message):
            told.append(message)

        scope = {
            "type": "http", "method": "POST", "path": door.root + path, "query_string": b"",
            "http_version": "1.1", "scheme": "http", "server": ("testserver", 80),
            "headers": [(b"authorization", f"Bearer {door.key}".encode()),
                        (b"content-type", kind), *headers],
        }  # fmt: skip
        asyncio.run(door.client.app(scope, receive, answer))
        return taken, told[0]["status"]

    assert send((b"content-length", b"%d" % (1 << 30))) == (0, 413)
    taken, status = send()
    assert status == 413
    assert taken <= most + 2
    unchanged(door)


def test_a_files_name_is_no_path(door):
    (lease,) = door.lease()
    paths = ["../../etc/passwd", "/etc/passwd", "a/b", "..", ".", "a\\b", "a\nb", 'a"b', "", ".x"]
    for name in paths:
        problem(door.report(lease, artifacts=[{"name": name, "text": "x"}]), 422)
    unchanged(door)


def test_no_path_leads_to_a_file(door):
    for path in ("../../etc/passwd", "%2e%2e%2f%2e%2e%2fetc%2fpasswd", "..%00", "a" * 63):
        assert door.get(f"/v1/artifacts/{path}").status_code == 404


def test_a_key_is_for_its_campaign_and_its_scopes(door):
    own = door.with_key("work", "read", campaign="toy")
    assert len(own.lease()) == 1
    begin = {
        "spec": "campaign: other\nspace: {x: {range: [0, 1]}}\nevaluate: {with: lab}\n"
        "objectives: {a: {goal: maximize, unit: GPa}}\n"
    }
    assert door.post("/v1/campaigns", begin).status_code == 201
    door.add(0, "other")
    for path in ("/v1/campaigns/other", "/v1/campaigns/other/trials"):
        problem(own.get(path), 403, "another campaign")
    problem(own.post("/v1/campaigns/other/leases", {"worker": "w"}), 403, "another campaign")
    assert [c["name"] for c in own.get("/v1/campaigns").json()["campaigns"]] == ["toy"]
    problem(own.post("/trials/0/approve"), 403, "lacks the scope")
    problem(own.post("/observations", {"trial": 0, "metrics": door.METRICS}), 403)
    problem(door.with_key("read").post("/leases", {"worker": "w"}), 403)
    problem(door.with_key("decide", campaign="toy").post("/v1/campaigns", begin), 403)
    (lease,) = door.lease()
    door.report(lease, artifacts=[{"name": "a.txt", "text": "secret"}])
    sha = door.get(f"/trials/{lease['trial']}").json()["artifacts"][0]["sha256"]
    assert own.get(f"/v1/artifacts/{sha}").status_code == 200
    other = door.with_key("read", campaign="other")
    assert other.get(f"/v1/artifacts/{sha}").status_code == 404


def test_a_wrong_key_opens_nothing(door):
    id = door.key.split("_")[1]
    for key in ("", "x", "mlk_", "mlk_a_b", f"mlk_{id}_wrong", "mlk_\u00e9_x", "a" * 9000):
        headers = {"Authorization": f"Bearer {key}".encode()}
        problem(door.client.get("/v1/campaigns", headers=headers), 401)


def test_the_screen_and_the_bounds_hold_for_designs_from_outside(door):
    good = {"x": 0.5, "y": 0.5, "t": 1000}
    for change, word in (
        ({"x": 1.5}, "0 <= x <= 1"),
        ({"t": 100}, "900 <= t"),
        ({"x": 0.9, "y": 0.9}, "x + y"),
        ({"z": 1}, "no such axis"),
        ({"x": "a"}, "not a number"),
        ({"x": {"a": 1}}, "not a number"),
    ):
        problem(door.post("/observations", {"design": good | change}), 422, word)
    del good["t"]
    problem(door.post("/observations", {"design": good}), 422, "missing")
    unchanged(door)


def test_a_spec_that_is_sent_names_no_file_and_runs_no_code(door):
    space = "campaign: other\nobjectives: {a: {goal: maximize, unit: GPa}}\n"
    lab = "evaluate: {with: lab}\n"
    for part in (
        "space: {x: {pool: /etc/passwd}}\n" + lab,
        "space: {x: {latent: ../../weights.safetensors}}\n" + lab,
        "space: {x: {range: [0, 1]}}\nevaluate: {with: python, function: '/tmp/a.py:f'}\n",
        "space: {x: {range: [0, 1]}}\nlearn_from: [{table: secrets.csv}]\n" + lab,
    ):
        told = problem(door.post("/v1/campaigns", {"spec": space + part}), 422, "names no file")
        assert "spec.yaml" in told["errors"][0]["where"]
    code = space + "space: {x: {range: [0, 1]}}\nevaluate: {with: python, function: 'os:system'}\n"
    problem(door.with_key("decide").post("/v1/campaigns", {"spec": code}), 403, "runs code")
    bad = space + "space: {x: {rnge: [0, 1]}}\n" + lab
    told = problem(door.post("/v1/campaigns", {"spec": bad}), 422)
    assert told["errors"][0]["where"].startswith("spec.yaml:3")
    problem(door.post("/v1/campaigns", {"spec": "!!python/object/apply:os.system [id]"}), 422)


def packed(*members: tuple[str, str], link: bool = False) -> bytes:
    out = io.BytesIO()
    with (
        zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file,
        warnings.catch_warnings(action="ignore"),  # of two files of one name
    ):
        for name, text in members:
            info = zipfile.ZipInfo(name)
            if link:
                info.external_attr = (stat.S_IFLNK | 0o777) << 16
            file.writestr(info, text, zipfile.ZIP_DEFLATED)
    return out.getvalue()


TABLE = "trial,hardness (GPa),cost (dimensionless)\n0,1.5,2\n1,x,3\n"


def test_files_of_results(door):
    def send(name, content, **params):
        return door.ask("POST", "/ingest", files={"file": (name, content)}, params=params)

    told = problem(send("a.csv", TABLE), 422)
    assert [e["where"] for e in told["errors"]] == ["a.csv, row 3, column hardness"]
    for content in (
        packed(("../evil.csv", TABLE)),
        packed(("/tmp/evil.csv", TABLE)),
        packed(("r.csv", TABLE), ("r.csv", TABLE)),
        packed(("r.csv", "/etc/passwd"), link=True),
        packed(("r.csv", "0" * (257 << 20))),
        packed(("r.txt", TABLE)),
        b"PK\x03\x04 no zip",
        pickle.dumps([1]),
    ):
        problem(send("a.zip", content), 422)
    problem(send("a.csv", "trial,hardness (GPa),cif\n0,1,/etc/passwd\n"), 422, "not a file beside")
    problem(send("a.csv", pickle.dumps([1])), 422)
    problem(send("a.csv", "trial,hardness (GPa)\n0,=1+1\n"), 422)
    unchanged(door)
    good = TABLE.replace("x", "4")
    dry = send("a.csv", good, dry_run=1).json()
    assert (dry["added"], dry["dry_run"], dry["completed"]) == (4, True, [0, 1])
    unchanged(door)
    assert send("C:\\lab\\a.csv", good).json()["added"] == 4
    assert send("a.csv", good).json()["already_ingested"] is True
    assert send("a.zip", packed(("r.csv", good))).json()["already_ingested"] is True


SILICON = {
    "campaign": "crystals",
    "space": {"crystal": {"latent": "crystals"}, "t": {"range": [1, 2]}},
    "objectives": {"hardness": {"goal": "maximize", "unit": "GPa"}},
    "screen": {"elements": {"exclude": ["Pb"]}, "max_atoms": 8},
    "evaluate": {"with": "lab"},
}


def rock_salt(a: str, b: str) -> str:
    from pymatgen.core import Lattice, Structure

    made = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.5), [a, b], [[0, 0, 0], [0.5] * 3])
    return made.to(fmt="cif")


def test_crystals_from_outside_are_read_elsewhere(tmp_path):
    from campaigns.spec import Spec

    spec = Spec.model_validate(SILICON).model_dump(mode="json")
    reader = Reader(seconds=20.0)

    def ask(cif):
        given = {"crystal": {"cif": cif}, "t": 1.5}
        return reader.ask("design", spec=spec, given=given, flat=False)

    try:
        assert "Mg" in ask(rock_salt("Mg", "O"))["design"]["crystal"]["cif"]
        with pytest.raises(InputErrors, match="element not allowed, Pb"):
            ask(rock_salt("Pb", "O"))
        begun = time.monotonic()
        with pytest.raises(InputErrors, match="3,840 sites"):
            ask(BOMB)
        assert time.monotonic() - begun < 5
        with pytest.raises(InputErrors):
            ask("data_\n" + "x" * (1 << 21))
        mark = tmp_path / "touched"
        with pytest.raises(InputErrors):
            ask(EVIL % mark + "loop_\n_symmetry_equiv_pos_as_xyz\n" + "x,y,z\n" * 3 + "Si 0 0\n")
        assert not mark.exists()
    finally:
        reader.close()


def test_a_reader_that_takes_too_long_is_killed_and_started_again():
    reader = Reader(seconds=0.05)
    text = "a: " + "[" * 30 + "1" + "]" * 30 + "\n" + "".join(f"k{i}: {i}\n" for i in range(20_000))
    try:
        with pytest.raises(UsageError, match="too much time"):
            reader.ask("spec", text=text)
        reader._seconds = 30.0
        with pytest.raises(InputErrors):
            reader.ask("spec", text="campaign: x\n")
    finally:
        reader.close()


def test_requests_are_limited(make_door):
    door = make_door(rate=1.0, burst=3)
    answers = [door.get("/v1/campaigns") for _ in range(5)]
    assert [a.status_code for a in answers] == [200, 200, 200, 429, 429]
    assert int(answers[-1].headers["retry-after"]) >= 1


def test_a_page_of_another_site_changes_nothing(door):
    door.client.get(
        "/login", params={"key": door.key, "next": "//evil.org"}, follow_redirects=False
    )
    assert door.client.get("/v1/campaigns").status_code == 200
    evil = door.client.post(
        "/v1/campaigns/toy/stop", json={}, headers={"origin": "https://evil.org"}
    )
    problem(evil, 403, "another site")
    ours = door.client.post(
        "/v1/campaigns/toy/stop", json={}, headers={"origin": "http://testserver"}
    )
    assert ours.status_code == 200


def test_the_login_leads_nowhere_else(door):
    for place in ("//evil.org", "https://evil.org", "/\\evil.org", "javascript:1"):
        answer = door.client.get(
            "/login", params={"key": door.key, "next": place}, follow_redirects=False
        )
        assert answer.headers["location"] == "/"
        cookie = answer.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=strict" in cookie
    assert door.client.get("/login", params={"key": "<script>"}).status_code == 401


def test_json_of_a_problem_is_json(door):
    answer = door.get("/trials/" + "9" * 40)
    problem(answer, 422)
    json.loads(answer.text)
