"""Channels to one: against libswresample, and in closed form."""

import av
import numpy as np
import pytest

from pipeline.media.downmix import Downmix

LAYOUTS = ("stereo", "3.0", "2.1", "4.0", "quad", "5.0", "5.1", "5.1(side)", "6.1", "7.1", "7.1(wide)", "octagonal")


def names(layout: str) -> tuple[str, ...]:
    return tuple(channel.name for channel in av.AudioLayout(layout).channels)


def noise(channels: int, length: int = 2000) -> np.ndarray:
    return np.random.default_rng(0).uniform(-0.5, 0.5, (length, channels)).astype(np.float32)


def mixed(samples: np.ndarray, layout: tuple[str, ...]) -> np.ndarray:
    """As a file is: once, and again if that shows that it must be."""
    first = Downmix()
    out = first.mix(samples, layout)
    again = first.revised()
    return out if again is None else again.mix(samples, layout)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_weights_are_libswresamples(layout: str) -> None:
    samples = noise(len(names(layout)))
    frame = av.AudioFrame.from_ndarray(samples.reshape(1, -1), format="flt", layout=layout)
    frame.sample_rate = 48_000
    convert = av.AudioResampler(format="flt", layout="mono", rate=48_000)
    theirs = np.concatenate([part.to_ndarray()[0] for part in (*convert.resample(frame), *convert.resample(None))])
    ours = mixed(samples, names(layout))
    gain = (theirs @ ours) / (ours @ ours)  # theirs adds to more than 1 in floats, so that it can clip
    assert np.abs(theirs - gain * ours).max() < 1e-5 and gain >= 1
    assert np.abs(mixed(np.ones_like(samples), names(layout)) - 1).max() < 1e-6, "weights add up to 1"


def test_two_channels_are_their_mean_bit_for_bit() -> None:
    samples = noise(2)
    assert np.array_equal(mixed(samples, ("FL", "FR")), samples.mean(axis=1, dtype=np.float32))
    assert np.array_equal(mixed(samples[:, :1], ("FC",)), samples[:, 0])
    samples[:, 1] = 0
    assert np.array_equal(mixed(samples, ("NONE", "NONE")), samples[:, 0] / 2)


@pytest.mark.parametrize("layout", [("NONE",) * 6, ("NONE",) * 11, names("5.1"), names("7.1"), names("22.2")])
def test_a_channel_that_is_silent_throughout_takes_no_share(layout: tuple[str, ...]) -> None:
    samples = noise(len(layout))
    samples[:, [n for n in range(len(layout)) if n != 2]] *= 1e-5
    assert np.abs(mixed(samples, layout) - samples[:, 2]).max() < 1e-4


def test_where_nothing_is_known_all_count_alike() -> None:
    for layout in (("NONE",) * 9, ("FL", "FR", "USR100")):
        samples = noise(len(layout))
        assert np.abs(mixed(samples, layout) - samples.mean(axis=1)).max() < 1e-6
    lone = noise(3)
    lone[:, :2] = 0
    assert np.abs(mixed(lone, ("FL", "FR", "LFE")) - lone[:, 2]).max() < 1e-6, "the bass, where there is nothing else"


def test_a_sound_field_is_its_first_component() -> None:
    samples = noise(4)
    assert np.array_equal(mixed(samples, ("AMBI0", "AMBI1", "AMBI2", "AMBI3")), samples[:, 0])


@pytest.mark.parametrize("degrees,is_one", [(180, True), (172, True), (168, False), (90, False), (0, False)])
def test_what_cancels_out_is_one_channel(degrees: float, is_one: bool) -> None:
    t = np.arange(48_000) / 48_000
    pair = [np.sin(2 * np.pi * 100 * t), 0.99 * np.sin(2 * np.pi * 100 * t + np.radians(degrees))]
    samples = np.stack(pair, 1).astype(np.float32)
    right = samples[:, 0] if is_one else samples.mean(axis=1)
    assert np.abs(mixed(samples, ("FL", "FR")) - right).max() < 1e-6


def test_silence_and_what_is_no_number_are_let_be() -> None:
    assert not mixed(np.zeros((9, 6), np.float32), names("5.1")).any()
    assert np.isnan(mixed(np.full((9, 2), np.nan, np.float32), ("FL", "FR"))).all()


def test_layouts_that_follow_each_other_are_kept_apart() -> None:
    downmix, stereo, six = Downmix(), noise(2), noise(6)
    six[:, [0, 1, 3, 4, 5]] = 0
    downmix.mix(stereo, ("FL", "FR"))
    downmix.mix(six, names("5.1"))
    again = downmix.revised()
    assert again is not None and np.array_equal(again.mix(stereo, ("FL", "FR")), stereo.mean(axis=1))
    assert np.array_equal(again.mix(six, names("5.1")), six[:, 2])
