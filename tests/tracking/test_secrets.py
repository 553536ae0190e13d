"""Whichever way a secret gets to a store, no byte of it holds it; a sweep without its password can be gone on with."""

import base64
import html
import io
import json
import logging
from urllib.parse import quote, quote_plus

import pytest
import yaml
from omegaconf import OmegaConf

from reliabit.errors import ReliabitError
from reliabit.identity import Fingerprint
from reliabit.registry.history import history, log_outcome, recorded
from reliabit.tracking.redaction import RedactingFormatter, print_redacted, redact, redact_config, write_records
from reliabit.tracking.sweep.parent import find_sweep, overrides_of, start_parent
from tracking.stores import runs_of, tracker_at

SECRET = "hunter2Zq9xW7"
URI = f"postgresql://me:{SECRET}@db:5432/runs"


def holds(folder, secret: str) -> list:
    """The files below a folder that hold a secret."""
    return [path for path in folder.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]


@pytest.mark.parametrize("before", range(200, 260, 7))
def test_neither_a_name_nor_a_reason_that_is_cut_keeps_half_a_password(tmp_path, before):
    tracker = tracker_at(tmp_path)
    long = "x" * before
    start_parent(tracker, overrides=[f"data.root={long}", f"tracking.uri={URI}"])
    with pytest.raises(ReliabitError), tracker.run(f"cell {URI}", tags={"kind": "cell"}):
        raise ReliabitError(f"{long * 2} {URI} does not answer")
    with recorded(tracker, "model", action="promote", version=None, previous=None) as run:
        log_outcome(
            run, outcome="refused", reason=f"{long * 8}{'y' * (2000 - 8 * before - 40)} {URI}", document={"a": URI}
        )
    assert history(tracker, "model")[0].outcome == "refused"
    assert holds(tmp_path, SECRET[:6]) == []
    assert len(runs_of(tracker)) == 3


def test_a_secret_is_on_no_run_by_the_name_of_its_key_or_by_its_form(tmp_path):
    tracker, token = tracker_at(tmp_path), "hf_" + "Ab3" * 10
    config = {
        "model": {"path": f"hub {token}"},
        "hub": {"api_key": SECRET, "max_new_tokens": 8},
        "list": [URI, {"pwd": SECRET}],
    }
    with tracker.run("x", tags={"service.token": SECRET, "dsn": f"host=db password={SECRET}"}) as run:
        run.log_identity(config, fingerprint=Fingerprint({}, {}, {}, {}))
    (found,) = runs_of(tracker)
    assert found.data.params["hub.max_new_tokens"] == "8"
    assert holds(tmp_path, SECRET) == holds(tmp_path, token) == []
    told = yaml.safe_load(next(tmp_path.rglob("config.yaml")).read_text())
    assert told["hub"] == {"api_key": "[redacted]", "max_new_tokens": 8}, "a text, and no list"


def test_a_sweep_whose_store_had_a_password_is_gone_on_with_by_the_store_that_it_was_found_in(tmp_path):
    tracker = tracker_at(tmp_path)
    run = start_parent(tracker, overrides=["quant.bits=2,3", f"tracking.uri={URI}", "tracking.experiment=x"])
    assert overrides_of(find_sweep(tracker, run.run_id)) == ["quant.bits=2,3", "tracking.experiment=x"]


def test_a_secret_within_the_query_of_an_address_leaves_the_overrides_a_list(tmp_path):
    tracker = tracker_at(tmp_path)
    run = start_parent(tracker, overrides=[f"tracking.artifacts='s3://bucket/runs?token={SECRET}'", "quant.bits=2,3"])
    assert overrides_of(find_sweep(tracker, run.run_id)) == ["quant.bits=2,3"]
    # As it was recorded before, without the quote and the comma after the secret.
    tracker.client.set_tag(run.run_id, "overrides.json", """["tracking.artifacts='s3://b/?token=[redacted] "a=1"]""")
    with pytest.raises(ReliabitError, match="secrets are not recorded; say all of its arguments again"):
        overrides_of(find_sweep(tracker, run.run_id))


def test_a_sweep_that_was_given_another_secret_says_what_to_say_again(tmp_path):
    tracker = tracker_at(tmp_path)
    run = start_parent(tracker, overrides=[f"model.path=https://me:{SECRET}@hub/model"])
    with pytest.raises(ReliabitError, match=r"was started with model.path=https://\[redacted\]@hub/model, and secrets"):
        overrides_of(find_sweep(tracker, run.run_id))


def test_what_hydra_leaves_of_a_job_holds_no_secret_and_all_the_rest(tmp_path, monkeypatch):
    monkeypatch.setenv("SERVICE_TOKEN", f"{SECRET}-1")
    task = {"tracking": {"uri": URI}, "root": "/data", "place": "${root}/x", "note": f"by {SECRET}-1"}
    told = {"overrides": {"task": [f"tracking.uri={URI}", "seed=1"]}, "job": {"env_set": {"MY_SECRET": SECRET}}}
    write_records(OmegaConf.create({**task, "hydra": told}), tmp_path / ".hydra")
    assert holds(tmp_path, SECRET) == []
    config, hydra, overrides = (
        yaml.safe_load((tmp_path / ".hydra" / name).read_text())
        for name in ("config.yaml", "hydra.yaml", "overrides.yaml")
    )
    assert config["tracking"]["uri"] == "postgresql://[redacted]@db:5432/runs"
    assert (config["root"], config["place"]) == ("/data", "${root}/x")
    assert overrides == ["tracking.uri=postgresql://[redacted]@db:5432/runs", "seed=1"]
    assert hydra["hydra"]["job"]["env_set"] == {"MY_SECRET": "[redacted]"}


