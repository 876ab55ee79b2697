"""Synthetic speech with known sounds, by espeak-ng (``pip install espeakng-loader``; it is not shipped).

A table gives the mouth shape of each sound of the International Phonetic Alphabet. The shapes are smoothed over time,
because neighbouring sounds influence each other (co-articulation; Cohen and Massaro, 1993).
"""

import ctypes
from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

from avatar_stream.voice.mel import SAMPLE_RATE
from avatar_stream.voice.visemes import MOUTH_SHAPES

Floats = npt.NDArray[np.float32]

SHAPES_PER_SECOND: Final = 100
BLEND_SECONDS: Final = 0.035  # standard deviation of the smoothing over neighbouring sounds
# Mouth shape (open, wide, round, pucker, closed) of all sounds of a line.
SOUND_SHAPES: Final = {
    "pbmɓʙ": (0.02, 0.0, 0.0, 0.05, 1.0),
    "fvɱʋ": (0.08, 0.1, 0.0, 0.0, 0.55),
    "θð": (0.14, 0.1, 0.0, 0.0, 0.0),
    "tdnlɾɗɬɭɫʎɲȵʈɖɳ": (0.14, 0.15, 0.0, 0.0, 0.0),
    "kgŋxɣhɦcɟqχʁʔçʝɡħʕ": (0.18, 0.05, 0.0, 0.0, 0.0),
    "szʦʣ": (0.05, 0.35, 0.0, 0.0, 0.0),
    "ʃʒʧʤɕʑʂʐ": (0.1, 0.0, 0.55, 0.25, 0.0),
    "rɹɻʀɽ": (0.14, 0.0, 0.25, 0.2, 0.0),
    "w": (0.1, 0.0, 0.3, 0.85, 0.0),
    "jɥ": (0.1, 0.35, 0.0, 0.0, 0.0),
    "aɑɐæʌäɶɒ": (0.62, 0.05, 0.0, 0.0, 0.0),
    "eɛəɜɘɚɝɞ": (0.36, 0.25, 0.0, 0.0, 0.0),
    "iɪɨɯ": (0.16, 0.5, 0.0, 0.0, 0.0),
    "yʏøœ": (0.2, 0.0, 0.4, 0.6, 0.0),
    "oɔɤɵ": (0.4, 0.0, 0.6, 0.25, 0.0),
    "uʊʉ": (0.16, 0.0, 0.35, 0.75, 0.0),
}
_SHAPE_OF_LETTER: Final = {
    letter: np.array(shape, np.float32) for letters, shape in SOUND_SHAPES.items() for letter in letters
}

SENTENCES: Final = {
    "en-us": (
        "The north wind and the sun were arguing which of them was the stronger.",
        "Please call me back before the meeting starts, maybe about five.",
        "Why would you move those boxes over there, if nobody wants them?",
        "She sells sea shells, and he thinks that is a very good business.",
        "Our new puppy jumped over the big brown fence this morning!",
        "I have never been to a place as beautiful and peaceful as this one.",
    ),
    "en-gb-x-rp": (
        "What a lovely afternoon, would you care for another cup of tea?",
        "The committee approved of most of the proposals, apart from the first.",
        "Few people believe him when he says the bridge will be finished by March.",
    ),
    "de": (
        "Einst stritten sich Nordwind und Sonne, wer von ihnen beiden wohl der Stärkere wäre.",
        "Können wir das Gespräch bitte auf übermorgen verschieben?",
        "Meine Mutter fährt im Frühling immer mit dem Fahrrad zum Markt.",
    ),
    "fr": (
        "La bise et le soleil se disputaient, chacun assurant qu'il était le plus fort.",
        "Bonjour, pouvez-vous me dire où se trouve la boulangerie?",
        "Nous avons beaucoup mangé, bu et parlé pendant tout le voyage.",
    ),
    "es": (
        "El viento norte y el sol porfiaban sobre cuál de ellos era el más fuerte.",
        "Muchas gracias por venir, vamos a empezar ahora mismo.",
    ),
    "cmn": ("有一回，北风跟太阳正在那儿争论谁的本领大。", "你好，请问明天下午我们几点见面？"),
    "pt": ("O vento norte e o sol discutiam qual dos dois era o mais forte.", "Bom dia, posso ajudar você?"),
    "ru": ("Однажды северный ветер и солнце спорили, кто из них сильнее.", "Пожалуйста, повторите ещё раз."),
}
OTHER_LANGUAGES: Final = {
    "it": ("Si bisticciavano un giorno il vento di tramontana e il sole.", "Buongiorno, vorrei prenotare un tavolo."),
    "nl": ("De noordenwind en de zon waren erover aan het redetwisten wie de sterkste was.", "Mag ik iets vragen?"),
    "pl": (
        "Pewnego razu północny wiatr i słońce sprzeczali się, kto z nich jest silniejszy.",
        "Dzień dobry państwu.",
    ),
}


