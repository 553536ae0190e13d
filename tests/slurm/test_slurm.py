"""Sweeps on a true Slurm of two nodes, with accounting, here: what happens to a cluster, and what is left of it."""

from collections.abc import Iterator

import pytest
from mlflow import MlflowClient

from reliabit.cluster import check_accounting, slurm_machines
from reliabit.errors import ReliabitError
from slurm.faults import FAULTS, SLURM, TINY, Place, suffer, undisturbed
from slurm.local_cluster import LocalCluster, TrackingServer, lacking

# Daemons that take the machine for themselves: `make test-slurm`. `tests/test_launchers.py` launches a cell without.
pytestmark = [pytest.mark.slow, pytest.mark.skipif(lacking() is not None, reason=str(lacking()))]


@pytest.fixture(scope="module")
def running(tmp_path_factory) -> Iterator[LocalCluster]:
    folder = tmp_path_factory.mktemp("slurm")
    for above in (folder, folder.parent, folder.parent.parent):
        # The database has a user of its own.
        above.chmod(0o755)
    cluster = LocalCluster(folder / "slurm")
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture
def cluster(running, monkeypatch):
    running.mend()
    monkeypatch.setenv("SLURM_CONF", running.environment["SLURM_CONF"])
    return running


@pytest.fixture(scope="module")
def started(tmp_path_factory) -> Iterator[TrackingServer]:
    server = TrackingServer(tmp_path_factory.mktemp("server"))
    try:
        server.start()
        yield server
    finally:
        server.kill()


@pytest.fixture
def server(started):
    started.mend()
    return started


@pytest.fixture(scope="module")
def expected(running, started, tmp_path_factory):
    """The numbers of a sweep of twelve cells to which nothing happens, over both nodes."""
    # What a test starts ends with it, daemons that it mended among them.
    running.mend()
    started.mend()
    place = Place(tmp_path_factory.mktemp("undisturbed"), running, started, "undisturbed")
    found = undisturbed(place)
    assert place.nodes() == {"n1", "n2"}
    return found


def test_a_cell_runs_as_a_job_and_is_recorded(cluster, tmp_path):
    """The quick form: one cell, recorded in a journal, so that no server is started for it."""
    place = Place(tmp_path, cluster, TrackingServer(tmp_path), "reliabit")
    journal = ["tracking=offline", f"tracking.uri=journal://{tmp_path}/journal"]
    process = place.start("-m", "quant=none", *TINY, *SLURM, *journal)
    told = process.communicate(timeout=240)[0]
    assert process.returncode == 0, told
    assert "1 of 1 cells finished" in told, told
    assert "reliabit" in cluster.ask("sacct", "-n", "-X", "-P", "-o", "JobName")
    # Pickles are run by whoever reads them: nobody else may write them.
    assert (tmp_path / "sweep-0" / ".submitit").stat().st_mode & 0o077 == 0


def test_without_accounting_nothing_is_queued(cluster, tmp_path):
    assert slurm_machines(None).keys() == {"n1", "n2"}
    check_accounting()
    cluster.kill_daemon("slurmdbd")
    with pytest.raises(ReliabitError, match=r"Slurm's accounting does not answer \(.+\), and without it a sweep waits"):
        check_accounting()
    place = Place(tmp_path, cluster, TrackingServer(tmp_path), "reliabit")
    process = place.start("-m", "quant=none", *TINY, *SLURM)
    assert "error: Slurm's accounting does not answer" in process.communicate(timeout=100)[0]
    assert process.returncode == 2
    assert not (tmp_path / "sweep-0").exists()


def test_a_dead_controller_is_said_to_be_dead(cluster):
    cluster.kill_daemon("slurmctld")
    with pytest.raises(ReliabitError, match="the controller of Slurm does not answer"):
        slurm_machines(None)


def test_a_sqlite_file_is_refused_on_two_nodes(cluster, tmp_path):
    place = Place(tmp_path, cluster, TrackingServer(tmp_path), "reliabit")
    process = place.start("-m", "quant=none", *TINY, *SLURM, f"tracking.uri=sqlite:///{tmp_path}/m.db")
    assert "is a sqlite file, which is damaged where 2 nodes write it" in process.communicate(timeout=100)[0]
    assert process.returncode == 2


@pytest.mark.slow
@pytest.mark.parametrize("name", FAULTS)
def test_a_sweep_survives(name, cluster, server, expected, tmp_path):
    fault, every = FAULTS[name]
    place = Place(tmp_path, cluster, server, name)
    outcome = suffer(place, fault, times=1, every=every, expected=expected)
    assert outcome.tried == 1
    assert outcome.finished == 4
    assert outcome.same
    # What was killed for good is all that is repeated.
    assert outcome.repeated == (1 if name == "a cell is killed" else 0)


@pytest.mark.slow
def test_cells_that_start_at_once_calibrate_once(cluster, server, tmp_path):
    """Two nodes ask for one calibration at once: the lock of the shared cache lets one of them measure."""
    place = Place(tmp_path, cluster, server, "calibration")
    process = place.start(
        "-m", "quant=mbq", "quant.bits=3,4", "quant.calibration.images=12", "sweep.baseline=false", *TINY, *SLURM
    )
    told = process.communicate(timeout=600)[0]
    assert process.returncode == 0, told
    made = [path for path in (tmp_path / "cache" / "calibration").iterdir() if not path.name.startswith(".")]
    assert len(made) == 1
    assert len(MlflowClient(tracking_uri=server.uri).search_experiments()) >= 2
