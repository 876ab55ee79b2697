"""How often somebody may do something: token buckets, one for each channel, address or connection."""

from typing import Final

MAX_ADDRESSES: Final = 4096  # addresses remembered; those that have waited longest go first


class Bucket:
    """Holds what may be taken at once, refilled as time goes by."""

    def __init__(self, rate: float, most: float | None = None) -> None:
        """``rate`` a second; ``most`` at once, by default a second's."""
        self._rate = rate
        self._most = self._left = float(rate if most is None else most)
        self._at: float | None = None

    def take(self, now: float, amount: float = 1) -> bool:
        """Take ``amount`` at ``now`` seconds; False if that is too much. What is refused costs nothing."""
        since = 0.0 if self._at is None else now - self._at
        self._left, self._at = min(self._most, self._left + since * self._rate), now
        if self._left < amount:
            return False
        self._left -= amount
        return True


class Addresses:
    """A bucket for each address."""

    def __init__(self, rate: float, most: float) -> None:
        """``rate`` a second, ``most`` at once."""
        self._rate, self._most = rate, most
        self._buckets: dict[str, Bucket] = {}

    def take(self, address: str, now: float) -> bool:
        """One more of ``address`` at ``now`` seconds; False if that is too many."""
        bucket = self._buckets.pop(address, None) or Bucket(self._rate, self._most)
        self._buckets[address] = bucket  # the newest at the end
        if len(self._buckets) > MAX_ADDRESSES:
            del self._buckets[next(iter(self._buckets))]
        return bucket.take(now)
