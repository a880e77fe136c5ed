"""The OpenAPI description, and random requests that follow it or nearly do."""

import json
from pathlib import Path

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, settings

import pad_student
import pad_wire
from pad_teacher.api.app import create_app
from pad_teacher.service import Service
from pad_teacher.settings import ServeSettings
from support.fakes import fake_teacher
from support.processes import TeacherProcess

SNAPSHOT = Path(__file__).with_name("openapi.json")

schema = schemathesis.openapi.from_path(SNAPSHOT)


@pytest.mark.anyio
async def test_the_routes_and_models_are_those_of_the_snapshot(client: httpx.AsyncClient) -> None:
    """After a wanted change, write the new snapshot: python tests/contract/test_openapi.py."""
    assert (await client.get("/openapi.json")).json() == json.loads(SNAPSHOT.read_text())


def test_the_wire_exports_are_those_written_down() -> None:
    assert sorted(pad_wire.__all__) == sorted(name for name in vars(pad_wire) if name[0].isupper())
    assert all(getattr(pad_student, name).__name__ == name for name in ("PADConfig", "PADTrainer", "Teacher"))


@schema.parametrize()
@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
def test_no_request_near_the_schema_gets_a_5xx(case: schemathesis.Case, shared_teacher: TeacherProcess) -> None:
    response = case.call(base_url=shared_teacher.url)
    in_time = response.status_code != 504 or "X-Deadline-Ms" not in (case.headers or {})  # it may ask for too much
    assert response.status_code < 500 or not in_time
    if response.status_code >= 400:
        assert set(response.json()["error"]) >= {"code", "message", "retryable"}


if __name__ == "__main__":
    app = create_app(Service(ServeSettings(model="fake"), fake_teacher))
    SNAPSHOT.write_text(json.dumps(app.openapi(), indent=1) + "\n")
