"""Ready campaigns: specs to start from, written where a person wants them."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from campaigns.errors import MatloopError, UsageError, did_you_mean, quoted
from campaigns.spec import SCHEMA_FILE

SCHEMA_NAME = "matloop.schema.json"
"""What the schema is called beside a spec."""

_FOLDER = Path(__file__).parent


def template_names() -> list[str]:
    """The names of the templates."""
    return sorted(file.stem for file in _FOLDER.glob("*.yaml"))


def render_template(name: str, schema: str = SCHEMA_NAME) -> str:
    """The text of a template's spec.

    Args:
        name: One of `template_names`.
        schema: Where the schema is, seen from the spec: its first line tells editors.

    Raises:
        UsageError: There is no such template.
    """
    if name not in template_names():
        raise UsageError(
            f"there is no template {quoted(name)}", hint=did_you_mean(name, template_names())
        )
    text = (_FOLDER / f"{name}.yaml").read_text(encoding="utf-8")
    return text.replace("{schema}", schema, 1)


def write_template(name: str, folder: str | Path) -> list[Path]:
    """Write a template's spec and, beside it, the schema, by which editors complete it offline.

    Args:
        name: One of `template_names`.
        folder: Where; made if it is not there.

    Returns:
        The files written: the spec, `NAME.yaml`, first.

    Raises:
        UsageError: There is no such template, or a spec of that name is there already, or a file
            in place of the folder.
        MatloopError: The files cannot be written.
    """
    text = render_template(name)
    folder = Path(folder)
    spec, schema = folder / f"{name}.yaml", folder / SCHEMA_NAME
    if os.path.exists(folder) and not folder.is_dir():
        raise UsageError(
            f"{folder} is a file, a folder was wanted",
            unchanged=f"{folder}",
            hint=f"name a folder: {spec.name} is written into it",
        )
    if os.path.exists(spec):
        raise UsageError(
            f"{spec} is there already",
            unchanged=f"{spec}",
            hint="name another folder, or remove it first",
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write(schema, SCHEMA_FILE.read_text(encoding="utf-8"))
        _write(spec, text)
    except OSError as error:
        raise MatloopError(
            f"the template cannot be written: {error.strerror or error}", where=str(folder)
        ) from error
    return [spec, schema]


def _write(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes files that only their owner can read.
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
