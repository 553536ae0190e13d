"""`dvc://<path>`: a data set named by its path in the project and the hash that DVC or its manifest recorded.

MLflow loads `DvcDatasetSource` as a plug-in and finds it by its methods, not by a base class; this module does not
import MLflow, because being loaded as its plug-in would be a circle.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any

from reliabit.errors import ReliabitError
from reliabit.paths import project_root
from reliabit.tracking.dvc_files import fetch_from_dvc, find_record, matches

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput

SCHEME = "dvc://"
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
        return self.value.removesuffix(".dir")[:DIGEST_CHARACTERS]

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
        if matches(local, algorithm=self.algorithm, value=self.value):
            return local
        if self.algorithm != "md5":
            raise ReliabitError(f"{local} is missing or was changed, and is not kept by DVC; run task=prepare again")
        target = (destination or Path(mkdtemp(prefix="dvc-dataset-"))) / Path(self.path).name
        return fetch_from_dvc(self.value, root=project, target=target)

    def to_dict(self) -> dict[str, str]:
        """The source as plain data."""
        return {"uri": self.uri, **asdict(self)}

    def to_json(self) -> str:
        """The source as JSON."""
        import json

        return json.dumps(self.to_dict())

    @classmethod
    def from_dict(cls, source_dict: dict[str, Any]) -> "DvcDatasetSource":
        """The source back from plain data."""
        return cls(**{key: value for key, value in source_dict.items() if key != "uri"})

    @classmethod
    def from_json(cls, source_json: str) -> "DvcDatasetSource":
        """The source back from JSON."""
        import json

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
    if not uri.startswith(SCHEME) or path.is_absolute() or ".." in path.parts or not path.name:
        raise ReliabitError(f"{uri} is no address of a data set; write dvc:// and a path relative to the project")
    record = find_record(path, root=root or project_root())
    return DvcDatasetSource(
        path=path.as_posix(), algorithm=record.algorithm, value=record.value, recorded_in=record.recorded_in
    )


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
