"""Splits by image, of which no two share one; image keys and draws that are the same in every process."""

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np

from reliabit.data.question_files import plain_id
from reliabit.errors import ReliabitError

_IMAGES_FROM = {"advqa": "vqav2"}
"""Sets that ask about another set's images, under the same ids: both are COCO's."""


def split_by_image(image_ids: Iterable[str], *, sizes: Mapping[str, float], seed: int) -> dict[str, list[str]]:
    """Draw disjoint splits of the given sizes from a set of images.

    Args:
        image_ids: The images; repetitions and order do not matter.
        sizes: How many images each split gets, or what share of them; see `image_counts`.
        seed: The seed of the draw.

    Returns:
        The image ids of each split, in the random order in which they were drawn.

    Raises:
        ReliabitError: The splits ask for more images than there are.

    >>> split_by_image(["a", "b", "c"], sizes={"dev": 2, "test": 1}, seed=0)
    {'dev': ['c', 'a'], 'test': ['b']}
    """
    unique = sorted(set(image_ids))
    counts = image_counts(sizes, images=len(unique))
    wanted = sum(counts.values())
    if wanted > len(unique):
        raise ReliabitError(f"the splits {dict(sizes)} ask for {wanted} images and there are {len(unique)}")
    order = np.random.default_rng(seed).permutation(len(unique))
    splits, start = {}, 0
    for name, size in counts.items():
        splits[name] = [unique[i] for i in order[start : start + size]]
        start += size
    return splits


def image_counts(sizes: Mapping[str, float], *, images: int) -> dict[str, int]:
    """How many images each split gets.

    Args:
        sizes: Of each split its images, an integer, or its share of all of them, a float.
        images: How many there are.

    Returns:
        Integers as they are. Shares are cut at the rounded sums of the shares up to each, as S. Whitehead et al.,
        "Reliable Visual Question Answering", ECCV 2022, cut VQAv2: those that add up to 1 leave no image over.

    >>> image_counts({"dev": 0.4, "val": 0.1, "test": 0.5}, images=40_504)
    {'dev': 16202, 'val': 4050, 'test': 20252}
    """
    counts, share, start = {}, 0.0, 0
    for name, size in sizes.items():
        if isinstance(size, int):
            counts[name] = size
            continue
        share += size
        end = round(share * images)
        counts[name], start = end - start, end
    return counts


def read_ids(file: Path) -> list[str]:
    """The ids of a published split: a JSON list, or a text file with one a line.

    Raises:
        ReliabitError: The file is missing, or neither: a JSON object or ids between commas, for instance.
    """
    try:
        # With or without the mark that Windows puts at the beginning.
        text = file.read_text(encoding="utf-8-sig").strip()
        found = json.loads(text) if text.startswith(("[", "{")) else _lines(text)
    except (OSError, ValueError, RecursionError) as error:
        raise ReliabitError(f"the id list {file} cannot be read: {' '.join(str(error).split())}") from error
    try:
        ids = [str(plain_id(name, what="id")) for name in found] if isinstance(found, list) else []
    except ValueError:
        ids = []
    if not ids:
        raise ReliabitError(f"the id list {file} is no list of ids; give a JSON list, or a text file with one a line")
    return ids


def _lines(text: str) -> list[str]:
    if "," in text:
        raise ValueError("it has commas; give a JSON list, or a text file with one id a line")
    return text.split()


def ordered_splits(listed: Mapping[str, Sequence[str]], *, seed: int) -> dict[str, list[str]]:
    """Splits whose images are given, each in the random order that `split_by_image` would leave it in.

    Raises:
        ReliabitError: Two splits share an image.

    >>> ordered_splits({"dev": ["a", "b", "c", "a"], "test": ["d"]}, seed=0)
    {'dev': ['c', 'a', 'b'], 'test': ['d']}
    """
    owner: dict[str, str] = {}
    for split, images in listed.items():
        for image in images:
            if owner.setdefault(image, split) != split:
                raise ReliabitError(
                    f"the image {image} is in data.split_ids.{owner[image]} and in data.split_ids.{split}; "
                    "splits must share none"
                )
    return {
        split: split_by_image(images, sizes={split: len(set(images))}, seed=seed)[split]
        for split, images in listed.items()
    }


def check_disjoint(roles: Mapping[str, Sequence[str]]) -> None:
    """Check that no image serves two purposes.

    Args:
        roles: The image keys of each role, such as dev, val, cal and test; a key may repeat within a role.

    Raises:
        ReliabitError: Two roles share an image.

    >>> check_disjoint({"dev": ["scenes/1", "scenes/1"], "test": ["scenes/2"]})
    """
    images = {role: set(keys) for role, keys in roles.items()}
    for first, second in combinations(images, 2):
        shared = images[first] & images[second]
        if shared:
            count = count_images(shared)
            raise ReliabitError(
                f"{first} and {second} share {count} (such as {min(shared)}); split the questions by image"
            )


def count_images(images: Collection[str]) -> str:
    """How many images there are, as words.

    >>> count_images(["a"]), count_images(["a", "b"])
    ('1 image', '2 images')
    """
    return "1 image" if len(images) == 1 else f"{len(images)} images"


def images_of(source: str) -> str:
    """The set whose images a set asks about.

    >>> images_of("advqa"), images_of("vizwiz")
    ('vqav2', 'vizwiz')
    """
    return _IMAGES_FROM.get(source, source)


def image_key(source: str, image_id: str) -> str:
    """The name of an image among those of all sets, by the set that asks about it and its id there.

    >>> image_key("vqav2", "42") == image_key("advqa", "42"), image_key("vizwiz", "42")
    (True, 'vizwiz/42')
    """
    return f"{images_of(source)}/{image_id}"


def stable_hash(*key: str | int) -> int:
    """Hash a key to 128 bits, the same in every process (Python's own `hash` of a text is not).

    >>> stable_hash("a", 1) == stable_hash("a", 1), stable_hash("a", 1) == stable_hash("a", "1")
    (True, False)
    """
    return int.from_bytes(hashlib.sha256(json.dumps(key).encode()).digest()[:16], "big")


def stable_generator(*key: str | int) -> np.random.Generator:
    """A random generator whose stream the key decides.

    >>> stable_generator("noise", 0).random() == stable_generator("noise", 0).random()
    True
    """
    return np.random.default_rng(stable_hash(*key))
