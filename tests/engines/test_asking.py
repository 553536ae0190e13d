from io import BytesIO

import numpy as np
import pytest
from datasets import Dataset
from PIL import Image

from engines.served import completion, token
from reliabit.engines.asking import Asking, _as_read_everywhere, in_image_order, probed
from reliabit.engines.engine import Completion, ServedModel
from reliabit.errors import ReliabitError
from reliabit.inference.chunks import Chunk

ASKING = Asking(template="{question} shortly.", max_tokens=4, alternatives=5, warm_up=7.0)


def png(mode="RGB", size=(8, 6), **options):
    file = BytesIO()
    Image.new(mode, size, 0).save(file, format="PNG", **options)
    return file.getvalue()


class Answering:
    """Says how many characters the question has, the surer the larger the file of the image is."""

    def __init__(self):
        self.asked = []

    def served_model(self):
        return ServedModel("m")

    def complete_all(self, bodies, *, timeout=None):
        for body in bodies:
            image, text = body["messages"][0]["content"]
            self.asked.append((text["text"], timeout))
            share = 0.5 + len(image["image_url"]["url"]) / 4096
            said = str(len(text["text"]))
            yield Completion(completion(said, [token(said, share), token("</s>", 1.0)]), seconds=0.1)


def table(*rows):
    columns = ("question_id", "image_id", "question", "image", "split", "shift")
    return Dataset.from_dict({name: [row[place] for row in rows] for place, name in enumerate(columns)})


def test_questions_are_put_image_by_image_and_answers_come_in_the_table_s_order():
    engine, image = Answering(), png(size=(9, 6))
    other = png(size=(31, 17))
    questions = table(
        ("a", "cat", "how many?", image, "test", "none"),
        ("b", "dog", "what?", other, "test", "none"),
        ("c", "cat", "which color is it?", image, "test", "none"),
    )
    asked = probed(engine, ASKING, [("what?", other)])
    engine.asked.clear()
    found = asked.answer_chunk(Chunk(questions=questions, digest=""), None)
    assert [text for text, _ in engine.asked][:3] == [
        "how many? shortly.",
        "which color is it? shortly.",
        "what? shortly.",
    ]
    # The probe's question comes once more, with the patience of a first one.
    assert engine.asked[3:] == [("what? shortly.", 7.0)]
    assert [(row["question_id"], row["answer"]) for row in found.answers] == [("a", "18"), ("b", "14"), ("c", "27")]
    with pytest.raises(ReliabitError, match="an engine tells no hidden states"):
        asked.answer_chunk(Chunk(questions=questions, digest=""), object())


def test_a_question_that_is_guessed_is_no_sign_of_blindness():
    class Guessing(Answering):
        def complete_all(self, bodies, *, timeout=None):
            for body in bodies:
                _, text = body["messages"][0]["content"]
                if text["text"].startswith("guess"):
                    yield Completion(completion("yes", [token("yes", 1.0), token("</s>", 1.0)]), seconds=0.1)
                else:
                    yield from super().complete_all([body])

    guessed, seen = ("guess?", png()), ("what?", png(size=(31, 17)))
    assert probed(Guessing(), ASKING, [guessed, seen]).probed == seen
    with pytest.raises(ReliabitError, match="does not see images"):
        probed(Guessing(), ASKING, [guessed, guessed])


def test_plain_files_are_sent_as_they_are():
    plain = png()
    assert _as_read_everywhere(plain) == (plain, "image/png")


@pytest.mark.parametrize("mode", ["L", "RGBA", "I;16"])
def test_what_engines_read_otherwise_is_sent_as_plain_pixels(mode):
    sent, media_type = _as_read_everywhere(png(mode))
    assert media_type == "image/png"
    assert Image.open(BytesIO(sent)).mode == "RGB"


def test_a_picture_that_was_held_sideways_is_turned():
    picture, file = Image.new("RGB", (40, 20)), BytesIO()
    orientation = picture.getexif()
    orientation[0x0112] = 6
    picture.save(file, format="JPEG", exif=orientation)
    sent, _ = _as_read_everywhere(file.getvalue())
    assert np.asarray(Image.open(BytesIO(sent))).shape == (40, 20, 3)


def test_the_order_of_images_is_that_of_their_first_questions():
    assert in_image_order(["b", "a", "b", "a"]) == [0, 2, 1, 3]
