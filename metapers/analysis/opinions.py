"""How much answers to survey questions are like people's: representativeness.

      1 - mean over questions of W(model, people) / W_max

with W the 1-Wasserstein distance of the answers' shares on the question's ordinal scale, and W_max
that of all answers moved from the lowest to the highest option; refusals are left out. A diffuse
answerer scores high: uniform, single-model and permuted answers stand beside.

Reference:
  Santurkar et al. 2023, arXiv:2303.17548, for the metric; Zollo et al. 2024, arXiv:2409.20296,
  section 2, for simulated users.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from metapers.analysis import sampling, slates, study_frame
from metapers.analysis.sampling import Estimate
from metapers.analysis.study_frame import NONE, Cell, Whose
from metapers.analysis.voters import DIRICHLET, POOLED, SINGLE, UNIFORM
from metapers.core.types import Float
from metapers.data.opinion_qa import OVERALL, Question

PUBLISHED = 0.839  # overall, of ten reward models; the users' number and α are not stated
PERMUTED = 'shares given to other options'
NUM_PERMUTATIONS = 20
Answers = Sequence[np.ndarray]  # [O] shares of each question's options, of which there are O


def distance(
  ordinal: Float[np.ndarray, 'O'], model: Float[np.ndarray, 'O'], people: Float[np.ndarray, 'O']
) -> float:
  """Returns W(model, people) / W_max of one question, 0 to 1.

  ∫ |F_model - F_people| over the scale, by its length
  """
  order = np.argsort(ordinal)
  places = ordinal[order]
  gap = np.abs(np.cumsum(model[order] - people[order]))[:-1]
  return float(np.sum(gap * np.diff(places)) / (places[-1] - places[0]))


def representativeness(questions: Sequence[Question], answers: Answers, group: str) -> Estimate:
  """Returns 1 - the mean distance over the questions that the group answered, with its error.

  The error is for new questions. Questions whose scale has one place are left out.
  """
  found = [
    1 - distance(question.ordinal, own, question.people[group])
    for question, own in zip(questions, answers, strict=True)
    if group in question.people and np.ptp(question.ordinal) > 0
  ]
  return sampling.mean(np.array(found)) if found else Estimate(NONE, NONE)


def shares(
  scores: Float[np.ndarray, 'O B'], weights: Float[np.ndarray, 'U B']
) -> Float[np.ndarray, 'O']:
  """Returns the share of users whose favourite each option is; the first of tied ones."""
  favourite = (scores @ weights.T).argmax(0)
  return np.bincount(favourite, minlength=len(scores)) / len(weights)


def standardised(scores: Sequence[np.ndarray]) -> list[np.ndarray]:
  """Returns scores [O, B] of each question's options in sd inside questions."""
  centred = [own - own.mean(0) for own in scores]
  spread = np.concatenate(centred).std(0)
  return [own / np.where(spread > 0, spread, 1) for own in centred]


def permuted(answers: Answers, rng: np.random.Generator) -> list[np.ndarray]:
  """Returns the same shares, given to the options of each question in random order."""
  return [rng.permutation(own) for own in answers]


def answerers(
  scores: Sequence[np.ndarray],
  names: Sequence[str],
  concentrations: Sequence[float],
  *,
  num_users: int,
  seed: int = 0,
) -> dict[Whose, Answers]:
  """Returns the answers of simulated users and of the baselines that read scores.

  Args:
    scores: [O, B] of each question's options.
    names: of the reward models.
    concentrations: α of the simulated users.
    num_users: U.
    seed: of the users.
  """
  scaled, num_models = standardised(scores), len(names)
  made: dict[Whose, Answers] = {}
  for concentration in concentrations:
    weights = slates.draw_users(
      concentration, num_draws=1, num_users=num_users, num_models=num_models, seed=seed
    )[0]
    whose = Whose('opinions', DIRICHLET, concentration, 'z')
    made[whose] = [shares(own, weights) for own in scaled]
  mean = np.full((1, num_models), 1 / num_models)
  made[Whose('opinions', POOLED, convention='z')] = [shares(own, mean) for own in scaled]
  for number, name in enumerate(names):
    corner = np.eye(num_models)[number : number + 1]
    whose = Whose('opinions', f'{SINGLE}: {name}', convention='z')
    made[whose] = [shares(own, corner) for own in scaled]
  return made


def study(
  questions: Sequence[Question],
  given: Mapping[Whose, Answers],
  *,
  is_published: bool = False,
  seed: int = 0,
) -> pd.DataFrame:
  """Returns the representativeness of every answerer for every group, as `study_frame.COLUMNS`.

  Args:
    questions: with people's answers.
    given: whose -> shares of each question's options; uniform and permuted ones are added.
    is_published: whether the reward models are those of the published number.
    seed: of permutations.
  """
  groups = list(dict.fromkeys(group for question in questions for group in question.people))
  uniform = [np.full(len(one.options), 1 / len(one.options)) for one in questions]
  blocks = []
  for whose, answers in {**given, Whose('opinions', UNIFORM): uniform}.items():
    paper = PUBLISHED if is_published and whose.population == DIRICHLET else NONE
    cells = []
    for group in groups:
      known = paper if group == OVERALL else NONE
      found = representativeness(questions, answers, group)
      cells.append(Cell(group, 'representativeness', *found, published=known))
    blocks.append(study_frame.rows(whose, cells))
    if whose.population == DIRICHLET:
      blocks.append(study_frame.rows(*_of_permuted(questions, whose, answers, groups, seed)))
  return study_frame.joined(blocks)


def _of_permuted(
  questions: Sequence[Question], whose: Whose, answers: Answers, groups: list[str], seed: int
) -> tuple[Whose, list[Cell]]:
  rng = np.random.default_rng([seed, 12])
  drawn = [permuted(answers, rng) for _ in range(NUM_PERMUTATIONS)]
  cells = []
  for group in groups:
    found = [representativeness(questions, own, group) for own in drawn]
    value, error = np.mean(found, 0)
    cells.append(Cell(group, 'representativeness', float(value), float(error)))
  return whose._replace(population=f'{whose.population}, {PERMUTED}'), cells
