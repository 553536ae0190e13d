"""`data`: the questions."""

from dataclasses import dataclass, field

from omegaconf import MISSING

from reliabit.settings import choice, positive


@dataclass
class DataConfig:
    """The questions.

    Attributes:
        name: The data source.
        splits: Images of each split; for sets read from files also floats, shares of all of them.
        seed: Seeds the splits and, for generated sets, the images.
        root: The folder of the source's files, where they are not packaged.
        layout: For sets read from files, `official` (JSON and an image folder) or `hub` (Parquet, images within).
        files: For sets read from files, which ones, relative to `root`.
        questions_per_image: For generated sets.
        template: What goes around each question of this set, `{question}`; `model.template` goes around that.
        split_ids: By split, a file of the ids that it consists of; null for drawn splits.
        split_ids_of: What they are ids of.
        on_bad_sample: Whether samples that cannot be read end the task, or are listed and left out.
        ask: The splits that are asked, and about how many of their images; all where it is null, none where it is 0.
        one_question_an_image: Splits of which one question an image is asked: a certificate takes independent ones.
        shifts: Shifts under which the split `test` is asked again; see `reliabit.data.shifts`.
        shift_images: Images of `test` (and of other data sets) that are asked under each shift; all where it is null.
    """

    name: str = choice("easy_vqa", "scenes", "vqav2", "advqa", "vizwiz")
    splits: dict[str, int | float] = MISSING
    seed: int = MISSING
    root: str | None = MISSING
    layout: str = choice("official", "hub", default="official")
    files: dict[str, str] = field(default_factory=dict)
    template: str = "{question}"
    split_ids: dict[str, str | None] = field(default_factory=dict)
    split_ids_of: str = choice("image", "question", default="image")
    on_bad_sample: str = choice("fail", "skip", default="fail")
    questions_per_image: int | None = positive()
    ask: dict[str, int | None] = MISSING
    one_question_an_image: list[str] = MISSING
    shifts: list[str] = MISSING
    shift_images: int | None = positive()
