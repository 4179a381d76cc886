"""The words for where a trial stands: Ax's, and one of ours."""

from __future__ import annotations

from typing import Final

STATUSES: Final = ("candidate", "running", "completed", "failed", "infeasible", "abandoned")

FAILED: Final = ("failed", "infeasible")
"""No value, for a cause that is the design's: the loop learns where such designs lie. It was tried
and gave nothing; or it cannot be made at all."""

FINISHED: Final = ("completed", *FAILED, "abandoned")
