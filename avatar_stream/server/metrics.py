"""Metrics for Prometheus. Names and labels carry no personal data: no addresses, no session ids."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Final, Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from avatar_stream.pipeline.live_loop import Listener

STAGE_BUCKETS: Final = (0.001, 0.002, 0.004, 0.008, 0.012, 0.016, 0.025, 0.04, 0.08, 0.16, 0.5)  # seconds
DELAY_BUCKETS: Final = (0.02, 0.04, 0.06, 0.08, 0.12, 0.16, 0.25, 0.4, 0.6, 1, 2, 5)  # seconds

SUMMED_METRICS: Final = (  # over all processes of the server
    "process_cpu_seconds",
    "process_resident_memory_bytes",
    "process_virtual_memory_bytes",
    "process_open_fds",
)


class SessionMetrics(Listener, Protocol):
    """The metrics that a session reports. See :class:`Metrics`."""

    def sent(self, count: int) -> None:
        """Pictures were sent."""

    def dropped(self, reason: str, count: int) -> None:
        """Frames were not shown."""

    def stage(self, name: str, seconds: float) -> None:
        """A stage took ``seconds`` for a frame."""

    def packets_dropped(self, reason: str, count: int) -> None:
        """Datagrams that came to a peer's ports were not used."""

    def ended(self, role: str, reason: str) -> None:
        """A peer is gone."""


class AllProcesses(Collector):
    """Resource use of the server and its session processes together, under the usual names of process metrics."""

    def __init__(self) -> None:
        self.other_pids: Callable[[], Iterable[int]] = lambda: ()
        """The process ids of the session processes."""
        self._own = ProcessCollector(registry=None)

    def collect(self) -> Iterator[Metric]:
        """See ``prometheus_client``."""
        more: dict[str, float] = dict.fromkeys(SUMMED_METRICS, 0.0)
        for number in self.other_pids():
            for family in ProcessCollector(pid=partial(int, number), registry=None).collect():
                if family.name in more:
                    more[family.name] += sum(sample.value for sample in family.samples)
        for family in self._own.collect():
            if family.name in more:
                family.samples = [one._replace(value=one.value + more[family.name]) for one in family.samples]
            yield family


class Metrics:
    """The metrics of one server. Safe to call from any thread."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.processes = AllProcesses()
        registry.register(self.processes)
        PlatformCollector(registry=registry)
        self._in = Counter("avatar_frames_in", "Camera frames decoded", registry=registry)
        self._drawn = Counter("avatar_frames_drawn", "Pictures finished", registry=registry)
        self._sent = Counter(
            "avatar_frames_sent", "Avatar pictures sent, counted once for all receivers", registry=registry
        )
        self._dropped = Counter("avatar_frames_dropped", "Frames not shown, by reason", ["reason"], registry=registry)
        self._packets = Counter(
            "avatar_packets_dropped",
            "Datagrams to a peer's ports that were not used, by reason",
            ["reason"],
            registry=registry,
        )
        self._failed = Counter(
            "avatar_frame_failures", "Exceptions in the processing of a frame, by stage", ["stage"], registry=registry
        )
        self._stage = Histogram(
            "avatar_stage_seconds", "Processing time of a stage", ["stage"], buckets=STAGE_BUCKETS, registry=registry
        )
        self._delay = Histogram(
            "avatar_motion_to_photon_seconds",
            "From a decoded camera frame to the finished picture that shows its motion (the server's part)",
            buckets=DELAY_BUCKETS,
            registry=registry,
        )
        self._age = Histogram(
            "avatar_queue_age_seconds", "Age of an item when taken from a queue", ["queue"], buckets=DELAY_BUCKETS,
            registry=registry,
        )  # fmt: skip
        self._distance = Histogram(
            "avatar_identity_distance",
            "Distance between the faces of a picture and its portrait, measured by the identity guard",
            buckets=(0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.42, 0.5, 0.7, 1),
            registry=registry,
        )
        self._ended = Counter(
            "avatar_peers_ended", "Peers that have ended, by role and reason", ["role", "reason"], registry=registry
        )
        self._refused = Counter(
            "avatar_requests_refused", "Requests refused, by status", ["status"], registry=registry
        )
        self._sessions = Gauge("avatar_sessions", "Sessions by state", ["state"], registry=registry)
        self._qualities = Gauge(
            "avatar_sessions_at_quality", "Live sessions by quality level", ["quality"], registry=registry
        )
        self._capacity = Gauge("avatar_capacity", "Limit of sessions at the same time", registry=registry)
        self._lag = Gauge(
            "avatar_event_loop_lag_seconds", "Latest measured delay of the event loop", registry=registry
        )
        self._tasks = Gauge("avatar_tasks", "asyncio tasks", registry=registry)
        self._engine = Gauge("avatar_engine", "1 for the engine in use", ["engine"], registry=registry)

    def text(self) -> bytes:
        """The metrics in Prometheus' text exposition format."""
        return generate_latest(self.registry)

    def frame_received(self, dropped: int) -> None:
        """A camera frame was decoded, and replaced ``dropped`` older ones that nothing had used yet."""
        self._in.inc()
        if dropped:
            self._dropped.labels("newer frame").inc(dropped)

    def picture_drawn(self, delay: float) -> None:
        """A picture was finished, ``delay`` seconds after its camera frame."""
        self._drawn.inc()
        self._delay.observe(delay)

    def sent(self, count: int) -> None:
        """Pictures were sent."""
        self._sent.inc(count)

    def dropped(self, reason: str, count: int) -> None:
        """Frames were not shown."""
        self._dropped.labels(reason).inc(count)

    def packets_dropped(self, reason: str, count: int) -> None:
        """Datagrams that came to a peer's ports were not used."""
        self._packets.labels(reason).inc(count)

    def stage(self, name: str, seconds: float) -> None:
        """A stage took ``seconds`` for a frame."""
        self._stage.labels(name).observe(seconds)

    def queue_waited(self, queue: str, seconds: float) -> None:
        """An item taken from ``queue`` had waited there for ``seconds``."""
        self._age.labels(queue).observe(seconds)

    def failed(self, stage: str) -> None:
        """A frame failed."""
        self._failed.labels(stage).inc()

    def likeness_measured(self, distance: float) -> None:
        """A picture was compared with its portrait; ``distance`` is between the two faces."""
        self._distance.observe(distance)

    def ended(self, role: str, reason: str) -> None:
        """A peer has ended."""
        self._ended.labels(role, reason).inc()

    def refused(self, status: int) -> None:
        """A request was refused."""
        self._refused.labels(str(status)).inc()

    def register_gauges(
        self,
        states: dict[str, Callable[[], float]],
        qualities: dict[str, Callable[[], float]],
        capacity: Callable[[], float],
    ) -> None:
        """Set the functions that are called for these gauges at each scrape."""
        for state, count in states.items():
            self._sessions.labels(state).set_function(count)
        for quality, count in qualities.items():
            self._qualities.labels(quality).set_function(count)
        self._capacity.set_function(capacity)

    def loop_checked(self, late: float, tasks: int) -> None:
        """The event loop woke ``late`` seconds late and has ``tasks`` tasks."""
        self._lag.set(late)
        self._tasks.set(tasks)

    def set_engine(self, engine: str) -> None:
        """Report the engine in use."""
        self._engine.clear()
        self._engine.labels(engine).set(1)
