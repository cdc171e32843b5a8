import numpy as np
import pytest

from metapers.evaluation import calibration

HALVES = np.arange(400) % 2 == 0


def error_of(confidence, correct, num_candidates=2):
  """The error of one learner at one number of shots, of observations that are repeated."""
  gaps = calibration.bin_gaps(
    *(np.resize(x, (1, 1, 400)) for x in (np.repeat(confidence, 2), np.repeat(correct, 2))),
    num_candidates,
  )
  weights = np.full(400, 1 / 400, np.float32)
  signed = calibration.signed_gaps(gaps, weights, (HALVES[None], ~HALVES[None]))
  return (signed.reshape(1, -1) @ weights).item()


def test_certain_and_right_is_calibrated():
  assert error_of([1.0, 1.0], [1.0, 1.0]) == 0


def test_certain_and_half_right_is_half_off():
  assert error_of([1.0, 1.0], [1.0, 0.0]) == pytest.approx(0.5)


def test_gaps_of_opposite_sign_cancel_within_a_bin_but_not_between_bins():
  assert error_of([0.7, 0.7], [1.0, 0.4]) == pytest.approx(0.0, abs=1e-6)
  assert error_of([0.6, 0.9], [0.9, 0.6]) == pytest.approx(0.3)


def drawn(rng, sharpness, size=600):
  """Confidences, choices by chances whose logits are divided by `sharpness`, and equal weights."""
  logit = rng.normal(size=(1, 1, size)) * 2
  confidence = 1 / (1 + np.exp(-np.abs(logit)))
  chance = 1 / (1 + np.exp(-np.abs(logit) / sharpness))
  correct = (rng.random(logit.shape) < chance).astype(float)
  return confidence, correct, np.full(size, 1 / size, np.float32)


def independent(confidence, weights):
  """What the gaps of calibrated predictions vary by where all choices are drawn apart: [C, 1]."""
  inside = calibration.bins(confidence, 2).reshape(calibration.NUM_BINS, 1, -1)
  return inside @ (confidence * (1 - confidence)).ravel().astype(float) * weights[0] ** 2


def test_chance_adds_nothing_to_the_error_of_calibrated_predictions():
  rng, halves = (
    np.random.default_rng(0),
    (np.arange(600)[None] % 2 == 0, np.arange(600)[None] % 2 == 1),
  )
  errors, plain, brier, expected = [], [], [], []
  for _ in range(300):
    confidence, correct, weights = drawn(rng, 1.0)
    gaps = calibration.bin_gaps(confidence, correct, 2)
    means = gaps.reshape(calibration.NUM_BINS, -1) @ weights
    masses = calibration.bin_masses(confidence, weights, 2)
    chance = calibration.Chance(independent(confidence, weights), masses)
    errors.append((calibration.signed_gaps(gaps, weights, halves).reshape(-1) @ weights).item())
    plain.append(np.abs(means).sum())
    brier.append(calibration.brier_calibration(means[None, :, None], chance).item())
    expected.append(calibration.expected_error(chance).item())
  assert abs(np.mean(errors)) < 0.003 < 0.04 < np.mean(plain)
  assert np.mean(expected) == pytest.approx(np.mean(plain), rel=0.05)
  assert abs(np.mean(brier)) < 3 * np.std(brier) / np.sqrt(300)


def test_wide_gaps_are_found_in_full():
  rng = np.random.default_rng(0)
  confidence, correct, weights = drawn(rng, 4.0, 20_000)
  gaps = calibration.bin_gaps(confidence, correct, 2)
  halves = np.arange(20_000)[None] % 2 == 0, np.arange(20_000)[None] % 2 == 1
  found = (calibration.signed_gaps(gaps, weights, halves).reshape(-1) @ weights).item()
  means = gaps.reshape(calibration.NUM_BINS, -1) @ weights
  assert found == pytest.approx(np.abs(means).sum(), rel=0.02) and found > 0.1


def test_the_bins_cover_what_the_largest_of_k_probabilities_can_be():
  confidence = np.linspace(0.25, 1, 50).reshape(1, 1, 50)
  gaps = calibration.bin_gaps(confidence, np.zeros_like(confidence), 4)
  np.testing.assert_allclose(gaps.sum(0), confidence, rtol=1e-6)  # each in one bin
  assert (gaps > 0).any((1, 2, 3)).all()  # and no bin is out of reach


def test_masked_observations_fall_into_no_gap():
  assert not calibration.bin_gaps(np.zeros((1, 1, 3)), np.zeros((1, 1, 3)), 2).any()


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
