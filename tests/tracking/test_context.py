import hashlib
import os
import statistics
import subprocess
import time
import warnings

import mlflow
import pytest
from mlflow.tracking.context import registry

from reliabit.tracking import context
from reliabit.tracking.context import COMMIT, DIRTY, DVC_LOCK, REPOSITORY, ReliabitRunContext, context_tags
from tracking.stores import store_at, tracker_at


def git(folder, *arguments: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    done = subprocess.run(["git", *identity, *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture(autouse=True)
def _no_answer_is_remembered(monkeypatch):
    monkeypatch.setattr(context, "_answers", {})


@pytest.fixture
def project(tmp_path):
    folder = tmp_path / "project"
    folder.mkdir()
    git(folder, "init", "--quiet")
    git(folder, "remote", "add", "origin", "https://me:hunter2pw@host/repo.git")
    (folder / "code.py").write_text("1\n")
    (folder / ".gitignore").write_text("ignored\n")
    (folder / "dvc.lock").write_text("schema: '2.0'\n")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "-m", "first")
    return folder


def test_a_clean_project_is_stamped_with_its_commit_and_data(project):
    found = context_tags(project, environ={})
    lock = hashlib.sha256((project / "dvc.lock").read_bytes()).hexdigest()
    assert found == {COMMIT: git(project, "rev-parse", "HEAD"), DIRTY: "false", REPOSITORY: "", DVC_LOCK: lock}


@pytest.mark.parametrize(
    ("name", "dirty"),
    [
        ("code.py", "true"),
        ("new.py", "true"),
        ("ignored", "false"),
        ("sub/new.py", "true"),
        ("pulled/x.parquet", "false"),
        ("conf/x", "true"),
    ],
)
def test_any_file_that_is_not_in_the_commit_makes_it_dirty_unless_git_ignores_it(project, name, dirty):
    (project / name).parent.mkdir(exist_ok=True)
    (project / name).write_text("2\n")
    assert context_tags(project, environ={})[DIRTY] == dirty


def test_a_staged_or_removed_file_makes_it_dirty(project):
    (project / "code.py").write_text("2\n")
    git(project, "add", "code.py")
    assert context_tags(project, environ={})[DIRTY] == "true"
    git(project, "commit", "--quiet", "-m", "second")
    context._answers.clear()
    assert context_tags(project, environ={})[DIRTY] == "false"
    (project / "code.py").unlink()
    context._answers.clear()
    assert context_tags(project, environ={})[DIRTY] == "true"


def test_a_change_is_seen_after_a_few_seconds(project, monkeypatch):
    assert context_tags(project, environ={})[DIRTY] == "false"
    (project / "code.py").write_text("2\n")
    assert context_tags(project, environ={})[DIRTY] == "false"
    monkeypatch.setattr(context, "FRESH_SECONDS", 0.0)
    assert context_tags(project, environ={})[DIRTY] == "true"


def test_a_project_without_a_commit_is_dirty(tmp_path):
    git(tmp_path, "init", "--quiet")
    assert context_tags(tmp_path, environ={}) == {DIRTY: "true", REPOSITORY: ""}


def test_where_nothing_can_be_found_out_nothing_is_said(tmp_path, monkeypatch):
    assert context_tags(tmp_path, environ={}) == {}
    assert context_tags(tmp_path / "nowhere", environ={}) == {}
    monkeypatch.setenv("PATH", str(tmp_path))
    context._answers.clear()
    assert context_tags(tmp_path, environ={}) == {}


def test_a_git_that_hangs_is_not_waited_for(project, tmp_path, monkeypatch):
    (tmp_path / "git").write_text("#!/bin/sh\nexec sleep 60\n")
    (tmp_path / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(context, "GIT_SECONDS", 0.2)
    started = time.monotonic()
    assert context_tags(project, environ={})[DIRTY] == "unknown"
    assert time.monotonic() - started < 5


def test_no_program_that_a_repository_names_is_run(project, tmp_path):
    (tmp_path / "spy").write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    (tmp_path / "spy").chmod(0o755)
    git(project, "config", "core.fsmonitor", str(tmp_path / "spy"))
    context_tags(project, environ={})
    assert not (tmp_path / "ran").exists()
    git(project, "status")
    assert (tmp_path / "ran").exists(), "git alone would have run it"


def test_variables_of_a_surrounding_git_do_not_lead_astray(project, tmp_path, monkeypatch):
    other = tmp_path / "other"
    other.mkdir()
    git(other, "init", "--quiet")
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    found = context_tags(project, environ={})
    monkeypatch.delenv("GIT_DIR")
    assert found[COMMIT] == git(project, "rev-parse", "HEAD")


def test_ids_of_a_slurm_job_are_stamped(tmp_path):
    environ = {"SLURM_JOB_ID": "17", "SLURM_ARRAY_JOB_ID": "15", "SLURM_ARRAY_TASK_ID": "2", "SLURM_STEP_ID": ""}
    assert context_tags(tmp_path, environ=environ) == {
        "slurm.job_id": "17", "slurm.array_job_id": "15", "slurm.array_task_id": "2",
    }  # fmt: skip


def test_a_stamp_takes_some_milliseconds(project):
    seconds = []
    for _ in range(9):
        context._answers.clear()
        started = time.perf_counter()
        context_tags(project)
        seconds.append(time.perf_counter() - started)
    assert statistics.median(seconds) < 0.1


def test_a_run_started_in_a_notebook_is_stamped_and_shows_no_credentials(project, tmp_path, monkeypatch):
    tracker_at(tmp_path)
    store = store_at(tmp_path)
    found = registry.RunContextProviderRegistry()
    found._registry = [*registry._run_context_provider_registry]
    found.register(ReliabitRunContext)
    monkeypatch.setattr(registry, "_run_context_provider_registry", found)
    monkeypatch.setattr(context, "project_root", lambda: project)
    # MLflow looks for the repository of the program that runs.
    monkeypatch.setattr("mlflow.tracking.context.git_context._get_main_file", lambda: str(project / "code.py"))
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    mlflow.set_tracking_uri(store["uri"])
    try:
        mlflow.set_experiment(store["experiment"])
        with warnings.catch_warnings(), mlflow.start_run() as run:
            warnings.simplefilter("ignore")
        tags = mlflow.get_run(run.info.run_id).data.tags
    finally:
        mlflow.set_tracking_uri(None)
    assert tags[COMMIT] == git(project, "rev-parse", "HEAD")
    assert tags[DIRTY] == "false"
    assert tags["slurm.job_id"] == "17"
    assert not any("hunter2pw" in value for value in tags.values())
