"""Train and measure the network that estimates mouth shapes from sound: ``python -m engines.voice``.

Trains on synthetic speech, writes ``avatar_stream/voice/visemes.npz`` and prints how well it estimates the shapes:
for voices of the training, for other voices, for other languages, and for another kind of synthesizer (klatt voices).
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from avatar_stream.voice import visemes
from avatar_stream.voice.mel import MEL_BANDS, SAMPLE_RATE, MelBands
from avatar_stream.voice.visemes import FRAMES_AFTER, FRAMES_BEFORE, MOUTH_SHAPES, contexts
from engines.data.speech import OTHER_LANGUAGES, SENTENCES, Espeak, SyntheticSpeech

Floats = npt.NDArray[np.float32]

VOICES: Final = (
    *(
        "m1",
        "m2",
        "m3",
        "m4",
        "m5",
        "m6",
        "m7",
        "f1",
        "f2",
        "f3",
        "f4",
        "max",
        "linda",
        "rob",
        "steph",
        "Annie",
        "Gene",
    ),
    *("Lee", "Michael", "aunty", "boris", "david", "grandma", "iven", "john", "norbert", "pablo", "shelby", "victor"),
)
OTHER_VOICES: Final = ("m8", "f5", "adam", "belinda", "ed")
KLATT_VOICES: Final = ("klatt", "klatt2", "klatt3", "klatt4")
HIDDEN_UNITS: Final = 96
AUGMENTATION_ROUNDS: Final = 3  # over all voices and sentences, each with new random rooms


def change_voice(spoken: SyntheticSpeech, random: np.random.Generator) -> SyntheticSpeech:
    """Vary the voice as by a longer or shorter vocal tract: play it slower or faster."""
    by = float(random.uniform(0.84, 1.2))
    sound = cv2.resize(spoken.sound[None], (round(len(spoken.sound) / by), 1), interpolation=cv2.INTER_LINEAR)[0]
    shapes = cv2.resize(
        spoken.shapes, (len(MOUTH_SHAPES), round(len(spoken.shapes) / by)), interpolation=cv2.INTER_LINEAR
    )
    return SyntheticSpeech(sound, shapes)


def add_room(spoken: SyntheticSpeech, random: np.random.Generator) -> Floats:
    """Vary the sound as by rooms and microphones: loudness, spectral tilt, echo and noise."""
    sound = spoken.sound
    tilt = float(random.uniform(-0.6, 0.6))
    sound = np.append(sound[:1], sound[1:] + tilt * sound[:-1])
    if random.random() < 0.6:
        length = int(SAMPLE_RATE * random.uniform(0.05, 0.3))
        echo = random.normal(0, 1, length) * np.exp(-6 * np.arange(length) / length) * random.uniform(0.02, 0.12)
        echo[0] = 1
        sound = np.convolve(sound, echo)[: len(sound)]
    level = float(np.sqrt((sound**2).mean()))
    noise = random.normal(0, 1, len(sound))
    if random.random() < 0.5:
        noise = np.convolve(noise, np.ones(8) / 8, "same")
    noise *= level * 10 ** (-random.uniform(12, 45) / 20) / max(float(noise.std()), 1e-9)
    return np.asarray((sound + noise) * 10 ** random.uniform(-1.5, 0), np.float32)


def training_examples(spoken: list[SyntheticSpeech], random: np.random.Generator | None) -> tuple[Floats, Floats]:
    """Contexts ``(n, 300)`` and their true shapes ``(n, 5)``; the state of :class:`MelBands` spans six sentences.

    With ``random``, rooms and noise are added.
    """
    inputs, wanted = [], []
    bands = MelBands()
    for number, one in enumerate(spoken):
        if number % 6 == 0:
            bands = MelBands()
        pause = np.zeros(SAMPLE_RATE // 2, np.float32)
        sound = np.concatenate([pause, one.sound if random is None else add_room(one, random), pause])
        if random is not None:
            sound = sound + random.normal(0, 10 ** random.uniform(-4.5, -2.5), len(sound)).astype(np.float32)
        frames = bands(sound)
        shapes = np.zeros((len(frames), len(MOUTH_SHAPES)), np.float32)
        begins = len(pause) * 100 // SAMPLE_RATE
        shapes[begins : begins + len(one.shapes)] = one.shapes[: len(frames) - begins]
        inputs.append(contexts(frames))
        wanted.append(shapes[FRAMES_BEFORE : len(frames) - FRAMES_AFTER])
    return np.concatenate(inputs), np.concatenate(wanted)


def train_network(inputs: Floats, wanted: Floats, steps: int) -> nn.Sequential:
    """Train the network for ``steps``."""
    torch.manual_seed(1)
    model = nn.Sequential(
        nn.Linear((FRAMES_BEFORE + FRAMES_AFTER + 1) * (MEL_BANDS + 1), HIDDEN_UNITS),
        nn.ReLU(),
        nn.Linear(HIDDEN_UNITS, len(MOUTH_SHAPES)),
    )
    x, y = torch.from_numpy(inputs), torch.from_numpy(wanted)
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    for _ in range(steps):
        chosen = torch.randint(len(x), (1024,))
        # Closed lips are rare, but errors there are visible: weight them higher.
        weight = torch.ones(len(chosen), len(MOUTH_SHAPES))
        weight[:, 4] += 5 * y[chosen, 4]
        loss = (weight * (model(x[chosen]).sigmoid() - y[chosen]) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model


def write(model: nn.Sequential, path: Path) -> None:
    """Write the weights for ``VisemeNetwork``, which reads them in alphabetical order."""
    first, second = model[0], model[2]
    parts = {"a": first.weight.T, "b": first.bias, "c": second.weight.T, "d": second.bias}
    np.savez_compressed(path, **{name: part.detach().numpy().astype(np.float16) for name, part in parts.items()})
    visemes.viseme_network.cache_clear()


def shape_figures(spoken: list[SyntheticSpeech]) -> dict[str, float]:
    """Correlation of each estimated shape with the truth, and shares of closed lips detected and falsely detected."""
    inputs, wanted = training_examples(spoken, np.random.default_rng(9))
    found = visemes.viseme_network()(inputs)
    out = {name: float(np.corrcoef(found[:, k], wanted[:, k])[0, 1]) for k, name in enumerate(MOUTH_SHAPES)}
    pressed = wanted[:, 4] > 0.6
    out["closed lips detected"] = float((found[pressed, 4] > 0.4).mean())
    out["closed lips falsely detected"] = float((found[wanted[:, 4] < 0.1, 4] > 0.4).mean())
    return out


def main(given: list[str] | None = None) -> None:
    """Train, write, measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--measure", action="store_true", help="only measure the shipped network")
    arguments = parser.parse_args(given)
    espeak, random = Espeak(), np.random.default_rng(3)

    def say(sentences: Mapping[str, tuple[str, ...]], voices: tuple[str, ...]) -> list[SyntheticSpeech]:
        return [
            espeak(text, f"{language}+{voice}", int(random.integers(25, 75)), int(random.integers(130, 210)))
            for voice in voices
            for language, texts in sentences.items()
            for text in texts
        ]

    path = Path(visemes.__file__).parent / "visemes.npz"
    if not arguments.measure:
        rounds = [
            training_examples([change_voice(one, random) for one in say(SENTENCES, VOICES)], random)
            for _ in range(AUGMENTATION_ROUNDS)
        ]
        inputs, wanted = (np.concatenate(part) for part in zip(*rounds, strict=True))
        print(f"{len(inputs) / 6000:.0f} minutes of speech")
        write(train_network(inputs, wanted, arguments.steps), path)
    for name, spoken in (
        ("trained voices", say(SENTENCES, VOICES[:4])),
        ("other voices", say(SENTENCES, OTHER_VOICES)),
        ("other languages and voices", say(OTHER_LANGUAGES, OTHER_VOICES)),
        ("another kind of voice", say(SENTENCES, KLATT_VOICES)),
    ):
        print(f"{name}: " + ", ".join(f"{key} {value:.2f}" for key, value in shape_figures(spoken).items()))


if __name__ == "__main__":
    main()
