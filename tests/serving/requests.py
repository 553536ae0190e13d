"""What clients send, and what /metrics tells them."""

import base64
import io
import threading

from PIL import Image
from prometheus_client.parser import text_string_to_metric_families


def in_base64(image):
    return base64.b64encode(image).decode()


def body(row, **more):
    return {"image": in_base64(row["image"]), "question": row["question"], **more}


def picture(width=8, height=8):
    file = io.BytesIO()
    Image.new("RGB", (width, height), "red").save(file, format="PNG")
    return file.getvalue()


def samples(client):
    """Every sample of /metrics, by name and labels."""
    families = text_string_to_metric_families(client.get("/metrics").text)
    return {(s.name, *sorted(s.labels.items())): s.value for family in families for s in family.samples}


ROW = {"image": in_base64(picture()), "question": "is it red?"}


def wait_until(condition, seconds=20):
    done = threading.Event()
    for _ in range(int(seconds / 0.05)):
        if condition():
            return
        done.wait(0.05)
    raise AssertionError("it did not happen in time")
