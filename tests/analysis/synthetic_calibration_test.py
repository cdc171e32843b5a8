"""The calibration of the synthetic store: its constants are where it would find them."""

import ast

import numpy as np
import pytest

from metapers.analysis import synthetic_calibration as calibration
from metapers.data import synthetic


def test_parameters_survive_packing():
  found = calibration.unpack(calibration.pack(synthetic.CALIBRATED))
  for ours, expected in zip(found, synthetic.CALIBRATED, strict=True):
    np.testing.assert_array_equal(ours, expected)


def test_the_noise_found_leaves_the_share_that_was_named():
  noise = calibration.calibrate_noise(synthetic.CALIBRATED, 0.5, 2, num_prompts=3000)
  assert noise == pytest.approx(synthetic.FEATURE_NOISE[0.5], abs=0.05)


def test_the_calibrated_table_is_nearer_to_the_published_one_than_a_random_start():
  near, far = (
    np.abs(calibration.table_error(each, 2, num_draws=1, num_store_draws=1)).mean()
    for each in (synthetic.CALIBRATED, calibration.random_start(1))
  )
  assert near < 1 < 2 < far


def test_the_scores_calibrated_on_are_those_of_the_default_store():
  own = calibration.store_scores(synthetic.CALIBRATED)
  raw = synthetic.synthetic_store().rewards[-len(own) :]
  ours, expected = ((x - x.mean((0, 1))) / x.std((0, 1)) for x in (own, raw))
  np.testing.assert_allclose(ours, expected, atol=1e-3)


def test_least_squares_shrinks_towards_the_centre(monkeypatch):
  target, lines = calibration.pack(synthetic.CALIBRATED), []
  monkeypatch.setattr(
    calibration, 'table_error', lambda parameters, seed: 3 * (calibration.pack(parameters) - target)
  )
  centre = calibration.random_start(1)
  found = calibration.calibrate(centre, centre, num_steps=5, seed=0, log=lines.append)
  # The minimum of |3 (x - target)|² + |SHRINKAGE (x - centre)|².
  shrinkage = calibration.SHRINKAGE**2
  expected = (9 * target + shrinkage * calibration.pack(centre)) / (9 + shrinkage)
  np.testing.assert_allclose(calibration.pack(found), expected, atol=1e-4)
  assert all(line.startswith('mean difference') for line in lines) and lines


def test_the_text_printed_is_the_source_of_the_constants():
  text = calibration.source_text(synthetic.CALIBRATED, synthetic.FEATURE_NOISE)
  constants = {line.targets[0].id: ast.literal_eval(line.value) for line in ast.parse(text).body}
  assert constants == {
    'LOADINGS': synthetic.LOADINGS,
    'HABITS': synthetic.HABITS,
    'FEATURE_NOISE': synthetic.FEATURE_NOISE,
  }
