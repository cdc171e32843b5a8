import numpy as np

from metapers.evaluation import calibration


def error_of(confidence, correct, num_candidates=2):
  """ECE of one learner at one number of shots, every observation weighing the same."""
  shape = (1, 1, -1)
  gaps = calibration.bin_gaps(
    np.reshape(confidence, shape), np.reshape(correct, shape), num_candidates
  )
  mean = gaps.mean(-1)[..., 0]  # [C, L]
  return calibration.calibration_error(np.stack([mean, mean, mean]))


def test_certain_and_right_is_calibrated():
  np.testing.assert_allclose(error_of([1.0, 1.0], [1.0, 1.0]), 0.0)


def test_certain_and_half_right_is_half_off():
  np.testing.assert_allclose(error_of([1.0, 1.0], [1.0, 0.0]), 0.5)


def test_gaps_of_opposite_sign_cancel_within_a_bin_but_not_between_bins():
  np.testing.assert_allclose(error_of([0.7, 0.7], [1.0, 0.4]), 0.0, atol=1e-7)
  np.testing.assert_allclose(error_of([0.6, 0.9], [0.9, 0.6]), 0.3, rtol=1e-6)


def test_the_bins_cover_what_the_largest_of_k_probabilities_can_be():
  confidence = np.linspace(0.25, 1, 50).reshape(1, 1, 50)
  gaps = calibration.bin_gaps(confidence, np.zeros_like(confidence), 4)
  np.testing.assert_allclose(gaps.sum(0), confidence, rtol=1e-6)  # each in one bin
  assert (gaps > 0).any((1, 2, 3)).all()  # and no bin is out of reach


def test_masked_observations_fall_into_no_gap():
  assert not calibration.bin_gaps(np.zeros((1, 1, 3)), np.zeros((1, 1, 3)), 2).any()


def test_resamples_are_centred_on_the_estimate():
  rng = np.random.default_rng(0)
  gaps = np.concatenate([np.full((1, 5, 1), 0.02), 0.02 + 0.03 * rng.normal(size=(400, 5, 1))])
  error = calibration.calibration_error(gaps)
  raw = np.abs(gaps[1:]).sum(1)
  assert raw.mean() > 1.2 * error[0, 0]  # what an uncorrected bootstrap would say
  assert abs(error[1:].mean() - error[0, 0]) < 0.005
  assert error.min() >= 0
