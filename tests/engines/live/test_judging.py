"""The page on judging a served model, command by command, against real servers of llama.cpp."""

import re
import shlex
import subprocess
import sys
from functools import reduce

import pytest
import real_servers
from PIL import Image

from functional.place import Place

pytestmark = [pytest.mark.slow, pytest.mark.seconds(900)]

FEW = "data.ask={dev: 0, val: 20, cal: 60, test: 40}"


def commands() -> list[str]:
    """The commands of the page's first block, but for the server's."""
    page = (real_servers.ROOT / "docs" / "engines.md").read_text(encoding="utf-8")
    block = re.search(r"```bash\n(.*?)```", page, flags=re.DOTALL)
    assert block
    return [line for line in block[1].splitlines() if line.startswith("python src/run.py")]


def given(command: str) -> list[str]:
    """The arguments of a command of `src/run.py`; placeholders are no redirections."""
    return shlex.split(command)[2:]


@pytest.fixture(scope="module")
def files(llamacpp, tmp_path_factory):
    """The tiny Qwen2-VL as GGUF: as it is, and in llama.cpp's own 4 bits."""
    made = {}
    for kind in ("f32", "q4_0"):
        folder = tmp_path_factory.mktemp("gguf") / kind
        command = [sys.executable, "src/run.py", "task=quantize", "task.format=gguf", "quant=none", f"task.gguf={kind}"]
        subprocess.run([*command, f"task.checkpoint={folder}"], cwd=real_servers.ROOT, check=True)
        made[kind] = (folder / "model.gguf", folder / "mmproj.gguf")
    return made


@pytest.fixture
def pets(tmp_path):
    folder = tmp_path / "pets"
    folder.mkdir()
    rows = ["image,question,answer"]
    for number in range(12):
        color = ("red", "green", "blue")[number % 3]
        Image.new("RGB", (64, 64), color).save(folder / f"{number}.png")
        rows.append(f"{number}.png,what color is it?,{color}")
    (folder / "questions.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder


def test_five_commands_lead_from_a_server_to_a_threshold(files, pets, tmp_path):
    place = Place(tmp_path)
    # Images of this size are fewer patches than llama.cpp takes at least, where nothing is said.
    small = {"image_min_tokens": 1, "image_max_tokens": 100}
    with (
        real_servers.llamacpp_server(*files["f32"], log=tmp_path / "log", name="mine", settings=small) as plain,
        real_servers.llamacpp_server(*files["q4_0"], log=tmp_path / "log4", name="mine", settings=small) as packed,
    ):
        urls = {"http://127.0.0.1:8000/v1": plain.url, "http://127.0.0.1:8001/v1": packed.url}
        judged, own, quantized, compared = commands()
        changed = {**urls, "data.root=pets": f"data.root={pets}"}
        for command, few in ((judged, [FEW]), (own, []), (quantized, [FEW])):
            arguments = [reduce(lambda text, one: text.replace(*one), changed.items(), part) for part in given(command)]
            done = place.run(*arguments, *few)
            assert done.returncode == 0, done.stderr
            assert "answer where" in done.stdout
    cells = [run for run in place.runs("cell") if run.data.tags["data"] == "easy_vqa"]
    runs = {run.data.tags["quant"]: run.info.run_id for run in cells}
    assert set(runs) == {"none", "w4a16"}
    named = compared.replace("<run of 4>", runs["w4a16"]).replace("<run of 2>", runs["none"])
    last = place.run(*given(named))
    assert last.returncode == 0, last.stderr
    assert "Differences to baseline" in last.stdout
