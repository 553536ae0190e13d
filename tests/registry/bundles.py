"""What the tests of the registry share: small bundles that MLflow can load, and a store with versions of them."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reliabit.registry.registering import register_bundle
from reliabit.registry.versions import Version
from reliabit.serving.bundle.manifest import write_manifest
from reliabit.tracking.tracker import Tracker

CODE = Path(__file__).parent / "tiny_model.py"


def write_bundle(folder: Path, *, content: str) -> Path:
    (folder / "checkpoint" / "nested").mkdir(parents=True)
    (folder / "bundle.json").write_text(json.dumps({"format": 1, "name": content}))
    (folder / "checkpoint" / "model.safetensors").write_bytes(content.encode() * 5000)
    (folder / "checkpoint" / "nested" / "tokenizer.json").write_text(content)
    (folder / "README.md").write_text(f"# The model {content}\n")
    write_manifest(folder)
    return folder


def register(tracker: Tracker, folder: Path, *, name: str, content: str) -> Version:
    """A version of a bundle of its own, measured by a run of its own."""
    with tracker.run(content, tags={"kind": "cell", "fingerprint": f"fp-{content}"}) as run:
        run.log_metrics({"accuracy/mean": 0.5, "selective/augrc": 0.1})
    bundle = write_bundle(folder / name / content, content=content)
    tags = {"configuration": content, "fingerprint": f"fp-{content}"}
    return register_bundle(tracker, bundle, run_id=run.run_id, name=name, tags=tags, code=CODE)


@dataclass(frozen=True)
class Judgement:
    """A decision as the gate makes them."""

    accepted: bool
    text: str = "smaller by 3 %"

    @property
    def verdict(self) -> str:
        return "accepted" if self.accepted else "refused"

    def to_dict(self) -> dict[str, Any]:
        reasons = [
            {"rule": "finished", "passed": True, "text": "the run is finished"},
            {"rule": "objective", "passed": self.accepted, "text": self.text},
        ]
        return {"accepted": self.accepted, "reasons": reasons}

    def markdown(self) -> str:
        return f"# Decision\n\n{self.text}\n"


def accepting(_: Version | None) -> Judgement:
    return Judgement(accepted=True)


def refusing(_: Version | None) -> Judgement:
    return Judgement(accepted=False, text="accuracy is lower by 7 points")
