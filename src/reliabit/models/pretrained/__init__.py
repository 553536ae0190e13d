"""Pretrained parts that public packages ship, read and joined to a model: `model=idefics3_smollm2`."""
