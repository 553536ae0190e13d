"""Small files in the official and hub layouts of VQAv2, AdVQA and VizWiz, as real as 16 pixels allow."""

import json
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from reliabit.data.sources import DataConfig

VQAV2 = {
    "questions": "v2_OpenEnded_mscoco_val2014_questions.json",
    "annotations": "v2_mscoco_val2014_annotations.json",
    "images": "val2014/COCO_val2014_{image_id:012d}.jpg",
}
ADVQA = {
    "questions": "v1_OpenEnded_mscoco_val2017_advqa_questions.json",
    "annotations": "v1_mscoco_val2017_advqa_annotations.json",
    "images": "val2014/COCO_val2014_{image_id:012d}.jpg",
}
VIZWIZ = {"annotations": "Annotations/val.json", "images": "val/{image_id}"}
ALL = {"dev": 0.4, "val": 0.1, "test": 0.5}


def picture(number: int, *, side: int = 16) -> bytes:
    """A JPEG file; another one for each number."""
    pixels = np.random.default_rng(number).integers(256, size=(side, side, 3), dtype=np.uint8)
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, format="JPEG")
    return buffer.getvalue()


def vqa_entries(*, images: int, questions_per_image: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Questions, and annotations in another order, with the fields of the official files."""
    questions, annotations = [], []
    for image in range(1, images + 1):
        for number in range(questions_per_image):
            key = {"image_id": image, "question_id": 1000 * image + number}
            questions.append({**key, "question": f"what is {number} in picture {image}?"})
            answers = [
                {"answer": "yes" if annotator < 7 else "no", "answer_confidence": "maybe", "answer_id": annotator + 1}
                for annotator in range(10)
            ]
            kinds = {"question_type": "what is", "answer_type": "yes/no", "multiple_choice_answer": "yes"}
            annotations.append({**key, **kinds, "answers": answers})
    return questions, annotations[::-1]


def write_vqa(
    root: Path,
    *,
    files: dict[str, str] = VQAV2,
    images: int = 10,
    questions_per_image: int = 3,
    entries: tuple[list[Any], list[Any]] | None = None,
) -> Path:
    """A set in the layout of VQAv2 and AdVQA."""
    questions, annotations = entries or vqa_entries(images=images, questions_per_image=questions_per_image)
    head = {"info": {"version": "2.0", "year": 2017}, "task_type": "Open-Ended", "data_type": "mscoco"}
    (root / files["images"]).parent.mkdir(parents=True)
    (root / files["questions"]).write_text(json.dumps({**head, "questions": questions}))
    (root / files["annotations"]).write_text(json.dumps({**head, "annotations": annotations}))
    for image in range(1, images + 1):
        (root / files["images"].format(image_id=image)).write_bytes(picture(image))
    return root


def vizwiz_entries(*, images: int) -> list[dict[str, Any]]:
    """Entries as in VizWiz: no ids at all, and every third question cannot be answered."""
    return [
        {
            "image": f"VizWiz_val_{number:08d}.jpg",
            "question": "what IS this?",
            "answers": [
                {"answer": "unanswerable" if number % 3 == 0 else "can", "answer_confidence": "yes"} for _ in range(10)
            ],
            "answer_type": "unanswerable" if number % 3 == 0 else "other",
            "answerable": int(number % 3 != 0),
        }
        for number in range(images)
    ]


def write_vizwiz(root: Path, *, images: int = 6, entries: list[Any] | None = None) -> Path:
    """A set in the layout of VizWiz."""
    (root / "Annotations").mkdir(parents=True)
    (root / "val").mkdir()
    (root / "Annotations" / "val.json").write_text(json.dumps(entries or vizwiz_entries(images=images)))
    for number in range(images):
        (root / "val" / f"VizWiz_val_{number:08d}.jpg").write_bytes(picture(number))
    return root


IMAGE = pa.struct({"bytes": pa.binary(), "path": pa.string()})


def write_hub_vqa(root: Path, *, images: int = 10, questions_per_image: int = 3, files: int = 2) -> Path:
    """The same set as `write_vqa` in the layout of lmms-lab/VQAv2, the image repeated in every row."""
    questions, annotations = vqa_entries(images=images, questions_per_image=questions_per_image)
    said = {entry["question_id"]: entry for entry in annotations}
    rows = [
        {**said[q["question_id"]], **q, "image": {"bytes": picture(q["image_id"]), "path": f"{q['image_id']}.jpg"}}
        for q in questions
    ]
    schema = pa.schema(
        {
            "question_type": pa.string(),
            "multiple_choice_answer": pa.string(),
            "answers": pa.list_(
                pa.struct({"answer": pa.string(), "answer_confidence": pa.string(), "answer_id": pa.int64()})
            ),
            "image_id": pa.int64(),
            "answer_type": pa.string(),
            "question_id": pa.int64(),
            "question": pa.string(),
            "image": IMAGE,
        }
    )
    return write_parts(root, rows, schema, files=files, part="validation")


def write_hub_vizwiz(root: Path, *, images: int = 6) -> Path:
    """The same set as `write_vizwiz` in the layout of lmms-lab/VizWiz-VQA: answers are texts, and ids image names."""
    rows = [
        {
            "question_id": entry["image"],
            "image": {"bytes": picture(number), "path": entry["image"]},
            "question": entry["question"],
            "answers": [answer["answer"] for answer in entry["answers"]],
            "category": entry["answer_type"],
        }
        for number, entry in enumerate(vizwiz_entries(images=images))
    ]
    schema = pa.schema(
        {
            "question_id": pa.string(),
            "image": IMAGE,
            "question": pa.string(),
            "answers": pa.list_(pa.string()),
            "category": pa.string(),
        }
    )
    return write_parts(root, rows, schema, files=1, part="val")


def write_parts(root: Path, rows: list[dict[str, Any]], schema: pa.Schema, *, files: int, part: str) -> Path:
    """Rows as numbered Parquet files."""
    (root / "data").mkdir(parents=True)
    size = -(-len(rows) // files)
    for number in range(files):
        table = pa.Table.from_pylist(rows[number * size : (number + 1) * size], schema=schema)
        pq.write_table(table, root / "data" / f"{part}-{number:05d}-of-{files:05d}.parquet", row_group_size=7)
    return root


def vqa_spec(root: Path, **changes: Any) -> DataConfig:
    """What reads the files of `write_vqa`."""
    return DataConfig(**{"name": "vqav2", "splits": ALL, "root": str(root), "files": VQAV2, **changes})


def vizwiz_spec(root: Path, **changes: Any) -> DataConfig:
    """What reads the files of `write_vizwiz`."""
    return DataConfig(**{"name": "vizwiz", "splits": {"test": 1.0}, "root": str(root), "files": VIZWIZ, **changes})


def hub_spec(root: Path, **changes: Any) -> DataConfig:
    """What reads the files of `write_hub_vqa`."""
    return vqa_spec(root, **{"layout": "hub", "files": {"parquet": "data/validation-*.parquet"}, **changes})
