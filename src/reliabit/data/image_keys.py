"""What tells one image from another: the set that it comes from, and its id there."""

FROM = {"advqa": "vqav2"}
"""Sets that ask about another set's images, under the same ids: both are COCO's."""


def images_of(source: str) -> str:
    """The set whose images a set asks about.

    >>> images_of("advqa"), images_of("vizwiz")
    ('vqav2', 'vizwiz')
    """
    return FROM.get(source, source)


def image_key(source: str, image_id: str) -> str:
    """The name of an image among those of all sets.

    Args:
        source: The set that asks about it.
        image_id: Its id there.

    >>> image_key("vqav2", "42") == image_key("advqa", "42"), image_key("vizwiz", "42")
    (True, 'vizwiz/42')
    """
    return f"{images_of(source)}/{image_id}"
