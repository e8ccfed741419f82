"""What the server counts, for Prometheus."""

from __future__ import annotations

from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_ITEMS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


@dataclass(frozen=True)
class BatchMetrics:
    """The numbers of one model's queue."""

    waiting_tokens: Gauge
    refused: Counter
    batch_items: Histogram
    batch_seconds: Histogram
    computed_tokens: Counter

    def observe(self, *, items: int, tokens: int, seconds: float) -> None:
        """Counts a batch."""
        self.batch_items.observe(items)
        self.batch_seconds.observe(seconds)
        self.computed_tokens.inc(tokens)


class Metrics:
    """All numbers of one server; each server has its own, also where a process has several."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self._waiting_tokens = Gauge("localhf_queue_tokens", "About how many tokens wait", ["model"], registry=registry)
        self._refused = Counter(
            "localhf_refused", "Requests that were refused, because too much waited", ["model"], registry=registry
        )
        self._items = Histogram(
            "localhf_batch_items", "Inputs computed together", ["model"], buckets=_ITEMS, registry=registry
        )
        self._seconds = Histogram(
            "localhf_batch_seconds", "Time to compute a batch", ["model"], buckets=_SECONDS, registry=registry
        )
        self._tokens = Counter(
            "localhf_computed_tokens", "About how many tokens were computed", ["model"], registry=registry
        )
        self.request_seconds = Histogram(
            "localhf_request_seconds", "Time from a request's head to the end of its reply",
            ["path", "status"], buckets=_SECONDS, registry=registry,
        )  # fmt: skip

    def of_model(self, role: str) -> BatchMetrics:
        """The numbers of one model's queue."""
        return BatchMetrics(
            self._waiting_tokens.labels(role),
            self._refused.labels(role),
            self._items.labels(role),
            self._seconds.labels(role),
            self._tokens.labels(role),
        )

    def text(self) -> bytes:
        """All numbers, as Prometheus reads them."""
        return generate_latest(self._registry)
