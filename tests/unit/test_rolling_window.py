from collections.abc import Sequence

import numpy as np
import pytest

from avatar_stream.face import mesh
from avatar_stream.face.mesh import Floats
from avatar_stream.identity.library import sample_pictures
from avatar_stream.portrait.portrait import Portrait, prepare, read_picture
from avatar_stream.portrait.renderer import PortraitRenderer
from avatar_stream.portrait.rolling_window import RollingWindow
from avatar_stream.runtime.network import STATE_NAMES, Arrays, HostStream, Job
from avatar_stream.runtime.networks import Networks


class CountingTicker:
    """Replaces the tick network; its state is the first pixels of the frames in flight."""

    name = "counting"
    batches: tuple[int, ...] = (1,)

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.runs = 0

    def open(self, identity: Arrays) -> HostStream:
        return HostStream(identity, dict.fromkeys((*STATE_NAMES, *identity), ((1, self.slots), np.float32)))

    def run(self, jobs: Sequence[Job]) -> list[Floats]:
        self.runs += 1
        (job,) = jobs
        queue = np.append(job.stream.state_in["latents"][0, 1:], float(job.frame["shown"][0, 0, 0]))
        job.stream.state_out["latents"][:] = queue
        job.stream.swap()
        return [np.full((192, 192, 3), queue[0], np.float32)]


class FixedReference:
    name = "fixed"

    def run(self, inputs: Arrays) -> Arrays:
        return {"modulation": np.zeros((1, 4, 8)), "z_id": np.ones((1, 512), np.float32)}


def fake_networks(slots: int) -> Networks:
    return Networks.of(FixedReference(), {slots: CountingTicker(slots)})


def shown(value: int) -> np.ndarray:  # type: ignore[type-arg]
    return np.full((192, 192, 3), value, np.uint8)


@pytest.mark.parametrize("slots", [1, 2, 4])
def test_frames_come_in_order_after_slots_minus_one_ticks(slots: int) -> None:
    networks = fake_networks(slots)
    window = RollingWindow(networks, networks.refer(shown(0)))
    raster = np.zeros((7, 96, 96), np.uint8)
    out = [window.push(shown(value), raster)[0, 0, 0] for value in range(10, 20)]
    assert out == [10] * slots + list(range(11, 20))[: 10 - slots]
    ticker = networks.tickers[slots]
    assert isinstance(ticker, CountingTicker)
    assert ticker.runs == 10 + slots - 1  # the first push fills the window, then one run per frame
    window.reset()
    assert window.empty
    assert window.push(shown(77), raster)[0, 0, 0] == 77


@pytest.fixture(scope="module")
def portrait() -> Portrait:
    return prepare(read_picture(next(iter(sample_pictures().values()))), 256, square=True)


@pytest.mark.parametrize("slots", [1, 2, 4])
def test_every_frame_is_finished_once_and_with_its_own_tag(portrait: Portrait, slots: int) -> None:
    renderer = PortraitRenderer(portrait, fake_networks(slots))
    tags = [renderer(portrait.landmarks, tag).tag for tag in range(8)]
    tags += [frame.tag for frame in renderer.flush()]
    assert tags[renderer.delay :] == list(range(8))


def test_the_network_runs_only_when_the_face_has_changed(portrait: Portrait) -> None:
    networks = fake_networks(1)
    renderer, ticker = PortraitRenderer(portrait, networks), networks.tickers[1]
    assert isinstance(ticker, CountingTicker)
    opened = portrait.landmarks.copy()
    opened[list(mesh.INNER_LIP_LOWER), 1] += 10
    for target, runs in ((portrait.landmarks, 1), (portrait.landmarks, 1), (opened, 2), (opened, 2)):
        renderer(target)
        assert ticker.runs == runs
    renderer.reset_window()
    renderer(opened)
    assert ticker.runs == 3
    # Gradual changes count as changes, too.
    for _ in range(40):
        opened[list(mesh.INNER_LIP_LOWER), 1] += 0.25
        renderer(opened)
    assert 3 < ticker.runs < 43


def test_a_window_of_several_slots_always_advances(portrait: Portrait) -> None:
    networks = fake_networks(2)
    renderer, ticker = PortraitRenderer(portrait, networks), networks.tickers[2]
    assert isinstance(ticker, CountingTicker)
    for _ in range(3):
        renderer(portrait.landmarks)
    assert ticker.runs == 4  # the first frame fills the window


def test_at_rest_the_networks_leave_the_portrait_unchanged(portrait: Portrait) -> None:
    renderer = PortraitRenderer(portrait, Networks())
    for _ in range(3):
        picture = renderer(portrait.landmarks).picture
    error = np.abs(picture.astype(int) - portrait.picture).mean()
    assert error < 4, error


def test_warp_alone_reproduces_the_portrait_at_rest(portrait: Portrait) -> None:
    picture = PortraitRenderer(portrait, None)(portrait.landmarks).picture
    assert np.abs(picture.astype(int) - portrait.picture).mean() < 2.5


def test_an_opened_mouth_changes_only_the_mouth(portrait: Portrait) -> None:
    opened = portrait.landmarks.copy()
    lower = [*mesh.INNER_LIP_LOWER[1:-1], *mesh.OUTER_LIP_LOWER[1:-1], 152, 148, 377]
    opened[lower, 1] += 14
    networks = Networks()
    still, moved = PortraitRenderer(portrait, networks), PortraitRenderer(portrait, networks)
    for _ in range(2):
        a, b = still(portrait.landmarks).picture.astype(int), moved(opened).picture.astype(int)
    x, y = (int(v) for v in opened[[13, 14], :2].mean(0))
    assert np.abs(a - b)[y - 3 : y + 3, x - 6 : x + 6].mean() > 15
    assert np.abs(a - b)[:20, :20].max() <= 2
