"""How often somebody may do something: token buckets, one for each channel, address or connection."""

from typing import Final

MAX_ADDRESSES: Final = 4096  # addresses remembered; those that have waited longest go first


class RateLimit:
    """Holds what may be taken at once, refilled as time goes by."""

    def __init__(self, rate: float, burst: float | None = None) -> None:
        """``rate`` a second; ``burst`` at once, by default a second's."""
        self._rate = rate
        self._burst = self._available = float(rate if burst is None else burst)
        self._updated_at: float | None = None

    def take(self, now: float, amount: float = 1) -> bool:
        """Take ``amount`` at ``now`` seconds; False if that is too much. What is refused costs nothing."""
        since = 0.0 if self._updated_at is None else now - self._updated_at
        self._available, self._updated_at = min(self._burst, self._available + since * self._rate), now
        if self._available < amount:
            return False
        self._available -= amount
        return True


class AddressRateLimits:
    """A bucket for each address."""

    def __init__(self, rate: float, burst: float) -> None:
        """``rate`` a second, ``burst`` at once."""
        self._rate, self._burst = rate, burst
        self._limits: dict[str, RateLimit] = {}

    def take(self, address: str, now: float) -> bool:
        """One more of ``address`` at ``now`` seconds; False if that is too many."""
        limit = self._limits.pop(address, None) or RateLimit(self._rate, self._burst)
        self._limits[address] = limit  # the newest at the end
        if len(self._limits) > MAX_ADDRESSES:
            del self._limits[next(iter(self._limits))]
        return limit.take(now)
