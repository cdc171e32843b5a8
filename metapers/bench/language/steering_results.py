"""What a study of steering comes to: a row for each way to answer, with two-way intervals."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from metapers.bench import results
from metapers.bench.language import steering, styled_writer
from metapers.bench.language.steering import Slates, Study, Tables, User
from metapers.core.meta_learner import MetaLearner
from metapers.core.types import Float, Params
from metapers.evaluation import best_arm, best_of, bootstrap, estimates
from metapers.llm import steer

BASE, TRUTH, TOLD, EXAMPLES = 'base', 'true weights', 'told', 'in context'
PROTOCOL = 'steering'
SHOWN = ('metric', 'value', 'ci_low', 'ci_high')


class Options(NamedTuple):
  """What is measured.

  shots: comparisons of a new user. strengths: 1/β, one is chosen on validation users. sizes: n of
  best of n. cautions: c, likewise chosen. num_arms: answers among which the best is asked for.
  level: of P(best is best), at which questions end. num_questions: at most.
  """

  shots: int = 8
  strengths: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0)
  sizes: tuple[int, ...] = (1, 2, 4, 8, 16)
  cautions: tuple[float, ...] = (0.0, 0.5, 1.0, 2.0)
  num_arms: int = 6
  level: float = 0.9
  num_questions: int = 12


class Trained(NamedTuple):
  """A learner of the bench that was given φ."""

  learner: MetaLearner
  params: Params


class Chosen(NamedTuple):
  """By validation users, those of the largest utility. strength: 1/β. caution: c."""

  strength: float
  caution: float


def plain_rows(study: Study, options: Options) -> pd.DataFrame:
  """Returns the rows of those who learn nothing: the base, the truth, what is told, examples."""
  split, parts = 'test', []
  nobody = jnp.zeros((len(study.queried[split]), len(study.writer.kept)), jnp.float32)
  weights = {
    BASE: (nobody, 0.0),
    TOLD: (steering.told(study, split), 1.0),
    **{
      f'{TRUTH} {strength:g}': (steering.true_weights(study, split), strength)
      for strength in options.strengths
    },
  }
  for name, (own, strength) in weights.items():
    tables = steered(study, split, own, strength)
    if name != BASE:
      tables['accuracy@policy'] = steering.policy_accuracy(
        study, split, steer.shares(own, strength)
      )
    parts.append(rows_of(study, split, name, 0, tables))
  tables = in_context(study, split, options.shots)
  parts.append(rows_of(study, split, EXAMPLES, options.shots, tables))
  given = slates_of(study, split, options)
  best = steering.best_possible(given, options.sizes)
  parts.append(rows_of(study, split, 'best of n oracle', 0, of_sizes(best, options.sizes)))
  return results.join(parts)


def learner_rows(
  study: Study, name: str, trained: Trained, options: Options, labels: Mapping[str, Any]
) -> tuple[pd.DataFrame, Chosen]:
  """Returns the rows of a learner, and what validation users chose for it."""
  chosen = choose(study, trained, options)
  user = steering.adapted(study, *trained, 'test', options.shots)
  parts = []
  for strength in options.strengths:
    tables = steered(study, 'test', user.weights, strength)
    shares = steer.shares(user.weights, strength)
    tables['accuracy@policy'] = steering.policy_accuracy(study, 'test', shares)
    parts.append(rows_of(study, 'test', f'{name} {strength:g}', options.shots, tables, labels))
  tables = steered(study, 'test', steering.likeliest_prompt(user.weights), 1.0)
  parts.append(rows_of(study, 'test', f'{name} likeliest prompt', options.shots, tables, labels))
  tables = {'accuracy': preference_accuracy(study, trained, user)}
  given = slates_of(study, 'test', options)
  worth = picked(trained, user, given, options, chosen.caution)
  tables |= of_sizes(worth, options.sizes)
  parts.append(rows_of(study, 'test', name, options.shots, tables, labels))
  if trained.learner.has_posterior:
    parts += arm_rows(study, name, trained, options, labels)
  return results.join(parts), chosen


def choose(study: Study, trained: Trained, options: Options) -> Chosen:
  """Returns the strength and the caution of the largest utility of validation users.

  c is read off the largest n, where there is most to be drawn to.
  """
  user = steering.adapted(study, *trained, 'validation', options.shots)
  by_strength = {
    strength: steered(study, 'validation', user.weights, strength)['utility'].mean()
    for strength in options.strengths
  }
  given = slates_of(study, 'validation', options)
  cautions = options.cautions if trained.learner.has_posterior else (0.0,)
  by_caution = {c: picked(trained, user, given, options, c)[-1].mean() for c in cautions}
  return Chosen(
    max(by_strength, key=by_strength.__getitem__), max(by_caution, key=by_caution.__getitem__)
  )


def steered(study: Study, split: str, weights, strength: float) -> Tables:
  """Returns what answers that are steered by each user's weights are worth."""
  shares = steer.shares(weights, strength)
  responses = styled_writer.written(study.writer, study.queried[split], shares, jax.random.key(1))
  return steering.measured(study, split, responses, shares)


