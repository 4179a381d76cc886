"""Pools: tables of designs that exist, read in pieces and mapped from disk."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from generators.base import EncodeError
from loop import Descriptors, DesignSpace, LinearConstraint, PoolAxis, RangeAxis
from loop.axes import pool_reader
from loop.axes.pool_table import PoolError, open_pool
from loop.space import Infeasible

TABLE = "a,b (mm),kind\n" + "".join(f"{i / 10},{(i * 7) % 11},{'xyz'[i % 3]}\n" for i in range(60))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("MATLOOP_CACHE", str(folder))
    return folder


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "pool.csv"
    path.write_text(TABLE)
    return path


def codes(*rows: int) -> np.ndarray:
    return np.array(rows, dtype=np.float64)[:, None]


def test_a_row_is_a_value(table: Path) -> None:
    axis = PoolAxis("cand", open_pool(table))
    assert axis.feature_names == (
        "cand.a", "cand.b (mm)", "cand.kind=x", "cand.kind=y", "cand.kind=z",
    )  # fmt: skip
    assert axis.groups == (0, 1, 2, 2, 2)
    value = axis.decode(codes(3), 0)[0]
    assert value == {"row": 3, "a": 0.3, "b (mm)": 10.0, "kind": "x"}
    assert json.loads(json.dumps(axis.to_json(value))) == value
    assert axis.from_json(value) == value
    assert axis.from_json({"row": 3}) == value
    assert "row 3" in axis.describe(value)
    np.testing.assert_allclose(axis.features([value])[0], [0.3 / 5.9, 1.0, 1, 0, 0])
    np.testing.assert_array_equal(axis.features_at(codes(3)), axis.features([value]))


def test_what_a_space_with_a_pool_promises(table: Path) -> None:
    space = DesignSpace((PoolAxis("cand", open_pool(table)), RangeAxis("t", 1, 3, integer=True)))
    rng = np.random.default_rng(0)
    assert space.size == 180
    every = space.codes_at(np.arange(180))
    assert space.allowed(every).all()
    designs = [d for d in space.decode(every) if d is not None]
    assert len({space.key(d) for d in designs}) == 180
    np.testing.assert_allclose(space.features(designs), space.features_at(every))
    np.testing.assert_array_equal(space.encode(designs), every)
    prior = space.prior(100, rng)
    moves = (space.jitter(prior, np.full(100, 0.3), rng), space.mix(prior, prior[::-1], rng))
    for moved in (*moves, space.project(every + rng.normal(0, 30, every.shape))):
        assert space.allowed(moved).all()
        np.testing.assert_array_equal(space.project(moved), moved)
    np.testing.assert_array_equal(space.jitter(prior, np.zeros(100), rng), prior)


def test_small_steps_go_to_near_rows(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    np.save(path, np.random.default_rng(0).random((5000, 2)))
    axis = PoolAxis("p", open_pool(path))
    rng = np.random.default_rng(1)
    start = axis.prior(200, rng)
    X = axis.features_at(start)

    def moved(scale: float) -> float:
        to = axis.features_at(axis.jitter(start, np.full(200, scale), rng))
        return float(np.linalg.norm(to - X, axis=1).mean())

    assert moved(0.03) < 0.06 < moved(0.3) < moved(1.0)
    assert moved(1.0) > 0.4


def test_constraints_on_columns_leave_rows_out(table: Path) -> None:
    pool = PoolAxis("cand", open_pool(table))
    space = DesignSpace((pool,), (LinearConstraint({"a": 1.0, "cand.b (mm)": 1.0}, "<=", 5.0),))
    assert space.size is not None
    assert 0 < space.size < 60
    designs = [d["cand"] for d in space.decode(space.codes_at(np.arange(space.size))) if d]
    assert all(d["a"] + d["b (mm)"] <= 5.0 + 1e-6 for d in designs)
    rng = np.random.default_rng(0)
    assert space.allowed(space.prior(50, rng)).all()
    assert space.allowed(space.project(codes(*range(60)))).all()
    assert not space.allowed(codes(59)).any()
    with pytest.raises(Infeasible, match="excludes every design"):
        DesignSpace((pool,), (LinearConstraint({"a": 1.0}, "<=", -1.0),))
    with pytest.raises(ValueError, match="columns alone"):
        DesignSpace((pool, RangeAxis("t", 0, 1)), (LinearConstraint({"a": 1, "t": 1}, "<=", 3),))


def test_text_has_descriptors(table: Path) -> None:
    kinds = Descriptors.of({k: {"size": i} for i, k in enumerate("xyz")})
    axis = PoolAxis("cand", open_pool(table), {"kind": kinds})
    assert axis.feature_names[2:] == (
        "cand.kind.size", "cand.kind=x", "cand.kind=y", "cand.kind=z",
    )  # fmt: skip
    assert axis.groups == (0, 1, 2, 3, 3, 3)
    assert axis.features_at(codes(1))[0, 2:].tolist() == [0.5, 0, 1, 0]
    with pytest.raises(ValueError, match="no descriptors of z"):
        PoolAxis("cand", open_pool(table), {"kind": Descriptors.of({k: {"s": 1} for k in "xy"})})
    with pytest.raises(ValueError, match="'a' is no column of text"):
        PoolAxis("cand", open_pool(table), {"a": kinds})


def test_a_row_that_left_the_table_still_has_features(table: Path) -> None:
    before = PoolAxis("cand", open_pool(table))
    value = before.decode(codes(50), 0)[0]
    lines = table.read_text().splitlines()
    table.write_text("\n".join(lines[:31]) + "\n")
    after = PoolAxis("cand", open_pool(table))
    assert after.size == 30
    assert after.from_json(value) == value
    assert after.features([value])[0, 0] > 1.0
    with pytest.raises(EncodeError, match="row 50"):
        after.encode([value])
    table.write_text("\n".join([lines[0], "9,9,new", *lines[1:]]) + "\n")
    with pytest.raises(EncodeError, match="another"):
        PoolAxis("cand", open_pool(table)).encode([value])


def test_so_has_one_whose_text_left_it(table: Path) -> None:
    kinds = Descriptors.of({k: {"size": i} for i, k in enumerate("xyz")})
    value = PoolAxis("cand", open_pool(table)).decode(codes(1), 0)[0]
    assert value["kind"] == "y"
    lines = table.read_text().splitlines()
    table.write_text("\n".join(line for line in lines if not line.endswith("y")) + "\n")
    plain, described = (PoolAxis("cand", open_pool(table), d) for d in ({}, {"kind": kinds}))
    assert plain.features([value])[0, 2:].tolist() == [0, 0]
    assert described.features([value])[0, 2:].tolist() == [0.5, 0, 0]
    with pytest.raises(EncodeError, match="row 1 is another"):
        plain.encode([value])


def test_columns_are_chosen(table: Path) -> None:
    assert open_pool(table, ["kind", "a"]).columns == ("kind", "a")
    axis = PoolAxis("cand", open_pool(table, ["kind", "a"]))
    assert axis.decode(codes(4), 0)[0] == {"row": 4, "kind": "y", "a": 0.4}


def test_it_is_read_once(table: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_pool(table)
    made = sorted(p.suffix for p in (cache / "pools").iterdir())
    assert made == [".json", ".npy"]

    def never(*_: Any) -> None:
        raise AssertionError("read again")

    with monkeypatch.context() as patched:
        patched.setattr(pool_reader.PoolReader, "read", never)
        assert isinstance(open_pool(table).data, np.memmap)
    table.write_text(TABLE + "100,1,x\n")
    assert len(open_pool(table)) == 61
    for file in (cache / "pools").glob("*.npy"):
        file.unlink()
    assert len(open_pool(table)) == 61


@pytest.mark.parametrize("ending", ["csv.gz", "npy", "npz", "f4.npy", "tsv"])
def test_other_files(tmp_path: Path, ending: str) -> None:
    numbers = np.random.default_rng(0).random((70, 3)).round(4)
    path = tmp_path / f"pool.{ending}"
    mark = "\t" if ending == "tsv" else ","
    text = mark.join("abc") + "\n" + "\n".join(mark.join(map(str, row)) for row in numbers.tolist())
    if ending == "csv.gz":
        path.write_bytes(gzip.compress(text.encode()))
    elif ending == "tsv":
        path.write_text("\ufeff" + text)
    elif ending == "npz":
        np.savez_compressed(path, **dict(zip("abc", numbers.T, strict=True)))
    else:
        np.save(path, numbers.astype("f4" if ending == "f4.npy" else "f8"))
    table = open_pool(path, ["a", "b", "c"] if ending.endswith("npy") else None)
    assert table.columns == ("a", "b", "c")
    np.testing.assert_allclose(table.data, numbers, rtol=1e-6)
    space = DesignSpace((PoolAxis("p", table),))
    designs = [d for d in space.sample(20, 0) if d is not None]
    np.testing.assert_array_equal(space.features_at(space.encode(designs)), space.features(designs))


def test_pieces_make_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_reader, "CHUNK", 7)
    path = tmp_path / "pool.csv"
    path.write_text(TABLE)
    table = open_pool(path)
    assert len(table) == 60
    assert table.categories[2] == ("x", "y", "z")
    np.testing.assert_array_equal(table.data[:, 0], np.arange(60) / 10)


BODY = TABLE.splitlines()


def changed(line: int, text: str) -> str:
    return "\n".join([*BODY[: line - 1], text, *BODY[line:]]) + "\n"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "the table is empty"),
        ("a,b\n", "no rows"),
        ("1,2\n3,4\n", "the first row is numbers"),
        ("a,a\n1,2\n", "two columns are called 'a'"),
        (changed(12, "1.1,,x"), r"line 12, column b \(mm\): a value is missing"),
        (changed(12, "1.1,2,"), "line 12, column kind: a value is missing"),
        (changed(12, "nan,2,x"), "line 12, column a: 'nan' is not a number"),
        (changed(12, "inf,2,x"), "line 12, column a: a number is infinite"),
        (changed(12, "1.1 mm,2,x"), "line 12, column a: '1.1 mm' is not a number"),
        (changed(12, '"1,1",2,x'), "line 12, column a: '1,1' is not a number .decimals have"),
        (changed(12, BODY[4]), "line 12: this row is the same as that in line 5"),
        ("\n" + changed(12, "1.1,,x"), "line 13, column b"),
        (changed(3, '9,1,"2\nlines"').replace("1.1,0,z", "oops,0,z"), "line 14, column a: 'oops'"),
        (changed(12, "1,2,x,4,5"), "not CSV: Expected 3 fields in line 12, saw 5"),
        (changed(2, "1,2,x,4,5"), "line 2: wanted 3 cells"),
        ("row,b\n1,2\n", "cannot be called"),
        ("\x00\xff", "no rows"),
    ],
)  # fmt: skip
def test_tables_that_are_no_pool(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "pool.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=told):
        PoolAxis("p", open_pool(path))


@pytest.mark.parametrize(
    ("name", "data", "told"),
    [
        ("pool.xlsx", b"PK", "no table"),
        ("pool.csv", b"a,b\n1,\xff\n", "cannot be read as text"),
        ("pool.csv.gz", b"not gzip", "cannot be read"),
        ("pool.npy", b"nothing", "not numpy's"),
        ("pool.npz", b"PK\x05\x06" + b"\0" * 18, "arrays of numbers"),
        ("pool.parquet", b"PAR1", "pyarrow|not Parquet"),
    ],
)
def test_files_that_are_no_table(tmp_path: Path, name: str, data: bytes, told: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(PoolError, match=told):
        open_pool(tmp_path / name)


def test_arrays_that_are_no_table(tmp_path: Path) -> None:
    path = tmp_path / "pool.npy"
    np.save(path, np.zeros(3))
    with pytest.raises(PoolError, match="rows x columns"):
        open_pool(path)
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(PoolError, match="not numpy's"):
        open_pool(path)
    np.save(path, np.zeros((2, 2)))
    with pytest.raises(PoolError, match="row 1: this row is the same as that in row 0"):
        open_pool(path)
    np.save(path, np.arange(6.0).reshape(3, 2))
    with pytest.raises(PoolError, match="it has 2 columns"):
        open_pool(path, ["a", "b", "c"])
    with pytest.raises(FileNotFoundError):
        open_pool(tmp_path / "none.csv")


def test_a_column_of_names_is_no_category(tmp_path: Path) -> None:
    path = tmp_path / "pool.csv"
    path.write_text("name,a\n" + "".join(f"material {i},{i}\n" for i in range(600)))
    with pytest.raises(PoolError, match=r"500 different texts.*leave the column out"):
        open_pool(path)
    assert len(open_pool(path, ["a"])) == 600


def test_a_column_that_is_not_there(table: Path) -> None:
    with pytest.raises(PoolError, match=r"no column 'q' .it has a, b \(mm\), kind"):
        open_pool(table, ["q"])


def test_parquet(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="PARQUET NOT TESTED: pyarrow is not installed")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "pool.parquet"
    data = {"a": [1.5, 2.5, 3.5], "n": [1, 2, 3], "kind": ["x", "y", "x"], "left": [0, 0, 0]}
    parquet.write_table(pyarrow.table(data), path)
    table = open_pool(path, ["a", "n", "kind"])
    assert table.categories == ((), (), ("x", "y"))
    np.testing.assert_array_equal(table.data, [[1.5, 1, 0], [2.5, 2, 1], [3.5, 3, 0]])
    parquet.write_table(pyarrow.table({"a": [1.0, None]}), path)
    with pytest.raises(PoolError, match="row 1, column a: a value is missing"):
        open_pool(path)


@pytest.mark.slow
def test_a_million_rows_take_little_memory(tmp_path: Path, cache: Path) -> None:
    rows = np.random.default_rng(0).random((10_000, 32))
    path = tmp_path / "pool.csv"
    with path.open("w") as file:
        file.write(",".join(f"c{i}" for i in range(32)) + "\n")
        for hundred in range(100):
            np.savetxt(file, rows + hundred, fmt="%.5g", delimiter=",")
    code = f"""
        import numpy as np
        from loop import DesignSpace, PoolAxis, open_pool
        space = DesignSpace((PoolAxis("p", open_pool({str(path)!r})),))
        assert space.size == 1_000_000
        total = 0.0
        for at in range(0, space.size, 50_000):
            total += space.features_at(space.codes_at(np.arange(at, at + 50_000))).sum()
        # Of this program alone: ru_maxrss counts the one that started it.
        with open("/proc/self/status") as told:
            peak = next(int(r.split()[1]) for r in told if r.startswith("VmHWM")) / 2**20
        assert peak < 1.0, f"{{peak:.2f}} GiB"
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True)
