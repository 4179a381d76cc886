"""Values as strict JSON has them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any


def plain(value: Any) -> Any:
    """The same value in strict JSON's types: numpy's become Python's, NaN becomes None.

    Raises:
        TypeError: There is no such form.
    """
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if hasattr(value, "tolist"):  # numpy's arrays and scalars
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | int):
        return value
    raise TypeError(f"a {type(value).__name__} has no JSON form: {value!r}")


def strict_json(value: Any) -> str:
    """JSON that every reader takes: no NaN, no infinity. Floats come back bit for bit."""
    return json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
