import numpy as np

from avatar_stream.face.filters import OneEuro


def test_slow_signals_are_smoothed_and_fast_ones_followed() -> None:
    random = np.random.default_rng(0)
    still = random.normal(0, 0.003, (200, 3)).astype(np.float32)
    one_euro = OneEuro(2.5, 14.0)
    out = np.stack([one_euro(v, k / 25) for k, v in enumerate(still)])
    assert out[20:].std() < 0.75 * still[20:].std()
    jump = OneEuro(2.5, 14.0)
    for k in range(10):
        jump(np.zeros(3, np.float32), k / 25)
    blink = np.full(3, 0.1, np.float32)
    first, second = jump(blink, 10 / 25), jump(blink, 11 / 25)
    assert first.min() > 0.06
    assert second.min() > 0.085


def test_the_first_value_and_the_first_after_a_reset_pass_unchanged() -> None:
    one_euro = OneEuro(1.0, 1.0)
    assert one_euro(np.array([5], np.float32), 0)[0] == 5
    one_euro(np.array([6], np.float32), 0.1)
    one_euro.reset()
    assert one_euro(np.array([-3], np.float32), 0.2)[0] == -3


def test_equal_timestamps_do_no_harm() -> None:
    one_euro = OneEuro(1.0, 1.0)
    values = [one_euro(np.array([k], np.float32), 1.0) for k in range(5)]
    assert np.isfinite(values).all()
