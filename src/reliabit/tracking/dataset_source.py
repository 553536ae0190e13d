"""`dvc://<path>`: a data set named by its path in the project and the hash that DVC or its manifest recorded.

Here is what DVC's files and our manifests say of a path, whether it is still so, and how to get it back. MLflow loads
`DvcDatasetSource` as a plug-in and finds it by its methods, not by a base class; this module does not import MLflow,
because being loaded as its plug-in would be a circle.
"""

import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any

from reliabit.data.prepared_table import MANIFEST, read_manifest
from reliabit.errors import ReliabitError
from reliabit.files import leads_out, sha256, staged_folder
from reliabit.paths import project_root

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput

SCHEME = "dvc://"
DIRECTORY = ".dir"
DIGEST_CHARACTERS = 36
"""MLflow keeps no longer digests: an MD5 fits, a SHA-256 is cut."""


@dataclass(frozen=True)
class DvcDatasetSource:
    """Where a data set is from, by the protocol of `mlflow.data.dataset_source.DatasetSource`.

    Attributes:
        path: Its path, relative to the project.
        algorithm: `md5`, as DVC records it, or `sha256` of a prepared table's manifest.
        value: The hash; DVC's ends in `.dir` for a folder.
        recorded_in: The file that says so, relative to the project.
    """

    path: str
    algorithm: str
    value: str
    recorded_in: str

    @property
    def uri(self) -> str:
        """The address, such as `dvc://data/versioned/scenes`."""
        return f"{SCHEME}{self.path}"

    @property
    def digest(self) -> str:
        """The hash at the length that MLflow keeps."""
        return self.value.removesuffix(DIRECTORY)[:DIGEST_CHARACTERS]

    def load(self, destination: Path | None = None, *, root: Path | None = None) -> Path:
        """Find the data set as it was: in the project where it is unchanged, otherwise in DVC's cache or remote.

        Args:
            destination: The folder to copy to from the cache; a new temporary one by default.
            root: The project's folder; this one by default.

        Returns:
            The file or folder.

        Raises:
            ReliabitError: It is neither in the project, nor in the cache, nor in the remote.
        """
        project = root or project_root()
        local = project / self.path
        if self.is_at(local):
            return local
        if self.algorithm != "md5":
            raise ReliabitError(f"{local} is missing or was changed, and is not kept by DVC; run task=prepare again")
        target = (destination or Path(mkdtemp(prefix="dvc-dataset-"))) / Path(self.path).name
        return _fetch_from_dvc(self.value, root=project, target=target)

    def is_at(self, place: Path) -> bool:
        """Whether a file or folder is there with this content."""
        if self.algorithm == "sha256":
            return _is_table(place, manifest=self.value)
        if place.is_dir():
            return self.value.endswith(DIRECTORY) and _md5_of_folder(place) == self.value
        return place.is_file() and _md5(place) == self.value

    def to_dict(self) -> dict[str, str]:
        """The source as plain data."""
        return {"uri": self.uri, **asdict(self)}

    def to_json(self) -> str:
        """The source as JSON."""
        return json.dumps(self.to_dict())

    @classmethod
    def from_dict(cls, source_dict: dict[str, Any]) -> "DvcDatasetSource":
        """The source back from plain data."""
        return cls(**{key: value for key, value in source_dict.items() if key != "uri"})

    @classmethod
    def from_json(cls, source_json: str) -> "DvcDatasetSource":
        """The source back from JSON."""
        return cls.from_dict(json.loads(source_json))

    @staticmethod
    def _get_source_type() -> str:
        return "dvc"

    @staticmethod
    def _can_resolve(raw_source: Any) -> bool:
        # MLflow asks about sources that are resolved already, too.
        return isinstance(raw_source, DvcDatasetSource) or (
            isinstance(raw_source, str) and raw_source.startswith(SCHEME)
        )

    @classmethod
    def _resolve(cls, raw_source: Any) -> "DvcDatasetSource":
        return raw_source if isinstance(raw_source, DvcDatasetSource) else resolve(raw_source)


def resolve(uri: str, *, root: Path | None = None) -> DvcDatasetSource:
    """Find what a `dvc://` address stands for at this moment.

    Args:
        uri: `dvc://` and a path, relative to the project.
        root: The project's folder; this one by default.

    Raises:
        ReliabitError: It is no such address, or neither DVC nor a manifest records the path.
    """
    path = Path(uri.removeprefix(SCHEME))
    if not uri.startswith(SCHEME) or leads_out(str(path)):
        raise ReliabitError(f"{uri} is no address of a data set; write dvc:// and a path relative to the project")
    return find_record(path, root=root or project_root())


def dataset_input(source: DvcDatasetSource, *, name: str, context: str) -> "DatasetInput":
    """What a run logs as its input.

    Args:
        source: Where the data set is from.
        name: Its name.
        context: What it is used for, such as `evaluation` or `calibration`.
    """
    from mlflow.data.meta_dataset import MetaDataset
    from mlflow.entities import DatasetInput, InputTag
    from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT

    dataset = MetaDataset(source=source, name=name, digest=source.digest)
    return DatasetInput(dataset=dataset._to_mlflow_entity(), tags=[InputTag(MLFLOW_DATASET_CONTEXT, context)])


