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


def slices_of(confidence, mass=None):
  confidence = np.asarray(confidence, float)
  mass = np.full(confidence.shape, 1 / confidence.size) if mass is None else np.asarray(mass)
  return calibration.confidence_slices(confidence[None], mass[None])[:, 0]  # [C, N]


def accuracy_at(confidence, correct, coverage, mass=None):
  shares = slices_of(confidence, mass)
  mass = np.full(shares.shape[1], 1 / shares.shape[1]) if mass is None else np.asarray(mass)
  held = (shares @ mass)[:, None, None]
  hits = (shares @ (mass * np.asarray(correct)))[:, None, None]
  return calibration.selective_accuracy(held, hits, coverage).item()


def test_every_slice_holds_the_same_mass_and_every_prediction_is_shared_out():
  rng = np.random.default_rng(0)
  mass = rng.random(137) * (rng.random(137) < 0.8)
  shares = slices_of(rng.random(137), mass)
  np.testing.assert_allclose(shares @ mass, mass.sum() / calibration.NUM_SLICES, rtol=1e-5)
  np.testing.assert_allclose(shares.sum(0), mass > 0, atol=1e-6)


def test_selective_accuracy_equals_sorting_by_confidence():
  rng = np.random.default_rng(0)
  confidence, correct = rng.random(200), rng.random(200) < 0.7
  order = np.argsort(-confidence)
  for coverage in (0.5, 0.8, 1.0):
    expected = correct[order[: round(200 * coverage)]].mean()
    np.testing.assert_allclose(accuracy_at(confidence, correct, coverage), expected, rtol=1e-5)


def test_equal_confidences_say_nothing_of_which_are_right():
  correct = np.repeat([1.0, 0.0], [30, 70])
  assert abs(accuracy_at(np.full(100, 0.9), correct, 0.5) - 0.3) < 1e-6
  half = np.repeat(
    [0.9, 0.6], [40, 60]
  )  # the top 50 % are the 40 sure ones and a sixth of the rest
  correct = np.concatenate([np.ones(40), np.tile([1.0, 0.0], 30)])
  assert abs(accuracy_at(half, correct, 0.5) - (40 + 5) / 50) < 1e-6


def test_heavier_predictions_fill_more_of_the_quota():
  confidence, correct, mass = [0.9, 0.8, 0.7], [0.0, 1.0, 1.0], [0.5, 0.25, 0.25]
  np.testing.assert_allclose(accuracy_at(confidence, correct, 0.5, mass), 0.0, atol=1e-6)
  np.testing.assert_allclose(accuracy_at(confidence, correct, 0.8, mass), 0.3 / 0.8, rtol=1e-6)
