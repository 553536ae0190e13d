"""Modality-balanced quantization (MBQ): a scale for each input channel, searched on calibration data, folded away.

Li et al., "MBQ: Modality-Balanced Quantization for Large Vision-Language Models" (CVPR 2025, arXiv 2412.19509). Without
the weights of the modalities it is AWQ (Lin et al., MLSys 2024). `calibration_set` and `groups`
say what is looked at, `decoder` walks a model a layer at a time, `collection` and `sensitivity` measure,
`calibration_statistics` keeps, `losses` and `output_loss` judge, `search` chooses scales, `scaling` applies them.
"""
