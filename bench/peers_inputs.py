"""What every quantizer of `bench/peers.py` is given: one decoder, and one calibration set that has images in it.

Most libraries take a causal language model and token ids, and nothing else. So the decoder of a multimodal model is
saved as a `LlamaForCausalLM` whose embeddings have one more row for each image token of the calibration set, which
holds what the connector made of that image there. Ids that name these rows give the decoder exactly what the whole
model gives it, in any library, and nobody has to learn how another one is fed images.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from reliabit.data.prepared_table import load_split, prepare
from reliabit.data.sources import DataConfig
from reliabit.data.table import first_images
from reliabit.metrics import one_per_image
from reliabit.models.batches import calibration_batches
from reliabit.models.loading import Checkpoint, load_checkpoint
from reliabit.models.settings import ModelConfig
from reliabit.quant import CalibrationBatch, ResidentDecoder

ROOT = Path(__file__).resolve().parents[1]
MODEL = ROOT / "models" / "idefics3_smollm2"
SPLITS = {"train": 3900, "dev": 280, "val": 108, "cal": 530, "test": 800}
SEQUENCES = "sequences.safetensors"


@dataclass
class Subject:
    """The unquantized model and its data.

    Attributes:
        checkpoint: The model and its encoder.
        calibration: Questions of `dev` with answers, one an image.
        judged: Questions of `val` with answers, on which divergences are measured.
        asked: Questions of `test`, which are answered.
    """

    checkpoint: Checkpoint
    calibration: list[dict[str, Any]]
    judged: list[dict[str, Any]]
    asked: Any


def load_subject(data: Path, *, calibration: int, judged: int, asked: int, layers: int) -> Subject:
    """Load the pretrained reference, or its first layers, and questions of `dev` and `val` and images of `test`."""
    checkpoint = load_checkpoint(
        ModelConfig(path=str(MODEL), family="idefics3", dtype="float32", template="{question}", max_new_tokens=8)
    )
    text = cast("Any", checkpoint.model).model.text_model
    text.layers, text.config.num_hidden_layers = text.layers[:layers], min(layers, len(text.layers))
    table = prepare(DataConfig(name="pictures", splits=SPLITS), root=data)
    dev = load_split(table, "dev")
    rows = [dev[row] for row in one_per_image(dev["image_id"], seed=0)[:calibration]]
    val = load_split(table, "val")
    return Subject(checkpoint, rows, list(val.select(range(judged))), first_images(load_split(table, "test"), asked))


@torch.no_grad()
def decoder_inputs(model: nn.Module, path: str, batches: Sequence[CalibrationBatch]) -> tuple[list[Tensor], Tensor]:
    """Sequences of ids without padding, and the rows of embeddings that those beyond the vocabulary name.

    Args:
        model: A multimodal model whose decoder is built like Llama's.
        path: Where its decoder layers are.
        batches: The calibration set.

    Returns:
        The ids of each sequence, int64 `[tokens]`, and the added rows `[image tokens, width]`.
    """
    decoder = ResidentDecoder(model, path)
    words = cast("Any", model).get_input_embeddings().num_embeddings
    sequences: list[Tensor] = []
    added: list[Tensor] = []
    for batch in batches:
        hidden = decoder.inputs(batch).hidden
        rows = zip(batch.inputs["input_ids"].clone(), hidden, batch.vision, batch.attended, strict=True)
        for ids, states, seen, kept in rows:
            first = words + sum(map(len, added))
            ids[seen] = torch.arange(first, first + int(seen.sum()))
            added.append(states[seen])
            sequences.append(ids[kept])
    return sequences, torch.cat(added)


@torch.no_grad()
def write_decoder(model: nn.Module, added: Tensor, folder: Path) -> None:
    """Save the decoder of a model as a `LlamaForCausalLM` with more rows of embeddings.

    Its head has zeros for these rows: what it says of them nobody reads.
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    whole = cast("Any", model)
    text, head = whole.model.text_model, whole.get_output_embeddings()
    settings = {**text.config.to_dict(), "tie_word_embeddings": False, "dtype": "float32"}
    settings["vocab_size"] = text.embed_tokens.num_embeddings + len(added)
    decoder = LlamaForCausalLM(LlamaConfig.from_dict(settings)).float()
    state = {f"model.{name}": tensor for name, tensor in text.state_dict().items()}
    state["model.embed_tokens.weight"] = torch.cat([text.embed_tokens.weight, added])
    state["lm_head.weight"] = torch.cat([head.weight, torch.zeros_like(added)])
    decoder.load_state_dict(state)
    decoder.save_pretrained(folder)


def write_inputs(subject: Subject, folder: Path, *, batch_size: int) -> None:
    """Write the decoder with its tokenizer, and the calibration set.

    `ids/N` are its tokens, `targets/N` those of them that an answer is made of, each where it is predicted, and `words`
    the first id that is an image token.
    """
    encoder = subject.checkpoint.encoder
    batches = calibration_batches(subject.calibration, encoder=encoder, batch_size=batch_size)
    sequences, added = decoder_inputs(subject.checkpoint.model, encoder.adapter.decoder_layers, batches)
    targets = [row[kept] for batch in batches for row, kept in zip(batch.targets, batch.attended, strict=True)]
    write_decoder(subject.checkpoint.model, added, folder)
    encoder.processor.tokenizer.save_pretrained(folder)
    words = cast("Any", subject.checkpoint.model).get_input_embeddings().num_embeddings
    tensors = {"words": torch.tensor(words), **{f"ids/{number}": ids for number, ids in enumerate(sequences)}}
    tensors |= {f"targets/{number}": one.contiguous() for number, one in enumerate(targets)}
    save_file(tensors, folder / SEQUENCES)
