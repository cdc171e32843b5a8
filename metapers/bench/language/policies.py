"""Personalised language models as rows of a table: trained, evaluated on known and new users."""

import functools
import os
import pathlib
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from metapers.bench import results
from metapers.core import choice_model, masked
from metapers.core.meta_learner import FromHistories
from metapers.core.population import SEEN, Population
from metapers.core.types import Array, Float, Int, Params
from metapers.evaluation import adaptation, estimates
from metapers.evaluation.estimates import Estimates, EvaluationSet
from metapers.evaluation.predictions import Predictions
from metapers.io import workdirs
from metapers.io.checkpoints import Checkpoints
from metapers.io.writers import MetricsWriter
from metapers.llm import clusters, p_dpo, text_users, user_model
from metapers.llm.decoder import Decoder
from metapers.llm.text_users import Split
from metapers.llm.trained import Trained
from metapers.training import meta_training
from metapers.training.devices import Placement
from metapers.training.meta_training import Training

METRICS = ('accuracy', 'nll', estimates.WORST)
INDIVIDUALS = 'individuals'  # whose soft tokens clusters start from
LATER = 1_000_000  # added to the seed of the steps that follow theirs
CHUNK = 16  # users at once


class Row(NamedTuple):
  """A row of the table.

  options: of `p_dpo.p_dpo`. reads_text: users' own texts are given; else nobody says anything.
  """

  options: Mapping[str, Any]
  reads_text: bool = True


class Study(NamedTuple):
  """Users of whom all rows are trained and evaluated.

  name: in the results. splits: with what the reference says. groups: name -> which users of SEEN
  and of 'test' are of it, [U] each. types: [U] of the known users, that clusters are compared with;
  None where nobody knows. shots: of new users. cluster_training: of clusters that were started from
  individuals; None for `training`. users: name of each known one -> what they say of themselves, by
  row; {} where they have none.
  """

  name: str
  splits: Mapping[str, Split]
  training: Training
  groups: Mapping[str, Mapping[str, Array]]
  types: Int[np.ndarray, 'U'] | None
  shots: tuple[int, ...]
  cluster_training: Training | None = None
  users: Mapping[str, str] = MappingProxyType({})

  @property
  def num_users(self) -> int:
    """U."""
    return text_users.num_users(self.splits['train'])


