import json
import os
import re
import shutil
from collections import namedtuple
from pathlib import Path

import pytest
from mlflow.entities import FileInfo
from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

from registry.bundles import CODE, accepting, register, write_bundle
from reliabit.cache import entries
from reliabit.errors import ReliabitError
from reliabit.files import sha256
from reliabit.registry import champion_source, pulling
from reliabit.registry.champion_source import ChampionSource
from reliabit.registry.promotion import promote, rollback
from reliabit.registry.pulling import pull
from reliabit.registry.registering import register_bundle
from reliabit.registry.versions import DIGEST_TAG, find_version
from reliabit.serving.bundle.manifest import verify_manifest, write_manifest

FILES = [
    "README.md",
    "bundle.json",
    "checkpoint/model.safetensors",
    "checkpoint/nested/tokenizer.json",
    "manifest.json",
]


@pytest.fixture(scope="module")
def versions(tracker, folder):
    found = [register(tracker, folder, name="reliabit", content=content) for content in ("a", "b")]
    promote(tracker, "reliabit", "1", decide=accepting)
    return found


@pytest.fixture
def stored(tracker, folder, request):
    """A version of the test's own, and where its bundle lies in the store."""
    name = re.sub(r"\W+", "-", request.node.name).strip("-")
    version = register(tracker, folder, name=name, content="x")
    return version, bundle_of(tracker, version)


def bundle_of(tracker, version) -> Path:
    source = tracker.client.get_model_version(version.name, version.number).source
    return Path(source.removeprefix("file://")) / "artifacts" / "bundle"


