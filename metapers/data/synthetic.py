"""A synthetic PersonalLLM: prompts, responses, ten reward models and features, from a seed.

Response r of prompt p has style factors f, the sum of what its prompt asks for, of the habits of
the response model that wrote it and of a deviation of its own. A reward model scores
z = Λ f + noise; features are a fixed nonlinear map of f, plus noise. Λ and the habits are chosen so
that simulated users disagree as PersonalLLM's do: `experiments/calibrate_synthetic.py` prints them.

Reference: Zollo et al. 2024, arXiv:2409.20296, for what is imitated.
"""

from typing import NamedTuple

import numpy as np

from metapers.core import files, population
from metapers.core.tables import RewardTable
from metapers.core.types import Float, Int
from metapers.data import personal_llm_constants, reward_table

VERSION = 2  # to be raised with any change of a drawn number: runs compare it on resuming
NUM_FEATURES = 64
NUM_RESPONSES = len(personal_llm_constants.RESPONSE_MODELS)
PROMPT_SCALE = 0.7  # sd of what a prompt's responses share: a third of the variance of scores
NOISE_SCALE = 0.3  # sd of what no factor explains, relative to what the factors do: 8 % of variance
MAP_WIDTH, MAP_GAIN, MAP_SEED = 256, 0.5, 64
# Factor 0 is quality, which all reward models like. Features show style, and of quality only this
# share: else most of what they explain is common to all users, and little is left to personalise.
QUALITY_GAIN = 0.2
# Found by calibration, restarted once and then continued.
LOADINGS = (
  (0.565, 0.370, 0.369, -0.659, 0.112, 0.584, -0.192),
  (0.636, 0.124, -0.263, -0.145, 0.173, -0.413, -0.243),
  (0.877, 0.167, -0.163, -0.289, -0.109, -0.087, -0.323),
  (0.743, 0.612, 0.800, -1.453, -0.790, 0.182, -0.289),
  (0.761, 0.385, 1.203, -0.525, -0.250, 1.146, 0.240),
  (0.789, -0.137, -1.069, 0.157, 0.151, -0.779, -0.286),
  (0.560, -0.262, -0.306, -0.025, -0.188, -0.534, 0.123),
  (1.110, 0.136, -0.070, -0.016, -0.625, 0.492, -0.393),
  (0.897, 0.282, -0.321, -0.111, -0.029, 0.326, -0.481),
  (0.551, -0.150, -0.658, 0.079, 0.143, -0.797, -0.171),
)
HABITS = (
  (0.096, -0.030, -0.103, 0.459, 0.046, 0.381, 0.021),
  (0.364, 0.285, 0.015, 0.352, 0.162, -0.172, -0.185),
  (0.840, 0.088, -0.157, 0.047, 0.120, 0.205, -0.041),
  (-0.228, -0.022, 0.141, -0.034, -0.586, 0.150, 0.181),
  (-0.076, 0.085, -0.102, 0.141, -0.072, 0.199, 0.331),
  (-0.092, -0.180, -0.325, 0.359, 0.102, -0.409, 0.069),
  (-0.200, 0.182, 0.245, -0.289, -0.242, 0.237, -0.397),
  (-1.492, 0.086, -0.283, -0.380, -0.081, 0.310, -0.253),
)
FEATURE_NOISE = {0.3: 1.5283, 0.5: 0.7275, 0.8: 0.1104}


class Parameters(NamedTuple):
  """The constants that calibration finds, of F factors.

  loadings: [B, F] Λ, how much each reward model likes each factor.
  habits: [R, F] mean factors of each response model.
  """

  loadings: Float[np.ndarray, 'B F']
  habits: Float[np.ndarray, 'R F']


CALIBRATED = Parameters(np.array(LOADINGS, np.float32), np.array(HABITS, np.float32))


def sample_factors(
  rng: np.random.Generator, num_prompts: int, habits: Float[np.ndarray, 'R F']
) -> Float[np.ndarray, 'P R F']:
  """Returns drawn style factors of every response, [P, R, F]."""
  responses, factors = habits.shape
  prompt = PROMPT_SCALE * rng.standard_normal((num_prompts, 1, factors), np.float32)
  return prompt + habits + rng.standard_normal((num_prompts, responses, factors), np.float32)


