"""The odd rows of networks are what their names say."""

import numpy as np

from benchmarks.drift.networks import BANDS, FRAMES, cells, digits, noisy, spectrograms


def test_a_tone_is_in_its_band():
    seconds = np.arange(8000) / 8000
    for frequency in (500, 2000, 3300):
        found = spectrograms([np.sin(2 * np.pi * frequency * seconds).astype(np.float32)])
        assert found.shape == (1, 1, BANDS, FRAMES)
        assert found[0, 0].mean(1).argmax() == int(frequency / (4000 / BANDS))


def test_only_the_odd_column_is_odd():
    world = cells()
    for rows in world.odd.values():
        assert (rows != world.ordinary).any(0).nonzero()[0].tolist() == [8]
    assert len(world.train[0]) + len(world.baseline[0]) + len(world.ordinary) == 569


def test_noise_has_its_size_and_no_part_is_in_another():
    world = digits()
    assert np.isclose((noisy(world.ordinary, 0.2) - world.ordinary).std(), 0.2, rtol=0.02)
    parts = [{row.tobytes() for row in rows} for rows in (world.train[0], world.baseline[0], world.ordinary)]
    assert not parts[0] & parts[1] and not parts[0] & parts[2] and not parts[1] & parts[2]