def files_below(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def test_a_pulled_bundle_is_the_one_that_was_registered(tracker, versions, folder, tmp_path):
    pulled = pull(tracker, "models:/reliabit@champion", tmp_path / "here")
    assert (pulled.version.number, pulled.fetched, pulled.folder) == ("1", True, tmp_path / "here")
    assert files_below(pulled.folder) == files_below(folder / "reliabit" / "a")
    verify_manifest(pulled.folder)


def test_pulling_the_same_version_again_checks_and_keeps_it(tracker, versions, tmp_path):
    pull(tracker, "models:/reliabit/1", tmp_path / "here")
    again = pull(tracker, "models:/reliabit@champion", tmp_path / "here")
    assert not again.fetched
    (again.folder / "README.md").write_text("edited")
    with pytest.raises(ReliabitError, match="README.md differs .*; pull the bundle again with --replace$"):
        pull(tracker, "models:/reliabit/1", tmp_path / "here")


def test_a_damaged_bundle_is_fetched_anew_where_that_is_asked_for(tracker, versions, folder, tmp_path):
    here = pull(tracker, "models:/reliabit/1", tmp_path / "here").folder
    (here / "checkpoint" / "model.safetensors").write_bytes(b"damaged")
    (here / "stray").write_text("added")
    assert pull(tracker, "models:/reliabit/1", here, replace=True).fetched
    assert files_below(here) == files_below(folder / "reliabit" / "a")
    # A sound one is not fetched for nothing.
    assert not pull(tracker, "models:/reliabit/1", here, replace=True).fetched


def test_another_bundle_is_replaced_only_where_that_is_asked_for(tracker, versions, tmp_path):
    here = pull(tracker, "models:/reliabit/1", tmp_path / "here").folder
    before = files_below(here)
    with pytest.raises(ReliabitError, match="holds another bundle than models:/reliabit/2"):
        pull(tracker, "models:/reliabit/2", here)
    assert files_below(here) == before
    assert pull(tracker, "models:/reliabit/2", here, replace=True).fetched
    assert json.loads((here / "bundle.json").read_text())["name"] == "b"


def test_a_folder_that_is_no_bundle_is_never_replaced(tracker, versions, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ReliabitError, match="is no bundle"):
        pull(tracker, "models:/reliabit/1", tmp_path, replace=True)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"
    (tmp_path / "empty").mkdir()
    assert pull(tracker, "models:/reliabit/1", tmp_path / "empty").fetched


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit(tracker, stored, name, tmp_path):
    version, bundle = stored
    content = bytearray((bundle / name).read_bytes())
    content[len(content) // 2] ^= 1
    (bundle / name).write_bytes(content)
    with pytest.raises(ReliabitError, match=name):
        pull(tracker, version.uri, tmp_path / "here")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", FILES)
def test_a_lost_file(tracker, stored, name, tmp_path):
    version, bundle = stored
    (bundle / name).unlink()
    with pytest.raises(ReliabitError, match=f"{name} of {version.uri} cannot be fetched"):
        pull(tracker, version.uri, tmp_path / "here")
    assert list(tmp_path.iterdir()) == []


def test_a_file_and_its_manifest_changed_together(tracker, stored, tmp_path):
    version, bundle = stored
    (bundle / "README.md").write_text("# Another model\n")
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["files"]["README.md"] = {"sha256": sha256(bundle / "README.md"), "bytes": 16}
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    verify_manifest(bundle)
    with pytest.raises(ReliabitError, match="is not the one that was registered"):
        pull(tracker, version.uri, tmp_path / "here")
    assert list(tmp_path.iterdir()) == []


def test_what_the_manifest_does_not_list_is_not_fetched(tracker, stored, tmp_path):
    version, bundle = stored
    (bundle / "extra.py").write_text("import os")
    pulled = pull(tracker, version.uri, tmp_path / "here")
    assert "extra.py" not in files_below(pulled.folder)


@pytest.mark.parametrize(
    "name",
    [
        "../evil",
        "/tmp/evil",
        "checkpoint/../../evil",
        "..",
        ".",
        "",
        "a//b",
        "./a",
        "..\\evil",
        "a\0b",
        "manifest.json",
    ],
)
def test_a_manifest_that_leads_out(tracker, folder, versions, name, tmp_path):
    """One that is registered so: by someone who may write to the registry, or by a defect."""
    bundle = bundle_of(tracker, versions[1])
    hostile = tmp_path / "hostile"
    shutil.copytree(bundle, hostile)
    manifest = json.loads((hostile / "manifest.json").read_text())
    manifest["files"][name] = manifest["files"]["README.md"]
    (hostile / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ReliabitError, match="is no file of a bundle"):
        register_bundle(tracker, hostile, run_id=versions[1].run_id, name="hostile", code=CODE)
    stored = folder / "hostile" / tmp_path.name
    shutil.copytree(hostile, stored / "artifacts" / "bundle")
    (stored / "evil").write_text((bundle / "README.md").read_text())
    if not tracker.client.search_registered_models("name = 'hostile'"):
        tracker.client.create_registered_model("hostile")
    made = tracker.client.create_model_version(
        "hostile", stored.as_uri(), tags={DIGEST_TAG: sha256(hostile / "manifest.json")}
    )
    target = tmp_path / "target"
    with pytest.raises(ReliabitError, match="is no file of a bundle"):
        pull(tracker, f"models:/hostile/{made.version}", target / "here")
    assert list(target.iterdir()) == []


def test_a_listing_that_leads_out(tracker, versions, tmp_path, monkeypatch):
    """A store that calls a file a folder, and puts into it what is not in it."""
    listed = [
        FileInfo(path="../../evil", is_dir=False, file_size=1),
        FileInfo(path="x/..", is_dir=True, file_size=None),
    ]
    monkeypatch.setattr(LocalArtifactRepository, "list_artifacts", lambda *_: listed)
    # As for every store that is not a folder of this machine: what is a folder, the listing says.
    monkeypatch.setattr(LocalArtifactRepository, "_is_directory", ArtifactRepository._is_directory)
    (tmp_path / "a").mkdir()
    with pytest.raises(ReliabitError, match="manifest.json of models:/reliabit/1 cannot be fetched"):
        pull(tracker, "models:/reliabit/1", tmp_path / "a" / "here")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a"]


def test_a_store_that_answers_with_a_link(tracker, stored, tmp_path):
    version, bundle = stored
    outside = tmp_path / "outside"
    outside.write_text("secret")
    (bundle / "README.md").unlink()
    (bundle / "README.md").symlink_to(outside)
    with pytest.raises(ReliabitError, match="README.md"):
        pull(tracker, version.uri, tmp_path / "here")
    assert list(tmp_path.iterdir()) == [outside]


def test_a_disk_without_room_is_noticed_before_anything_is_fetched(tracker, versions, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(pulling.shutil, "disk_usage", lambda _: usage(10, 10, 0))
    with pytest.raises(ReliabitError, match=r"the bundle takes \d+ bytes, and .* has 0 free"):
        pull(tracker, "models:/reliabit/1", tmp_path / "here")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def fetched(monkeypatch):
    """The versions that were fetched, in turn."""
    found = []
    original = champion_source.fetch_bundle

    def fetch(tracker, version, folder):
        found.append(version.number)
        original(tracker, version, folder)

    monkeypatch.setattr(champion_source, "fetch_bundle", fetch)
    return found


def loaded(source) -> tuple[str, dict[str, bytes]]:
    """What a service would load now: the version and the files of the snapshot that it gets."""
    offer = source.current()
    with offer.snapshot() as snapshot:
        assert snapshot.stat().st_mode & 0o077 == 0, "others could look at it or change it"
        return offer.version, files_below(snapshot)


def test_services_share_what_one_of_them_fetched(tracker, versions, folder, tmp_path, fetched):
    sources = [ChampionSource(tracker=tracker, cache=tmp_path) for _ in range(2)]
    for source in (*sources, *sources):
        assert loaded(source) == ("1", files_below(folder / "reliabit" / "a"))
    assert fetched == ["1"]
    entry = tmp_path / "bundles" / versions[0].digest
    assert [(found.kind, found.folder) for found in entries(tmp_path)] == [("bundles", entry)]


def test_looking_for_a_new_champion_fetches_nothing(tracker, versions, tmp_path, fetched):
    assert ChampionSource(tracker=tracker, cache=tmp_path).current().version == "1"
    assert fetched == []


def test_a_service_follows_the_alias_there_and_back(tracker, folder, tmp_path, fetched):
    for content in ("a", "b"):
        register(tracker, folder, name="followed", content=content)
    source = ChampionSource(tracker=tracker, cache=tmp_path, name="followed")
    with pytest.raises(ReliabitError, match="there is no models:/followed@champion; promote a version first"):
        source.current()
    seen = []
    for change in (
        lambda: promote(tracker, "followed", "1", decide=accepting),
        lambda: promote(tracker, "followed", "2", decide=accepting),
        lambda: rollback(tracker, "followed"),
    ):
        change()
        version, files = loaded(source)
        seen.append((version, json.loads(files["bundle.json"])["name"]))
    assert seen == [("1", "a"), ("2", "b"), ("1", "a")]
    assert fetched == ["1", "2"]


def edit_together(bundle, name):
    """Replace a file, and make the manifest agree with it."""
    (bundle / name).write_bytes(b"of somebody else")
    write_manifest(bundle)


def swap_for_a_link(bundle, name):
    outside = bundle.parent.parent / "outside"
    outside.write_bytes((bundle / name).read_bytes())
    (bundle / name).unlink()
    (bundle / name).symlink_to(outside)


def flip(bundle, name):
    content = bytearray((bundle / name).read_bytes())
    content[len(content) // 3] ^= 4
    (bundle / name).write_bytes(content)


@pytest.mark.parametrize(
    "tamper",
    [
        flip,
        edit_together,
        swap_for_a_link,
        lambda bundle, name: os.truncate(bundle / name, 3),
        lambda bundle, name: (bundle / name).unlink(),
        lambda bundle, name: (bundle / name).rename(bundle / "other"),
        lambda bundle, name: (bundle / "extra").write_bytes(b"x"),
        lambda bundle, name: shutil.rmtree(bundle),
        lambda bundle, name: (shutil.rmtree(bundle), bundle.symlink_to(bundle.parent.parent, target_is_directory=True)),
    ],
    ids=[
        "flipped",
        "with its manifest",
        "link",
        "truncated",
        "missing",
        "renamed",
        "extra",
        "removed",
        "folder is a link",
    ],
)
@pytest.mark.parametrize("name", ["checkpoint/model.safetensors", "bundle.json"])
def test_what_was_changed_in_the_cache_is_never_served(tracker, versions, folder, tmp_path, fetched, tamper, name):
    """Also where a bundle and its manifest were edited together: the registry holds the manifest's hash."""
    cache = tmp_path / "cache"
    source = ChampionSource(tracker=tracker, cache=cache)
    right = loaded(source)
    entry = cache / "bundles" / versions[0].digest
    os.utime(entry, (0, 0))
    tamper(entry, name)
    assert loaded(source) == loaded(ChampionSource(tracker=tracker, cache=cache)) == right
    assert fetched == ["1", "1"]
    assert entry.stat().st_mtime > 0, "make_room would take it for the one that was of no use for longest"
    os.utime(entry, (0, 0))
    source.current()
    assert entry.stat().st_mtime > 0


def test_what_is_changed_in_the_cache_while_it_is_loaded_changes_nothing(tracker, versions, folder, tmp_path):
    source = ChampionSource(tracker=tracker, cache=tmp_path)
    right = files_below(folder / "reliabit" / "a")
    with source.current().snapshot() as snapshot:
        for name in set(FILES) - {"manifest.json"}:
            edit_together(tmp_path / "bundles" / versions[0].digest, name)
        shutil.rmtree(tmp_path / "bundles")
        assert files_below(snapshot) == right
    assert not snapshot.exists()


def test_without_room_for_the_copy_nothing_is_fetched_again(tracker, versions, tmp_path, fetched, monkeypatch):
    source = ChampionSource(tracker=tracker, cache=tmp_path)
    loaded(source)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10, 10, 0))
    with pytest.raises(ReliabitError, match=r"the verified copy of the bundle takes \d+ bytes.*set TMPDIR"):
        loaded(source)
    assert fetched == ["1"]


def test_a_champion_that_is_damaged_in_the_store_is_not_given_out(tracker, stored, tmp_path):
    version, bundle = stored
    promote(tracker, version.name, "1", decide=accepting)
    (bundle / "README.md").write_text("edited")
    source = ChampionSource(tracker=tracker, cache=tmp_path, name=version.name)
    for _ in range(2):
        with pytest.raises(ReliabitError, match="README.md of .*differs|README.md differs"):
            loaded(source)
    assert not list(entries(tmp_path))


def test_two_versions_of_one_bundle_share_an_entry_and_keep_their_numbers(tracker, versions, tmp_path, fetched):
    bundle = write_bundle(tmp_path / "twice", content="twice")
    for _ in range(2):
        register_bundle(tracker, bundle, run_id=versions[0].run_id, name="twice", code=CODE)
    source = ChampionSource(tracker=tracker, cache=tmp_path, name="twice")
    promote(tracker, "twice", "1", decide=accepting)
    first = loaded(source)
    promote(tracker, "twice", "2", decide=accepting)
    assert (first[0], loaded(source)) == ("1", ("2", first[1]))
    assert fetched == ["1"]
    assert find_version(tracker, "twice", "2").aliases == ("candidate", "champion")