def sample_scores(
  rng: np.random.Generator,
  factors: Float[np.ndarray, 'P R F'],
  loadings: Float[np.ndarray, 'B F'],
) -> Float[np.ndarray, 'P R B']:
  """Returns drawn scores of the reward models, Λ f plus noise, in units of their own, [P, R, B]."""
  noise = rng.standard_normal((*factors.shape[:2], len(loadings)), np.float32)
  return factors @ loadings.T + NOISE_SCALE * np.linalg.norm(loadings, axis=1) * noise


def feature_map(factors: Float[np.ndarray, 'P R F']) -> Float[np.ndarray, 'P R D']:
  """Returns noiseless features [P, R, D]: a fixed random network with one tanh layer of factors."""
  rng = np.random.default_rng(MAP_SEED)
  inner = MAP_GAIN * rng.standard_normal((factors.shape[-1], MAP_WIDTH), np.float32)
  inner[0] *= QUALITY_GAIN
  bias = rng.standard_normal(MAP_WIDTH, np.float32)
  outer = rng.standard_normal((MAP_WIDTH, NUM_FEATURES), np.float32) / np.float32(MAP_WIDTH**0.5)
  return np.tanh(factors @ inner + bias) @ outer


def sample_features(
  rng: np.random.Generator, factors: Float[np.ndarray, 'P R F'], noise: float
) -> Float[np.ndarray, 'P R D']:
  """Returns drawn features: `feature_map` plus white noise of sd `noise`, [P, R, D]."""
  features = feature_map(factors)
  return features + np.float32(noise) * rng.standard_normal(features.shape, np.float32)


def to_raw(
  scores: Float[np.ndarray, 'P R B'], prompt_split: Int[np.ndarray, 'P']
) -> Float[np.ndarray, 'P R B']:
  """Returns scores rescaled to the published train mean and sd, float32 [P, R, B]."""
  mask = np.ones(scores.shape[:2], bool)
  scores_z = reward_table.z_scores(
    scores, mask, *reward_table.statistics(scores, mask, prompt_split)
  )
  mean, std = np.array(list(personal_llm_constants.REWARD_MODELS.values()), np.float32).T
  return mean + std * scores_z


def synthetic_store(
  *, feature_r2: float = 0.5, num_prompts: int = reward_table.NUM_PROMPTS, seed: int = 0
) -> RewardTable:
  """Returns a table that stands in for PersonalLLM where it cannot be downloaded.

  The scores depend on `num_prompts` and `seed` only, not on `feature_r2`.

  Args:
    feature_r2: share of the variance of scores inside a prompt that ridge regression on the 64
      features explains on held-out prompts, averaged over reward models: 0.3, 0.5 or 0.8.
    num_prompts: P; splits keep PersonalLLM's proportions (8,402 : 1,000 : 1,000).
    seed: of prompts and responses; reward models, habits and the map of features are fixed.

  Returns:
    Table of P prompts, 8 responses and ten reward models.

  Raises:
    ValueError: for another `feature_r2`, or too few prompts for three splits.
  """
  if feature_r2 not in FEATURE_NOISE:
    known = ', '.join(map(str, FEATURE_NOISE))
    raise ValueError(f'feature_r2 must be one of {known} (calibrated), got {feature_r2}')
  held_out = round(num_prompts * reward_table.NUM_TEST / reward_table.NUM_PROMPTS)
  split = reward_table.assign_splits(num_prompts, num_validation=held_out, num_test=held_out)
  factors = sample_factors(np.random.default_rng([seed, 0]), num_prompts, CALIBRATED.habits)
  scores = sample_scores(np.random.default_rng([seed, 1]), factors, CALIBRATED.loadings)
  rewards = to_raw(scores, split)
  mask = np.ones(rewards.shape[:2], bool)
  mean, std = reward_table.statistics(rewards, mask, split)
  source = f'synthetic (feature_r2={feature_r2}, num_prompts={num_prompts}, seed={seed})'
  return RewardTable(
    rewards=rewards,
    features=sample_features(np.random.default_rng([seed, 2]), factors, FEATURE_NOISE[feature_r2]),
    mask=mask,
    reward_models=tuple(personal_llm_constants.REWARD_MODELS),
    response_model=np.tile(np.arange(NUM_RESPONSES), (num_prompts, 1)),
    response_models=personal_llm_constants.RESPONSE_MODELS,
    mean=mean,
    std=std,
    prompt_split=split,
    source=source,
    manifest_hash=files.sha256(f'{VERSION} {source}'.encode()),
    licence=population.DRAWN,
  )
