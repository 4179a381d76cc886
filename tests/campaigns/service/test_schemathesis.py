"""Requests that the API's own description allows, and many that it does not: no server error."""

from __future__ import annotations

import hypothesis
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase


@pytest.mark.slow
def test_no_request_is_a_server_error(make_door):
    door = make_door(rate=1e6, burst=10**9, wait=0.05)
    door.add(5)
    (lease,) = door.lease()
    door.report(lease)
    schema = schemathesis.openapi.from_asgi("/openapi.json", door.client.app)
    tried: dict[str, int] = {}

    for result in schema.get_all_operations():
        operation = result.ok()
        if operation.path.endswith("/stream"):
            continue  # it never ends

        @hypothesis.settings(
            max_examples=25, deadline=None, database=None, derandomize=True,
            suppress_health_check=list(HealthCheck), phases=[Phase.explicit, Phase.generate],
        )  # fmt: skip
        @hypothesis.given(case=operation.as_strategy())
        def ask(case):
            label = case.operation.label
            # most would end at a campaign that is not there
            if "c" in (case.path_parameters or {}):
                case.path_parameters["c"] = "toy"
            headers = {"Authorization": f"Bearer {door.key}"}
            answer = case.call(headers=headers)
            tried[label] = tried.get(label, 0) + 1
            assert answer.status_code < 500, (label, answer.status_code, answer.text)

        ask()
    assert len(tried) > 25
    assert door.get("").status_code == 200
