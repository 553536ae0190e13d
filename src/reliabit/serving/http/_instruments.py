"""What the service tells Prometheus; nothing of any question or image is in it."""

from collections.abc import Iterator, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from reliabit.serving.bundle.served_model import ServedAnswer
from reliabit.serving.hosting import LoadedVersion, ModelHost

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
TENTHS = tuple(step / 10 for step in range(1, 11))
SIZES = (1, 2, 4, 8, 16, 32, 64, 128)


class Instruments:
    """Counters and histograms of one application, in a registry of their own."""

    def __init__(self, host: ModelHost) -> None:
        """Set all to zero; the state of `host` is shown beside them."""
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "reliabit_requests", "Requests by endpoint and status", ["path", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "reliabit_request_seconds",
            "Time from the request to its answer",
            ["path"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self.answers = Counter(
            "reliabit_answers", "Answers given and withheld", ["outcome", "risk"], registry=self.registry
        )
        self.confidence = Histogram(
            "reliabit_confidence",
            "Confidence of answers, withheld ones included",
            buckets=TENTHS,
            registry=self.registry,
        )
        self.batches = Histogram(
            "reliabit_batch_questions", "Questions that were answered together", buckets=SIZES, registry=self.registry
        )
        self.turned_away = Counter(
            "reliabit_connections_turned_away",
            "Connections that were refused or closed by the service: for all connections being taken (limit) or all "
            "that one client may have (client), for waiting longest when they were (waiting), for no header in time "
            "(header), for what is no HTTP (malformed), for an answer that was not read (unread)",
            ["reason"],
            registry=self.registry,
        )
        for reason in ("limit", "client", "waiting", "header", "malformed", "unread"):
            self.turned_away.labels(reason=reason)
        self.connections = Gauge("reliabit_connections", "Connections that are open", registry=self.registry)
        self.registry.register(HostCollector(host))

    def observe_batch(self, served: Sequence[ServedAnswer]) -> None:
        """Count the answers of a batch."""
        self.batches.observe(len(served))
        for one in served:
            outcome = "abstained" if one.abstained else "given"
            self.answers.labels(outcome=outcome, risk=f"{one.risk:g}").inc()
            self.confidence.observe(one.confidence)

    def count_turned_away(self, reason: str) -> None:
        """Count a connection that was refused or closed."""
        self.turned_away.labels(reason=reason).inc()

    def text(self) -> bytes:
        """Everything, in Prometheus's text format."""
        return bytes(generate_latest(self.registry))


class HostCollector(Collector):
    """Reads the state of a host when it is asked for: what serves, what was refused, and whether answers drift."""

    def __init__(self, host: ModelHost) -> None:
        self._host = host

    def collect(self) -> Iterator[Metric]:
        """The gauges as they stand."""
        loaded, refused = self._host.loaded, self._host.refused
        yield GaugeMetricFamily("reliabit_ready", "Whether a model is loaded", value=loaded is not None)
        yield GaugeMetricFamily(
            "reliabit_refused_loads", "Attempts to load a model that failed, since the start", value=self._host.refusals
        )
        waiting = GaugeMetricFamily("reliabit_refused", "1 while the source's version is refused", labels=["version"])
        if refused is not None:
            waiting.add_metric([refused.version or ""], 1)
        yield waiting
        if loaded is not None:
            yield from _of_version(loaded)


def _of_version(loaded: LoadedVersion) -> Iterator[Metric]:
    description, report = loaded.model.description, loaded.watch.report
    info = GaugeMetricFamily(
        "reliabit_model_info", "The version that serves", labels=["version", "name", "run_id", "confidence"]
    )
    info.add_metric([loaded.version, description.name, description.run_id, description.confidence], 1)
    yield info
    yield GaugeMetricFamily("reliabit_drift_alarm", "1 once answers left the calibration sample", value=report.alarm)
    yield GaugeMetricFamily("reliabit_drift_answers", "Answers that the drift watch has seen", value=report.answers)
    log_e = GaugeMetricFamily("reliabit_drift_log_e", "Evidence of drift: the log of the e-value", labels=["of"])
    needed = GaugeMetricFamily("reliabit_drift_log_e_needed", "The log e-value that alarms", labels=["of"])
    for name, test in report.tests.items():
        log_e.add_metric([name], test.log_e)
        needed.add_metric([name], test.needed)
    yield from (log_e, needed)
    rate = GaugeMetricFamily("reliabit_abstention_rate", "Share below the default risk's threshold", labels=["of"])
    rate.add_metric(["calibration"], report.calibration_abstention_rate)
    if report.abstention_rate is not None:
        rate.add_metric(["served"], report.abstention_rate)
    yield rate
