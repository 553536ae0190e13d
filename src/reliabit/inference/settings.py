"""How a model is asked: the device and its batches, the states that are kept, sampling, and the second prompt."""

import re
from dataclasses import dataclass

from reliabit.errors import ReliabitError
from reliabit.settings import MISSING, check_template, choice, positive


@dataclass
class TrainerConfig:
    """`trainer`: where and how it runs.

    Attributes:
        accelerator: Lightning's name of the device.
        batch_size: Questions a batch.
        threads: CPU threads; where it is null, one for each core that is free (`reliabit.threads`).
        devices: Answer on so many devices at once, a process and a whole model each.
        device_map: How one model is spread over the devices, and over the host's memory and the disk where they are too
            small; null for models that fit on one.
        device_memory: For `device_map`, what each device may take, such as `70GiB`; what is free where it is null.
        host_memory: For `device_map`, what the host's memory may take, likewise; the rest stays on disk.
        progress_bar: Show progress and time left.
    """

    accelerator: str = choice("cpu", "gpu", "auto")
    batch_size: int = positive()
    threads: int | None = positive()
    devices: int = positive(default=1)
    device_map: str | None = choice(None, "auto", "balanced", "balanced_low_0", "sequential", default=None)
    device_memory: str | None = None
    host_memory: str | None = None
    progress_bar: bool = MISSING

    def check(self, key: str) -> None:
        """Check how a model is spread over devices.

        Raises:
            ReliabitError: It is to be whole and spread, what a device may take is no size, or nothing is spread.
        """
        if self.device_map is not None and self.devices > 1:
            raise ReliabitError(
                f"{key}.device_map={self.device_map} spreads one model over all devices, and "
                f"{key}.devices={self.devices} wants a whole one on each; set one of them alone"
            )
        for name in ("device_memory", "host_memory"):
            size = getattr(self, name)
            if size is not None and self.device_map is None:
                raise ReliabitError(f"{key}.{name}={size} and {key}.device_map is null; set {key}.device_map=auto")
            if size is not None and not re.fullmatch(r"\d+[KMG]i?B", size):
                raise ReliabitError(
                    f"{key}.{name}={size} is no size; write a whole number and a unit, as 70GiB or 1500MB"
                )


@dataclass
class FeatureSettings:
    """`confidence.features`: which states of the answering pass are kept, and how.

    Attributes:
        layer: A decoder layer, negative ones from the last; null for the state after the final norm.
        dtype: `float16` or `float32`, for states beyond 65 504.
    """

    layer: int | None = None
    dtype: str = choice("float16", "float32", default="float16")


@dataclass
class SamplingSettings:
    """`confidence.sampling`: how answers are drawn.

    Attributes:
        samples: Answers a question.
        temperature: Of the distribution that they are drawn from.
        seed: Seeds the draws; they also depend on the batch size.
    """

    samples: int = positive()
    temperature: float = positive()
    seed: int = MISSING


@dataclass
class SelfEvaluationPrompt:
    """`confidence.p_true`: the second prompt of P(True).

    Attributes:
        template: Shows `{question}` and `{answer}`, and asks.
        right: The word that says the answer is right.
        wrong: The word that says it is wrong.
    """

    template: str = MISSING
    right: str = MISSING
    wrong: str = MISSING

    def check(self, key: str) -> None:
        """Check that the template shows the question and its answer."""
        check_template(self.template, key=f"{key}.template", fields=("question", "answer"))
