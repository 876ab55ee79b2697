"""Rate limits: token buckets, one per channel, address or connection."""

from typing import Final

MAX_ADDRESSES: Final = 4096  # addresses kept; the least recently used is dropped first


class RateLimit:
    """A token bucket. Not thread-safe."""

    def __init__(self, rate: float, burst: float | None = None) -> None:
        """``rate`` tokens a second; at most ``burst`` at once, by default the tokens of one second."""
        self._rate = rate
        self._burst = self._available = float(rate if burst is None else burst)
        self._updated_at: float | None = None

    def take(self, now: float, amount: float = 1) -> bool:
        """Take ``amount`` tokens at ``now`` seconds. False if there are fewer; then none are taken."""
        elapsed = 0.0 if self._updated_at is None else now - self._updated_at
        self._available, self._updated_at = min(self._burst, self._available + elapsed * self._rate), now
        if self._available < amount:
            return False
        self._available -= amount
        return True


class AddressRateLimits:
    """A rate limit for each address."""

    def __init__(self, rate: float, burst: float) -> None:
        """``rate`` tokens a second and at most ``burst`` at once, per address."""
        self._rate, self._burst = rate, burst
        self._limits: dict[str, RateLimit] = {}

    def take(self, address: str, now: float) -> bool:
        """Take a token for ``address`` at ``now`` seconds. False if it has none left."""
        limit = self._limits.pop(address, None) or RateLimit(self._rate, self._burst)
        self._limits[address] = limit  # moves it to the end, the most recently used
        if len(self._limits) > MAX_ADDRESSES:
            del self._limits[next(iter(self._limits))]
        return limit.take(now)