def find_record(path: Path, *, root: Path) -> DvcDatasetSource:
    """What is recorded of a path: by `dvc.lock`, by a `.dvc` file beside it, or by the manifest of a prepared table.

    Args:
        path: Relative to the project.
        root: The project's folder.

    Raises:
        ReliabitError: Nothing is, or a file that should say it cannot be read.
    """
    record = next(_records(path, root), None)
    if record is not None:
        return record
    raise ReliabitError(
        f"{path} is recorded neither in dvc.lock, nor in {path.name}.dvc, nor in a {MANIFEST}; run dvc add or dvc repro"
    )


def up_to_date(root: Path) -> bool:
    """Whether no stage of a project's pipeline would run: what it wrote is what the present code and options write."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo(str(root)) as repo:
            return not repo.status()
    except DvcException:
        return False


def _fetch_from_dvc(value: str, *, root: Path, target: Path) -> Path:
    """Copy a content out of DVC's cache, pulled from the default remote first where the cache lacks it."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo(str(root)) as repo:
            _bring(repo, [value])
            if value.endswith(DIRECTORY):
                # DVC takes a folder whose listing is cached for cached.
                _bring(repo, [entry["md5"] for entry in _listing(repo.cache.local, value)])
            return _copy_out(repo.cache.local, value, target)
    except (DvcException, OSError) as error:
        reason = " ".join(str(error).split())
        raise ReliabitError(f"DVC cannot restore {value} into {target}: {reason}") from error


def _records(path: Path, root: Path) -> Iterator[DvcDatasetSource]:
    lock, beside, manifest = root / "dvc.lock", root / f"{path}.dvc", root / path / MANIFEST
    if lock.is_file():
        stages = _read_yaml(lock).get("stages", {}).values()
        # An output is what DVC can bring back; a dependency is only known by its hash.
        for kind in ("outs", "deps"):
            for stage in stages:
                hashes = _hashes(stage.get(kind, []), path.as_posix())
                yield from (DvcDatasetSource(path.as_posix(), "md5", value, "dvc.lock") for value in hashes)
    if beside.is_file():
        hashes = _hashes(_read_yaml(beside).get("outs", []), path.name)
        yield from (DvcDatasetSource(path.as_posix(), "md5", value, f"{path.as_posix()}.dvc") for value in hashes)
    if manifest.is_file():
        yield DvcDatasetSource(path.as_posix(), "sha256", sha256(manifest), (path / MANIFEST).as_posix())


def _hashes(entries: list[dict[str, Any]], path: str) -> Iterator[str]:
    """What DVC's entries say of a path; entries of DVC 2 lack the name of the hash, and theirs is another one."""
    return (entry["md5"] for entry in entries if entry.get("path") == path and entry.get("hash") == "md5")


def _read_yaml(path: Path) -> dict[str, Any]:
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise ReliabitError(f"{path} cannot be read as YAML; restore it from git") from error
    if not isinstance(content, dict):
        raise ReliabitError(f"{path} is not a file of DVC's; restore it from git")
    return content


def _is_table(folder: Path, *, manifest: str) -> bool:
    path = folder / MANIFEST
    if not path.is_file() or sha256(path) != manifest:
        return False
    files = {folder / f"{split}.parquet": record.sha256 for split, record in read_manifest(folder).items()}
    return all(file.is_file() and sha256(file) == digest for file, digest in files.items())


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _md5_of_folder(folder: Path) -> str:
    """The hash of a folder as DVC defines it: of the list of its files, by path, each with its own."""
    files = ((path.relative_to(folder).as_posix(), path) for path in folder.rglob("*") if path.is_file())
    listing = json.dumps([{"md5": _md5(path), "relpath": relative} for relative, path in sorted(files)], sort_keys=True)
    return hashlib.md5(listing.encode(), usedforsecurity=False).hexdigest() + DIRECTORY


def _bring(repo: Any, values: Sequence[str]) -> None:
    """Make sure that objects are in the cache, from the default remote where they are not."""
    from dvc_data.hashfile.hash_info import HashInfo

    missing = _missing(repo.cache.local, values)
    if missing:
        repo.cloud.pull([HashInfo("md5", value) for value in missing])
        lost = _missing(repo.cache.local, missing)
        if lost:
            raise ReliabitError(f"{lost[0]} is neither in DVC's cache nor in its remote; push it where it was made")


def _missing(cache: Any, values: Sequence[str]) -> list[str]:
    return [value for value in values if not Path(cache.oid_to_path(value)).is_file()]


def _listing(cache: Any, value: str) -> list[dict[str, str]]:
    entries: list[dict[str, str]] = json.loads(Path(cache.oid_to_path(value)).read_text(encoding="utf-8"))
    return entries


def _copy_out(cache: Any, value: str, target: Path) -> Path:
    if not value.endswith(DIRECTORY):
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(cache.oid_to_path(value), target)
        return target
    with staged_folder(target) as staging:
        for entry in _listing(cache, value):
            file = staging / entry["relpath"]
            if leads_out(entry["relpath"]):
                raise ReliabitError(f"{value} names the file {entry['relpath']!r} outside its folder; do not trust it")
            file.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(cache.oid_to_path(entry["md5"]), file)
    return target
