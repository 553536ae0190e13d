"""The served OpenAPI document against the service itself, by schemathesis in an environment of its own."""

import os
import subprocess
from pathlib import Path

import pytest

from serving.running import service

COMMAND = Path(os.environ.get("RELIABIT_FUZZ_ENV", ""), "bin", "schemathesis")
EXAMPLES = os.environ.get("RELIABIT_FUZZ_EXAMPLES", "50")
CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,"
    "response_schema_conformance,unsupported_method,allow_header_conformance"
)
"""Neither `positive_data_acceptance`, since what is well-formed may still be no picture, nor `negative_data_rejection`,
which takes the text "0.0" in a form for a number."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (os.environ.get("RELIABIT_FUZZ_ENV") and COMMAND.is_file()),
        reason="RELIABIT_FUZZ_ENV names no environment with schemathesis: make fuzz makes one",
    ),
]


def test_the_service_answers_as_its_openapi_document_says(plain, tmp_path):
    with service(plain.bundle, tmp_path) as running:
        told = [COMMAND, "run", f"{running.url}/openapi.json", "--checks", CHECKS, "--continue-on-failure"]
        done = subprocess.run(
            [*told, "--max-examples", EXAMPLES, "--no-color", "--seed", "1"],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            timeout=3600,
            check=False,
        )
        assert running.process.poll() is None, running.log.read_text()
    assert done.returncode == 0, done.stdout
