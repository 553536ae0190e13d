"""Tables that are answered as a chunk of questions is, but for the order of its questions."""

from reliabit.inference.answering import answer_batches
from reliabit.inference.prediction_loop import batches_of


def answer_table(table, checkpoint, *, batch_size, **options):
    return answer_batches(batches_of(table, checkpoint.encoder, batch_size=batch_size), checkpoint, **options)