def in_context(study: Study, split: str, shots: int) -> Tables:
  """Returns what answers are worth that follow the last ones of the user's first `shots` choices.

  Divergence and perplexity are of the same forms: the question alone, and behind examples.
  """
  numbers, query = np.asarray(study.queried[split]), study.users[split].query
  shares = jnp.broadcast_to(jnp.asarray([[0.0, 1.0]], jnp.float32), (len(numbers), 2))
  forms = steering.examples_of(study, split, numbers, shots)
  flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), forms)
  responses = styled_writer.written(study.writer, numbers, shares, jax.random.key(1), flat)
  tables = steering.measured(study, split, responses, shares, forms)
  asked = steering.examples_of(study, split, query.prompts, shots)
  return tables | {'accuracy@policy': steering.policy_accuracy(study, split, shares, asked)}


def slates_of(study: Study, split: str, options: Options) -> Slates:
  """Returns answers of the base to choose among, the same for all learners."""
  return steering.slates(study, split, max(options.sizes), jax.random.key(2))


def picked(
  trained: Trained, user: User, given: Slates, options: Options, caution: float
) -> Float[np.ndarray, 'L T M']:
  """Returns what a learner's picks are worth."""
  return steering.picked(*trained, user, given, sizes=options.sizes, caution=caution)


def of_sizes(worth: Float[np.ndarray, 'L T M'], sizes: Sequence[int]) -> Tables:
  """Returns utilities by name: `utility@best_of_4`, and the divergence that goes with it."""
  tables = {f'utility@best_of_{size}': own for size, own in zip(sizes, worth)}
  return tables | {
    f'kl@best_of_{size}': np.full(worth.shape[1:], best_of.divergence(size)) for size in sizes
  }


def preference_accuracy(study: Study, trained: Trained, user: User) -> Float[np.ndarray, 'T N']:
  """Returns 1 where the learner predicts the choice of a test question."""
  given = study.splits['test'].tasks.query
  log_p = _predicted(trained.learner, trained.params, user.states, given.candidates)
  gap = np.asarray(log_p[..., 1] - log_p[..., 0]) * (2 * np.asarray(given.choice) - 1)
  return np.where(gap > 0, 1.0, np.where(gap == 0, 0.5, 0.0))


def _predicted(learner, params, states, candidates):
  predict = jax.jit(jax.vmap(learner.predict, (None, 0, 0)))
  return predict(params, states, candidates)


def arm_rows(
  study: Study, name: str, trained: Trained, options: Options, labels: Mapping[str, Any]
) -> list[pd.DataFrame]:
  """Returns how many questions find the best of a few answers, by each rule."""
  given = slates_of(study, 'test', options)
  few = Slates(
    jax.tree.map(lambda x: x[:, :, : options.num_arms], given.candidates),
    given.utilities[..., : options.num_arms],
  )
  parts = []
  for rule in best_arm.RULES:
    ended = steering.best_arms(
      study, *trained, few, split='test', rule=rule,
      num_questions=options.num_questions, level=options.level,
    )  # fmt: skip
    tables = {f'{metric}@best_arm': own[:, None] for metric, own in ended._asdict().items()}
    parts.append(rows_of(study, 'test', f'{name} {rule}', 0, tables, labels))
  return parts


def rows_of(
  study: Study,
  split: str,
  name: str,
  shots: int,
  tables: Tables,
  labels: Mapping[str, Any] = {},
) -> pd.DataFrame:
  """Returns rows with intervals for new users and new questions.

  Args:
    study: the users.
    split: of them.
    name: of the row.
    shots: comparisons of each user.
    tables: metric -> [T, M] of the queried questions, of the first of them, or of the compared.
    labels: further columns.
  """
  parts = []
  for metric, table in tables.items():
    prompts = prompts_of(study, split, metric, table.shape[1])
    draws = bootstrap.draw(len(table), prompts, num_resamples=400, seed=0)
    weights = bootstrap.weights(draws, np.ones(table.shape), prompts)
    found = estimates.weigh(weights, np.asarray(table, np.float32)[None, None], [metric])[0]
    parts.append(
      results.rows(
        {metric: found},
        [shots],
        {
          'protocol': PROTOCOL, 'population': 'styled answers', 'split': split, 'learner': name,
          **labels,
        },
        num_users=len(table),
        num_prompts=np.unique(prompts).size,
      )
    )  # fmt: skip
  return results.join(parts)


def prompts_of(study: Study, split: str, metric: str, size: int) -> np.ndarray:
  """Returns the questions of a table: compared ones of accuracies, else those answered, [T, M]."""
  if metric.startswith('accuracy'):
    return np.asarray(study.users[split].query.prompts)
  return np.asarray(study.queried[split])[:, :size]


def in_words(frame: pd.DataFrame, metrics: Sequence[str]) -> list[str]:
  """Returns a table for people: a line for each row (and seed), a column for each metric."""
  shown = frame[frame['metric'].isin(metrics)].copy()
  if shown['seed'].replace('', None).nunique() > 1:
    seeds = ', seed ' + shown['seed'].astype(str)
    shown['learner'] += seeds.where(shown['seed'].astype(str) != '', '')
  width = max(map(len, shown['learner']), default=3)
  lines = ['  '.join([f'{"row":{width}}', *(f'{metric:>17}' for metric in metrics)])]
  for name, own in shown.groupby('learner', sort=False):
    cells = {
      metric: f'{value:.3f} ± {(high - low) / 2:.3f}'
      for metric, value, low, high in own[list(SHOWN)].itertuples(index=False)
    }
    lines.append('  '.join([f'{name:{width}}', *(f'{cells.get(m, ""):>17}' for m in metrics)]))
  return lines