def test_neither_logs_nor_tracebacks_say_a_secret(capsys):
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(RedactingFormatter("%(message)s"))
    try:
        raise ConnectionError(URI)
    except ConnectionError as error:
        handler.handle(logging.LogRecord("x", logging.ERROR, "", 1, f"#0 : tracking.uri={URI}", (), None))
        print_redacted(type(error), error, error.__traceback__)
    assert SECRET not in stream.getvalue()
    said = capsys.readouterr().err
    assert SECRET not in said
    assert "ConnectionError: postgresql://[redacted]@db:5432/runs" in said


@pytest.mark.parametrize(
    "text",
    [
        f"tracking.uri=postgresql:/me:{SECRET}@db/runs is a plain folder",
        f"tracking.uri=me:{SECRET}@db/runs is a plain folder",
        f"postgresql://me:a/b@{SECRET}@db/runs",
        f"(psycopg.OperationalError) connection to 'host=db user=me password={SECRET} port=5432' failed",
        f"hydra.job.env_set.API_KEY={SECRET}",
        f"aws_secret_access_key='{SECRET} with blanks {SECRET}'",
        f"-----BEGIN RSA PRIVATE KEY-----\n{SECRET}\n-----END RSA PRIVATE KEY-----",
    ],
)
def test_forms_of_a_secret(text):
    assert SECRET not in redact(text, environ={}, arguments=[])


def test_a_password_that_the_process_was_given_is_redacted_without_its_address():
    environ = {"MLFLOW_TRACKING_URI": f"http://me:{SECRET}%21@host", "HOME": "/root"}
    for said in (f"bad password {SECRET}!", json.dumps({"password": f"{SECRET}%21"})):
        assert SECRET not in redact(said, environ=environ, arguments=[])
    arguments = ["run.py", f"tracking.uri='mysql://me:{SECRET}@db/x'", f"+a.api_key={SECRET}-2"]
    assert redact(f"{SECRET} and {SECRET}-2", environ={}, arguments=arguments) == "[redacted] and [redacted]"


@pytest.mark.parametrize(
    "text",
    ["models:/reliabit@champion", "models:/reliabit/3", "image_token=true", "max_new_tokens=8", "a token: 3 of 8"],
)
def test_what_is_no_secret_stays(text):
    assert redact(text, environ={}, arguments=[]) == text


@pytest.mark.parametrize(
    "text",
    [
        "Authorization: Bearer {}",
        "{{'Authorization': 'Basic {}'}}",
        "X-API-Key: {}",
        '{{"password": "{}"}}',
        "{{'api_key': '{}'}}",
        "--password={}",
        "--api-key {}",
        "MLFLOW_TRACKING_PASSWORD = {}",
        "password='{}",
        "AccountKey={};EndpointSuffix=a",
        "https://h/x?X-Goog-Signature={}",
        "Set-Cookie: session={}; HttpOnly",
    ],
)
def test_places_where_secrets_stand(text):
    found = redact(text.format("hunter2hunter2"), environ={}, arguments=[])
    assert "hunter2" not in found
    assert found == redact(found, environ={}, arguments=[])


def test_json_stays_json():
    found = json.loads(redact(json.dumps({"password": "hunter2", "seed": 1}), environ={}, arguments=[]))
    assert found == {"password": "[redacted]", "seed": 1}


@pytest.mark.parametrize("secret", ["a'b\"c\\dhunter", "a&b<hunter", "a b/hunter", "pässwört1"])
@pytest.mark.parametrize(
    "written",
    [
        repr,
        json.dumps,
        html.escape,
        quote,
        quote_plus,
        lambda text: quote_plus(text).lower(),
        lambda text: repr(text.encode()),
    ],
)
def test_a_secret_however_it_was_written(secret, written):
    found = redact(f"sent {written(secret)} on", environ={"A_TOKEN": secret}, arguments=[])
    assert set(found.removeprefix("sent ").removesuffix(" on")) <= set("[redacted]b'\"")


def test_a_password_as_it_goes_over_http():
    environ = {"MLFLOW_TRACKING_USERNAME": "me", "MLFLOW_TRACKING_PASSWORD": "hunter2"}
    sent = base64.b64encode(b"me:hunter2").decode()
    assert redact(f"request headers {sent}", environ=environ, arguments=[]) == "request headers [redacted]"


def test_nothing_below_the_key_of_a_secret_stays():
    config = {"password": ["a", "b"], "token": {"value": "abc"}, "api_key": 12345678, "https://me:pw@host": True}
    assert redact_config(config, environ={}) == {
        "password": ["[redacted]", "[redacted]"],
        "token": {"value": "[redacted]"},
        "api_key": "[redacted]",
        "https://[redacted]@host": True,
    }
