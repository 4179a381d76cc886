"""What the documentation shows is what the program takes."""

from __future__ import annotations

import re
from pathlib import Path


def _block(page: Path, language: str) -> str:
    """The first block of a language on a page."""
    found = re.search(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    assert found, f"{page.name} shows no {language}"
    return found.group(1)


def test_the_spec_in_the_readme_is_valid(repository: Path, tmp_path: Path) -> None:
    from campaigns.spec import load_spec

    file = tmp_path / "spec.yaml"
    file.write_text(_block(repository / "README.md", "yaml"), encoding="utf-8")
    assert load_spec(file).campaign == "light-stiff"


def test_the_results_in_the_docs_are_taken(repository: Path, tmp_path: Path) -> None:
    from campaigns.results_file import read_results

    file = tmp_path / "results.csv"
    file.write_text(_block(repository / "docs" / "index.md", "csv"), encoding="utf-8")
    units = {"bulk_modulus": "GPa", "density": "g/cm^3", "formation_energy": "eV/atom"}
    readings = read_results(file, trials={0, 1}, units=units)
    assert {reading.trial for reading in readings} == {0, 1}
    assert {reading.metric: reading.mean for reading in readings if reading.trial == 0} == {
        "bulk_modulus": 182.4,
        "density": 3.91,
        "formation_energy": -1.52,
    }


def test_links_between_the_pages_lead_somewhere(repository: Path) -> None:
    pages = [*repository.glob("*.md"), *(repository / "docs").glob("**/*.md")]
    broken = [
        f"{page.name}: {target}"
        for page in pages
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
        if not (page.parent / target).exists()
    ]
    assert broken == []
