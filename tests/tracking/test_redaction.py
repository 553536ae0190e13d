import json
import time
from urllib.parse import quote

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from reliabit.tracking.redaction import ORDINARY, REDACTED, redact, redact_values

names = st.sampled_from(["MLFLOW_TRACKING_TOKEN", "AWS_SECRET_ACCESS_KEY", "db_password", "ApiKey", "X_CREDENTIALS"])
characters = st.characters(codec="utf-8", exclude_categories=["Cs", "Zs", "Cc"])
secrets = st.text(characters, min_size=8, max_size=30).filter(lambda text: not set(text) & set(REDACTED))
texts = st.text(max_size=40)


@given(name=names, secret=secrets, before=texts, after=texts, form=st.sampled_from(["plain", "address", "json"]))
@example(name="API_TOKEN", secret='a"b\\c/d?', before="x", after="y", form="json")
def test_the_value_of_a_secret_variable_never_stays(name, secret, before, after, form):
    written = {"plain": secret, "address": quote(secret, safe=""), "json": json.dumps(secret)[1:-1]}[form]
    assume(secret.lower() not in ORDINARY)
    found = redact(before + written + after, environ={name: secret})
    assert written not in found
    assert REDACTED in found


@given(text=texts, values=st.dictionaries(names, texts, max_size=3))
def test_redacting_twice_is_redacting_once_where_the_mark_is_no_secret(text, values):
    assume(not any(value.strip() in REDACTED or REDACTED[:1] in value or "]" in value for value in values.values()))
    once = redact(text, environ=values)
    assert redact(once, environ=values) == once


@given(text=st.text(st.characters(exclude_characters="@?&"), max_size=60), other=texts)
def test_what_holds_no_secret_stays_as_it_is(text, other):
    assert redact(text, environ={"HOME": other, "PATH": "/usr/bin"}) == text


passwords = st.text(st.characters(codec="ascii", exclude_characters="/?#[] \t", exclude_categories=["Cc"]), max_size=20)


@given(scheme=st.sampled_from(["https", "postgresql+psycopg", "ssh", "s3"]), password=passwords, before=texts)
def test_an_address_never_keeps_its_user(scheme, password, before):
    found = redact(f"{before} {scheme}://me:{password}§@host.example/path", environ={})
    assert found.endswith(f"{scheme}://{REDACTED}@host.example/path")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("postgresql://me:p/w?x@db:5432/runs", "postgresql://[redacted]@db:5432/runs"),
        ("git@host:me/repo.git", "git@host:me/repo.git"),
        ("see https://host/a@b and https://t0k3n@host", "see https://host/a@b and https://[redacted]@host"),
        ("https://host:5000/path?email=a@b", "https://host:5000/path?email=a@b"),
        ("https://h/x?sig=abc&page=2", "https://h/x?sig=[redacted]&page=2"),
        ("https://h/x?page=2&X-Amz-Signature=abc#end", "https://h/x?page=2&X-Amz-Signature=[redacted]#end"),
        ("sqlite:////data/mlruns/mlflow.db", "sqlite:////data/mlruns/mlflow.db"),
        ("max_new_tokens: 8", "max_new_tokens: 8"),
        ("a.1-git+ssh://me:pw@host b:c@d", "a.1-git+ssh://[redacted]@host b:c@d"),
        ("s3:me:pw@host@file://x s3://a:b@c/d@e", "s3:[redacted]@host@file://x s3://[redacted]@c/d@e"),
    ],
)
def test_addresses(text, expected):
    assert redact(text, environ={}) == expected


@pytest.mark.parametrize(
    "repeated", ["a:", "a.", "a-b.c+d", "a://b:", "--token", "sk-a", "a=b:c", "http://me:pw@host/x"]
)
def test_ten_times_as_long_a_text_takes_no_hundred_times_as_long(repeated):
    def took(length):
        text = repeated * (length // len(repeated)) + " @"
        began = time.process_time()
        redact(text, environ={}, arguments=[text])
        return time.process_time() - began

    assert took(50_000) < 50 * max(took(5_000), 1e-3)


def test_settings_that_are_called_like_secrets_do_not_redact_words():
    environ = {"TOKENIZERS_PARALLELISM": "false", "KEYTIMEOUT": "1", "SOME_KEY": "", "MY_TOKEN": "None"}
    text = "progress_bar: false, bits: 1, path: null, None"
    assert redact(text, environ=environ) == text


def test_a_short_secret_is_redacted_where_it_stands_alone():
    environ = {"DB_PASSWORD": "admin"}
    assert redact("password admin, administrator", environ=environ) == "password [redacted], administrator"


def test_a_secret_that_begins_like_another_is_redacted_whole():
    environ = {"A_TOKEN": "abcdefgh", "B_TOKEN": "abcdefghijkl"}
    assert redact("x abcdefghijkl abcdefgh", environ=environ) == "x [redacted] [redacted]"


def test_a_version_by_its_alias_is_no_credential():
    told = "there is no models:/reliabit@champion"
    assert redact(told, environ={}, arguments=["pull", "models:/reliabit@champion"]) == told
    given = ["models:/me:correct-horse@db"]
    assert redact("correct-horse", environ={}, arguments=given) == "[redacted]"


def test_the_environment_of_the_process_counts(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "correct horse")
    assert redact_values({"a": "say correct horse", "b": "fine"}) == {"a": "say [redacted]", "b": "fine"}


def test_what_is_redacted_already_stays_as_it_is_and_json_stays_json():
    told = [redact("tracking.artifacts='s3://bucket/runs?token=hunter2-query'", environ={}, arguments=[]), "a=1"]
    text = json.dumps(told)
    assert redact(text, environ={}, arguments=[]) == text
    # What goes on after the word is a secret all the same.
    assert redact("x?token=[redacted]and-more", environ={}, arguments=[]) == "x?token=[redacted]"
