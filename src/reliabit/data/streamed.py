"""Sources too large to hold: their questions are indexed on disk, and each image is stored once, beside the table."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import ClassVar

from reliabit.data._hub_parquet import HubParquet
from reliabit.data.bad_samples import judged
from reliabit.data.further_columns import write_further
from reliabit.data.image_decoding import decode_image
from reliabit.data.question_files import FoundImage, QuestionReader
from reliabit.data.question_index import QuestionIndex, open_index
from reliabit.data.sources import Source, WrittenSplit, WrittenTable, file_states
from reliabit.data.splits import ordered_splits, read_ids, split_by_image
from reliabit.errors import ReliabitError
from reliabit.progress import counted

INDEX = ".questions.sqlite"

ROWS = 2048
"""Rows written at once."""


class StreamedSource(Source):
    """A source that is read in passes over its files.

    Attributes:
        official: What reads the layout `official`; `hub` is read by `HubParquet`.
        wording: How the set puts the text of a question.
    """

    takes_shares = True
    official: ClassVar[type[QuestionReader]]
    wording: ClassVar[Callable[[str], str]] = str

    def reader(self) -> QuestionReader:
        """What reads the files in their layout.

        Raises:
            ReliabitError: The source has no folder.
        """
        data = self.data
        if data.root is None:
            raise ReliabitError(
                f"data.root is null; name the folder of {data.name} (docs/full_size.md says what it holds)"
            )
        root = Path(data.root)
        if data.layout == "hub":
            return HubParquet(source=data.name, root=root, listed=data.files, wording=type(self).wording)
        return self.official(source=data.name, root=root, listed=data.files)

    def check_files(self) -> None:
        """Check the files of the layout, and those of ids."""
        self.reader().check()
        for split, file in self.data.id_files().items():
            if not Path(file).is_file():
                raise ReliabitError(
                    f"data.split_ids.{split}={file} does not exist; correct the path, or set it to null"
                )

    def write(self, folder: Path, *, bad_samples: Path) -> WrittenTable:
        """Write every split; samples that cannot be used end it, or are left out."""
        data, reader = self.data, self.reader()
        # Before they are read: what changes meanwhile is noticed the next time.
        states = file_states([*reader.files(), *map(Path, data.id_files().values())])
        with (
            judged(bad_samples, source=data.called(), on_bad_sample=data.on_bad_sample) as bad,
            open_index(folder / INDEX, bad=bad) as index,
        ):
            reader.fill(index)
            index.drop_unanswered()
            splits = self._listed_splits(index) if data.id_files() else self._drawn_splits(index)
            index.place(splits)
            keep_images(reader, index, splits={name: len(images) for name, images in splits.items()}, folder=folder)
            written = {name: self._write_rows(index, name, folder=folder) for name in splits}
            write_further(index.further(), folder)
            told = self._told()
        states |= file_states([*reader.read_images(), *sorted(bad.files)])
        return WrittenTable(splits=written, skipped=bad.by_problem(), files=states, told=told)

    def _told(self) -> list[str]:
        """What a preview says of how the source was read."""
        return []

    def _write_rows(self, index: QuestionIndex, split: str, *, folder: Path) -> WrittenSplit:
        path, name = folder / f"{split}.parquet", self.data.name
        written = write_rows(index, split, source=name, template=self.data.template, path=path)
        if not written.questions:
            raise ReliabitError(
                f"no question of data.splits.{split} of {name} can be used; repair the files or give it more images"
            )
        return written

    def _drawn_splits(self, index: QuestionIndex) -> dict[str, list[str]]:
        sizes = {name: size for name, size in self.data.splits.items() if size}
        if not sizes:
            raise ReliabitError(f"data.splits of {self.data.name} is empty; give at least one split an image")
        return split_by_image(self._image_ids(index), sizes=sizes, seed=self.data.seed)

    def _listed_splits(self, index: QuestionIndex) -> dict[str, list[str]]:
        listed = {split: read_ids(Path(file)) for split, file in self.data.id_files().items()}
        if self.data.split_ids_of == "image":
            known = set(self._image_ids(index))
            images = {split: _known(ids, known, index, split=split) for split, ids in listed.items()}
        else:
            images = {split: _images_of(ids, index, split=split) for split, ids in listed.items()}
            index.keep_only(question_id for ids in listed.values() for question_id in ids)
        return ordered_splits(images, seed=self.data.seed)

    def _image_ids(self, index: QuestionIndex) -> list[str]:
        found = list(index.image_ids())
        if not found:
            raise ReliabitError(
                f"the data source {self.data.name} has no questions that can be used in {self.data.root}"
            )
        return found


def _known(ids: Iterable[str], known: set[str], index: QuestionIndex, *, split: str) -> list[str]:
    kept = []
    for image_id in ids:
        if image_id in known:
            kept.append(image_id)
        else:
            index.bad.add("the listed image has no question", question_id="", image_id=image_id, detail=split)
    return kept


def _images_of(ids: Iterable[str], index: QuestionIndex, *, split: str) -> list[str]:
    images = []
    for question_id, image_id in index.images_of(ids):
        if image_id is None:
            index.bad.add("the listed question is not there", question_id=question_id, detail=split)
        else:
            images.append(image_id)
    return images


def keep_images(reader: QuestionReader, index: QuestionIndex, *, splits: Mapping[str, int], folder: Path) -> None:
    """Store every placed image once, in the file of its split; those that do not decode are left out.

    `splits` are the numbers of images, which tell how far it is.
    """
    from reliabit.data._image_store import ImageStore, images_file

    with ExitStack() as stack:
        stores = {split: stack.enter_context(ImageStore.create(folder / images_file(split))) for split in splits}
        found = reader.images(index)
        for image in counted(found, "keeping images", total=sum(splits.values()), unit="images"):
            split = index.split_of(image.image_id)
            if split is None:
                continue
            checked = _decodable(image)
            if checked.encoded is None:
                index.drop_image(image.image_id, problem=checked.problem, detail=checked.detail)
                if image.file is not None:
                    index.bad.files.add(image.file)
            else:
                index.keep(image.image_id, stores[split].add(checked.encoded))
    for image_id in index.unkept_images():
        index.drop_image(image_id, problem="its image is not in the files", detail="")


def write_rows(index: QuestionIndex, split: str, *, source: str, template: str, path: Path) -> WrittenSplit:
    """Write the questions of a split as Parquet, each put into the set's template, some at a time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from reliabit.data._image_store import referenced_schema

    questions, images, last = 0, 0, ""
    schema = referenced_schema()
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        rows = index.rows(split)
        while batch := list(islice(rows, ROWS)):
            for row in batch:
                row.update(question=template.format(question=row["question"]), source=source)
                images, last = images + (row["image_id"] != last), row["image_id"]
            questions += len(batch)
            writer.write_table(pa.Table.from_pylist(batch, schema=schema))
    return WrittenSplit(questions=questions, images=images)


def _decodable(image: FoundImage) -> FoundImage:
    if image.encoded is None or image.checked:
        return image
    try:
        decode_image(image.encoded, item=f"image {image.image_id!r}")
    except ReliabitError as error:
        return FoundImage(image.image_id, None, problem="its image does not decode", detail=str(error))
    return image
