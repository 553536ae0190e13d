"""What the service takes, and how long it waits."""

from dataclasses import dataclass, fields

from reliabit.errors import ReliabitError

MIB = 2**20


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Bounds on what a request may be and on what is held at once.

    Attributes:
        image_bytes: Largest encoded image, in bytes.
        image_pixels: Of an image, read from its header before it is decoded; what a phone's camera takes fits.
        question_characters: Of a question.
        batch_questions: Questions in one request to `/batch`.
        batch_bytes: Of the body of such a request.
        batch_pixels: Of the distinct images of such a request, and of those that are encoded together.
        queue_pixels: Of the images of all requests that are decoded, wait or are answered; further ones are turned
            away with 503.
        queue: Questions that may wait; further ones are turned away with 503.
        queue_bytes: Of the bodies of all requests that are read, wait or are answered; further ones are turned away
            with 503.
        connections: Open at once; further ones are turned away with 503.
        client_connections: Open at once by one client, which is an address; see `client_of`.
        decoders: Images that are decoded at once.
        gather_seconds: How long a question waits for others to share its batch when the model is idle.
        header_seconds: How long a client may take from connecting, or from its last answer, to the end of a header.
        surplus_seconds: The same for a connection beyond the limits.
        read_seconds: How long a client may take to send a body.
        progress_seconds: How long it may take for the next KiB of it.
        write_seconds: How long it may take to read an answer.
        linger_seconds: How long what it sends beyond its answer is read and thrown away.
        answer_seconds: How long an answer may take, waiting included, before 504; also how long a shutdown waits.
        poll_seconds: How often the source is asked for a new champion.

    Raises:
        ReliabitError: One of them is not above zero, or an image or a request that is within its own limit could
            never be taken.
    """

    image_bytes: int = 10 * MIB
    image_pixels: int = 12_500_000
    question_characters: int = 2_000
    batch_questions: int = 32
    batch_bytes: int = 32 * MIB
    batch_pixels: int = 32_000_000
    queue_pixels: int = 128_000_000
    queue: int = 256
    queue_bytes: int = 256 * MIB
    connections: int = 256
    client_connections: int = 64
    decoders: int = 2
    gather_seconds: float = 0.005
    header_seconds: float = 10.0
    surplus_seconds: float = 1.0
    read_seconds: float = 30.0
    progress_seconds: float = 5.0
    write_seconds: float = 10.0
    linger_seconds: float = 2.0
    answer_seconds: float = 30.0
    poll_seconds: float = 10.0

    def __post_init__(self) -> None:
        for one in fields(self):
            if not getattr(self, one.name) > 0:
                raise ReliabitError(f"the limit {one.name} is {getattr(self, one.name)}; set it above zero")
        for smaller, larger in (
            ("image_pixels", "batch_pixels"),
            ("batch_pixels", "queue_pixels"),
            ("batch_bytes", "queue_bytes"),
            ("answer_bytes", "queue_bytes"),
        ):
            within, all_of_them = getattr(self, smaller), getattr(self, larger)
            if within > all_of_them:
                raise ReliabitError(f"the limit {larger} is {all_of_them}, below {smaller} ({within}); raise it")

    @property
    def answer_bytes(self) -> int:
        """Largest body of a request to `/answer`: an image in base64 with line ends, and a question all of escapes."""
        return self.image_bytes * 3 // 2 + self.question_characters * 12 + 4096
