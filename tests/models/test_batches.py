import torch

from reliabit.metrics import one_per_image
from reliabit.models.batches import calibration_batches
from reliabit.quant import ResidentDecoder
from reliabit.quant.mbq.calibration_set import check_batches


def batches_of(checkpoint, tables, batch_size):
    table = tables["easy_vqa"]["train"]
    rows = list(table.select(one_per_image(table["image_id"], seed=0)))
    return rows, calibration_batches(rows, encoder=checkpoint.encoder, batch_size=batch_size)


def test_answer_positions_predict_the_answer(checkpoint, tables):
    rows, batches = batches_of(checkpoint, tables, 4)
    check_batches(batches)
    assert [len(batch.targets) for batch in batches] == [4, 2]
    adapter, tokenizer = checkpoint.encoder.adapter, checkpoint.encoder.processor.tokenizer
    for row, sequence in zip(rows, (pair for batch in batches for pair in zip_rows(batch)), strict=True):
        ids, targets, answer, vision = sequence
        expected = f"{adapter.answer_prefix}{row['answers'][0]}{adapter.end_of_answer}"
        assert tokenizer.decode(targets[answer]) == expected
        assert torch.equal(ids[1:][answer[:-1]], targets[answer]), "a position predicts the token after it"
        assert int(vision.sum()) == {"qwen2_vl": 16, "idefics3": 25}[adapter.model_type]
        assert not bool((vision & answer).any())


def zip_rows(batch):
    return zip(batch.inputs["input_ids"], batch.targets, batch.answer, batch.vision, strict=True)


def test_layers_are_given_the_models_own_positions(checkpoint, tables):
    """What is captured before the first layer, sent through all layers, gives the model's own logits."""
    _, (batch, *_) = batches_of(checkpoint, tables, 3)
    decoder = ResidentDecoder(checkpoint.model, checkpoint.encoder.adapter.decoder_layers)
    with torch.no_grad():
        found = decoder.inputs(batch)
        hidden = found.hidden
        for layer in decoder.layers:
            hidden = layer(hidden, **found.keywords)
        with decoder.logits() as head:
            walked = head(hidden)
        whole = checkpoint.model(**batch.inputs).logits
    torch.testing.assert_close(walked[batch.attended], whole[batch.attended])
    if checkpoint.encoder.adapter.model_type == "qwen2_vl":
        positions = checkpoint.model.model.get_rope_index(
            batch.inputs["input_ids"],
            mm_token_type_ids=batch.inputs["mm_token_type_ids"],
            image_grid_thw=batch.inputs["image_grid_thw"],
            attention_mask=batch.inputs["attention_mask"],
        )[0]
        assert not torch.equal(positions[1], positions[2]), "image tokens have rows and columns"