def train(
  model: Decoder,
  base: Params,
  study: Study,
  row: Row,
  *,
  name: str,
  seed: int,
  workdir: str | os.PathLike,
  identity: Mapping[str, Any],
  placement: Placement | None = None,
  progress: bool = True,
) -> Trained:
  """Trains a row, or goes on where its folder stands.

  Clusters are trained for half of the steps from individuals that were trained for the other half,
  on other draws of users and comparisons, and without the NLL of what was chosen: by it users
  differ in what they happened to be shown.

  Args:
    model: decoder.
    base: its parameters.
    study: the users.
    row: what is trained.
    name: of the row.
    seed: of training.
    workdir: of the study.
    identity: JSON values that make the run, compared when it is resumed.
    placement: over devices; by default users over all of them, in one program.
    progress: show a bar.
  """

  def folder_of(name):
    return pathlib.Path(workdir) / f'{name}_{seed}'

  def made_by(name, options, steps_before):
    found = {**identity, 'row': name, 'seed': seed, 'options': dict(options)}
    found |= {} if row.reads_text else {'reads_text': False}
    return found | ({'steps_before': steps_before, 'drawn_by': LATER} if steps_before else {})

  def fit(name, options, training, start=None, steps_before=0):
    policy = p_dpo.p_dpo(model, base, num_users=study.num_users, **options)
    learner = policy.learner._replace(start=start) if start else policy.learner
    folder = folder_of(name)
    kept = Checkpoints(folder, made_by(name, options, steps_before))
    result = meta_training.meta_train(
      learner,
      population_of(study, row),
      training,
      seed=seed + LATER if steps_before else seed,  # else both halves are shown the same
      frozen=policy.frozen,
      name=f'{study.name} {name}',
      checkpoints=kept,
      writer=lambda step: MetricsWriter(folder, from_step=step),
      placement=placement,
      progress=progress,
    )
    kept.close()
    return Trained(policy, jax.tree.map(jnp.asarray, result.params))  # fit gives NumPy arrays

  if row.options.get('kind') != 'cluster':
    return fit(name, row.options, study.training)
  half, rest = (
    each._replace(num_steps=each.num_steps // 2)
    for each in (study.training, study.cluster_training or study.training)
  )
  others = {name: value for name, value in row.options.items() if name != 'num_clusters'}
  others |= {'kind': 'individual', 'nll_weight': 0.0}
  digest = workdirs.digest({**others, 'reads_text': row.reads_text})
  workdirs.check_claim(folder_of(name), made_by(name, row.options, half.num_steps))  # at once
  first = fit(f'{INDIVIDUALS}_{digest}', others, half)
  return fit(name, row.options, rest, started_from(first.params), half.num_steps)


def started_from(individuals: Params) -> FromHistories:
  """Returns a learner's `start` that clusters individuals, and keeps what else was trained."""

  def start(params, histories, key):
    del histories, key
    size = params['users']['clusters'].shape[0]
    users = clusters.from_individuals(individuals['users'], size)
    return {**params, **individuals, 'users': users}

  return start


def population_of(study: Study, row: Row) -> Population:
  """Returns the study's users as a row sees them."""
  splits = as_seen(study, row).splits
  return text_users.text_users(splits, num_query=1, source=study.name)


def as_seen(study: Study, row: Row) -> Study:
  """Returns the study as a row sees it: without what users say, where it does not read that."""
  if row.reads_text:
    return study
  return study._replace(splits={name: silent(split) for name, split in study.splits.items()})


def silent(split: Split) -> Split:
  """Returns users who say nothing of themselves."""
  quiet = jax.tree.map(jnp.zeros_like, split.tasks.context)
  return split._replace(tasks=split.tasks._replace(context=quiet))


def evaluate(study: Study, row: Row, name: str, seeds: Mapping[int, Trained]) -> pd.DataFrame:
  """Returns the results of a row: known users by their own rows, new ones by their comparisons.

  `NAME generic` are the known users without their soft tokens, `NAME permuted` with another's.

  Args:
    study: the users.
    row: what was trained.
    name: of it.
    seeds: seed -> what came of it.
  """
  first = next(iter(seeds.values()))
  given = as_seen(study, row).splits
  rows = np.arange(study.num_users)
  order = np.random.default_rng(0).permutation(rows)  # each has the tokens of the next in it
  others = {
    name: rows,
    f'{name} generic': np.full_like(rows, study.num_users),
    f'{name} permuted': order[(np.argsort(order) + 1) % len(rows)],
  }
  if not differs(first):
    others = {name: rows}
  parts = []
  history = int(given['train'].tasks.support.choice.shape[1])
  for label, of_rows in others.items():
    scores = {seed: known_scores(made, given[SEEN], of_rows) for seed, made in seeds.items()}
    found = {seed: known_predictions(given[SEEN], each) for seed, each in scores.items()}
    parts.append(frame_of(study, SEEN, label, (history,), given[SEEN], found))
    parts += [
      plain_rows(study, label, seed, log_ratios(given[SEEN], scores[seed] / made.policy.beta))
      for seed, made in seeds.items()
    ]
  if text_users.num_users(given['test']):
    parts.append(new_rows(study, name, given['test'], seeds))
  parts += [cluster_rows(study, name, seed, made) for seed, made in seeds.items()]
  return results.join(parts)


def new_rows(study: Study, name: str, users: Split, seeds: Mapping[int, Trained]) -> pd.DataFrame:
  """Returns the results of a row for new users, after each of the study's shots."""
  differ = differs(next(iter(seeds.values())))
  shots = study.shots if differ else study.shots[:1]

  new = {
    seed: adaptation.evaluate(
      made.policy.learner,
      made.params,
      *users,
      shots=shots,
      chunk_size=CHUNK,
      key=jax.random.key(0),
    )
    for seed, made in seeds.items()
  }
  return frame_of(study, 'test', name, shots, users, new)


def differs(made: Trained) -> bool:
  """Tells whether a policy has soft tokens of each user."""
  return bool({'offsets', 'logits'} & set(made.params['users']))


def known_scores(made: Trained, split: Split, rows: Int[np.ndarray, 'U']) -> Float[Array, 'U N K']:
  """Returns the scores of the candidates of users' queries as if their rows were `rows`."""
  score = functools.partial(_score, made.policy.state_of, made.policy.learner.score)
  return score(made.params, split.tasks, jnp.asarray(rows, jnp.int32))


def known_predictions(split: Split, scores: Float[Array, 'U N K']) -> Predictions:
  """Returns what scores of users' queries predict: [1, U, ...]."""
  log_p = choice_model.log_probs(scores, split.tasks.query.candidates.mask)
  return Predictions(log_p[None], jnp.zeros((1, len(scores), 0, scores.shape[-1]), jnp.float32))


def log_ratios(split: Split, found: Float[Array, 'U N K']) -> dict[str, float]:
  """Returns the mean log π(y|x,u) - log π_ref(y|x) of what was chosen and of what was not, in nats.

  A policy that tells the two apart may find both less likely than the reference does:
  `chosen_log_ratio` below 0.

  Args:
    split: users.
    found: the log-ratio of each candidate of their queries.
  """
  given = split.tasks.query
  mask = given.candidates.mask & given.mask[..., None]
  is_chosen = jax.nn.one_hot(given.choice, mask.shape[-1], dtype=bool)
  return {
    f'{name}_log_ratio': float(masked.mean(found, mask & which))
    for name, which in (('chosen', is_chosen), ('rejected', ~is_chosen))
  }


@functools.partial(jax.jit, static_argnums=(0, 1))
def _score(state_of, score, params, tasks, rows):
  def one(given):
    row, context, query = given
    return score(params, state_of(params, row, context), query.candidates)

  return jax.lax.map(one, (rows, tasks.context, tasks.query), batch_size=CHUNK)


def frame_of(
  study: Study,
  split: str,
  label: str,
  shots: Sequence[int],
  users: Split,
  found: Mapping[int, Predictions],
) -> pd.DataFrame:
  """Returns the rows of one learner on one split: all users, and each group with an @.

  Intervals are for new users and new questions.

  Args:
    study: the users of all splits.
    split: SEEN or 'test'.
    label: of the learner.
    shots: of the predictions.
    users: of the split.
    found: seed -> predictions.
  """
  made = jax.device_get(dict(found))
  parts = []
  groups = {name: np.flatnonzero(own[split]) for name, own in study.groups.items()}
  everyone, asked = np.arange(text_users.num_users(users)), questions_of(study.splits[split])
  for group, index in {'': everyone, **groups}.items():
    if len(index) < 2:
      continue
    chosen = jax.tree.map(lambda x, own=index: np.asarray(x)[own], users)
    items = asked[index] if asked is not None and chosen.truth is None else None
    evaluated = estimates.evaluation_set(chosen.tasks, chosen.truth, items=items)
    by_seed = {
      str(seed): named(
        estimates.estimate(evaluated, jax.tree.map(lambda x, own=index: x[:, own], one)), group
      )
      for seed, one in made.items()
    }
    parts += rows_of(study, split, label, shots, evaluated, by_seed)
  return results.join(parts)


def questions_of(users: Split) -> Int[np.ndarray, 'U N 1'] | None:
  """Returns the number of the question of each comparison, by its tokens: users may share some.

  None of features that hold no texts.
  """
  features = users.tasks.query.candidates.features
  if not isinstance(features, dict):
    return None
  prompts = np.asarray(features['prompt'])[:, :, 0]
  numbers = np.unique(prompts.reshape(-1, prompts.shape[-1]), axis=0, return_inverse=True)[1]
  return numbers.reshape(*prompts.shape[:2], 1)


def named(found: Estimates, group: str) -> Estimates:
  """Returns METRICS alone, with the name of the group."""
  return {f'{name}@{group}' if group else name: found[name] for name in METRICS}


def rows_of(
  study: Study,
  split: str,
  label: str,
  shots: Sequence[int],
  evaluated: EvaluationSet,
  by_seed: Mapping[str, Estimates],
) -> list[pd.DataFrame]:
  """Returns the rows of each seed, and of their mean where there are several."""
  labels = labels_of(study, split, label)
  sizes = evaluated.sizes
  parts = [
    results.rows(found, shots, {**labels, 'seed': seed}, **sizes) for seed, found in by_seed.items()
  ]
  if len(by_seed) > 1:
    mean = estimates.average(list(by_seed.values()), label)
    overall = {**labels, 'seed': results.ALL_SEEDS}
    parts.append(results.rows(mean, shots, overall, num_seeds=len(by_seed), **sizes))
  return parts


def labels_of(study: Study, split: str, label: str) -> dict[str, Any]:
  """Returns the columns that all rows of a learner share."""
  size = study.splits['train'].tasks.support.choice.shape[1]
  return {
    'protocol': study.name,
    'population': 'text_users',
    'split': split,
    'learner': label,
    'train_shots': size,
    'train_steps': study.training.num_steps,
  }


def cluster_rows(study: Study, name: str, seed: int, made: Trained) -> pd.DataFrame:
  """Returns the effective number of clusters, and how far they are the true types."""
  logits = made.params['users'].get('logits')
  if logits is None:
    return results.join([])
  known = jnp.asarray(logits)[:-1]
  found = {'effective_clusters': float(user_model.effective_clusters(known))}
  if study.types is not None:
    assigned = np.asarray(known).argmax(-1)
    found['adjusted_rand'] = clusters.adjusted_rand(assigned, study.types)
  return plain_rows(study, name, seed, found)


def plain_rows(study: Study, name: str, seed: int, found: Mapping[str, float]) -> pd.DataFrame:
  """Returns numbers of the known users that have no intervals, as rows of the results."""
  labels = {**labels_of(study, SEEN, name), 'seed': seed}
  return pd.DataFrame(
    {
      **{column: results.text_of(labels.get(column)) for column in results.LABELS},
      'shots': results.text_of(labels['train_shots']),
      'metric': list(found),
      'value': list(found.values()),
      'ci_low': np.nan,
      'ci_high': np.nan,
      'num_users': study.num_users,
    }
  )