@dataclass(frozen=True, slots=True)
class SyntheticSpeech:
    """Sound at 16 kHz, -1 to 1, and mouth shapes ``(n, 5)``, a hundred per second."""

    sound: Floats
    shapes: Floats


class _Event(ctypes.Structure):
    class _Id(ctypes.Union):
        _fields_ = [("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8)]

    _fields_ = [
        ("type", ctypes.c_int),
        ("unique", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("milliseconds", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user", ctypes.c_void_p),
        ("id", _Id),
    ]


class Espeak:
    """The speech synthesizer; one per process. See espeak-ng's ``speak_lib.h``."""

    def __init__(self) -> None:
        import espeakng_loader

        self._library = ctypes.CDLL(espeakng_loader.get_library_path())
        synchronous, phonemes_in_ipa = 2, 1 | 2
        data = espeakng_loader.get_data_path().encode()
        self.rate = int(self._library.espeak_Initialize(synchronous, 0, data, phonemes_in_ipa))
        self._sound: list[Floats] = []
        self._sounds: list[tuple[float, str]] = []
        kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(_Event))
        self._callback = kind(self._receive)
        self._library.espeak_SetSynthCallback(self._callback)

    def __call__(self, text: str, voice: str, pitch: int = 50, words: int = 170) -> SyntheticSpeech:
        """Speak ``text`` with a voice such as ``en-us+f3``; ``pitch`` is 0 to 100, ``words`` are per minute.

        Raises ``ValueError`` if espeak-ng has no such voice.
        """
        self._sound.clear()
        self._sounds.clear()
        if self._library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise ValueError(f"espeak-ng has no voice {voice}")
        for parameter, value in ((1, words), (3, pitch)):
            self._library.espeak_SetParameter(parameter, value, 0)
        encoded = text.encode() + b"\0"
        self._library.espeak_Synth(encoded, len(encoded), 0, 0, 0, 1, None, None)
        sound = np.concatenate(self._sound)
        length = round(len(sound) * SAMPLE_RATE / self.rate)
        sound = cv2.resize(sound[None], (length, 1), interpolation=cv2.INTER_AREA)[0]
        return SyntheticSpeech(sound, shapes_of(self._sounds, len(sound) / SAMPLE_RATE))

    def _receive(self, samples: Any, count: int, events: Any) -> int:
        if samples and count:
            pointer = ctypes.cast(samples, ctypes.POINTER(ctypes.c_short))
            self._sound.append(np.ctypeslib.as_array(pointer, (count,)).astype(np.float32) / 32768)
        k = 0
        while events[k].type != 0:
            if events[k].type == 7:
                self._sounds.append((events[k].sample / self.rate, events[k].id.string.decode("utf8", "replace")))
            k += 1
        return 0


def shapes_of(sounds: list[tuple[float, str]], seconds: float) -> Floats:
    """Mouth shapes ``(n, 5)``, a hundred per second, for ``sounds``: start in seconds and IPA name."""
    shapes = np.zeros((round(seconds * SHAPES_PER_SECOND), len(MOUTH_SHAPES)), np.float32)
    for k, (begins, name) in enumerate(sounds):
        ends = sounds[k + 1][0] if k + 1 < len(sounds) else seconds
        letters = [letter for letter in name if letter in _SHAPE_OF_LETTER] if not name.startswith("(") else []
        first, last = (
            round(begins * SHAPES_PER_SECOND),
            max(round(ends * SHAPES_PER_SECOND), round(begins * SHAPES_PER_SECOND) + 1),
        )
        for number, letter in enumerate(letters):  # diphthongs glide from one to the next
            a = first + (last - first) * number // len(letters)
            b = first + (last - first) * (number + 1) // len(letters)
            shapes[a:b] = _SHAPE_OF_LETTER[letter]
    return (
        cv2.GaussianBlur(shapes, (1, 0), sigmaX=1e-3, sigmaY=BLEND_SECONDS * SHAPES_PER_SECOND)
        if len(shapes)
        else shapes
    )
