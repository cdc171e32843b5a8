"""What a finished run leaves for use."""

import jax
import numpy as np
import pytest

from experiments.configs import pretrained
from metapers import bench, learners
from metapers.bench import plan, runs, stored_populations
from metapers.data import personal_llm_constants
from metapers.evaluation import adaptation
from metapers.populations import toy
from metapers.serving import exports
from metapers.serving.personalizer import Comparisons, Personalizer
from metapers.training import objectives

SHORT = bench.Training(num_steps=2, batch_size=8, chunk_size=8, steps_per_call=2)
SMALL = bench.Evaluation(shots=(0,), num_validation_users=4)


def entry(name):
  return bench.Entry(learners.factory('cnp'), {'hidden': 8, 'width': 4}, name, SHORT)


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
  """Returns a run on users of ten reward models, and its workdir."""
  workdir = tmp_path_factory.mktemp('run') / 'workdir'
  population = stored_populations.reward_ensemble(
    num_support=4, num_query=5, num_slates=0, num_held_out=4
  )
  made = entry('cnp')
  return runs.train(made, population, evaluation=SMALL, workdir=workdir, progress=False), workdir


def test_a_run_is_used_from_its_workdir(finished):
  run, workdir = finished
  model = Personalizer.from_checkpoint(workdir)
  tasks, _ = adaptation.episodes(run.population, split='test', num_users=3)
  mean, scale = run.population.scaling
  support, query = (
    np.asarray(part.candidates.features) * scale + mean for part in (tasks.support, tasks.query)
  )
  people = model.adapt(Comparisons(support, np.asarray(tasks.support.choice)))
  shots = (run.population.spec.num_support,)
  expected = adaptation.evaluate(run.learner, run.params, tasks, shots=shots, key=jax.random.key(0))
  found = model.probability(people, query[..., 0, :], query[..., 1, :])
  np.testing.assert_allclose(found, np.exp(expected.log_probs[0, ..., 0]), atol=5e-3)
  assert model.export.feature_names == tuple(personal_llm_constants.REWARD_MODELS)
  assert model.export.trained_on['source'] == run.population.source


def test_a_run_goes_on_where_it_stood(finished):
  run, workdir = finished
  again = runs.train(
    entry('cnp'), run.population, evaluation=SMALL, workdir=workdir, progress=False
  )
  assert again.was_done
  jax.tree.map(np.testing.assert_array_equal, again.params, run.params)


def test_an_export_is_written_anew_only_where_it_is_not_whole(finished):
  run, workdir = finished
  path = workdir / exports.FOLDER / exports.PARAMETERS
  before = path.stat()

  def go_on():
    runs.train(entry('cnp'), run.population, evaluation=SMALL, workdir=workdir, progress=False)

  go_on()
  assert path.stat().st_ino == before.st_ino and path.stat().st_mtime_ns == before.st_mtime_ns
  path.write_bytes(b'')
  go_on()
  assert path.stat().st_size == before.st_size
  kept, folder = path.read_bytes(), workdir / exports.FOLDER
  found = exports.read_export(folder)
  shorter = {name: array + 1 for name, array in found.params.items()}
  exports.write_export(folder, found._replace(params=shorter))
  go_on()
  assert path.read_bytes() == kept


def test_a_run_whose_last_checkpoint_is_damaged_was_not_done(finished, tmp_path):
  run, _ = finished
  made = entry('cnp')._replace(training=SHORT._replace(num_steps=4, evaluate_every=2))

  def go_on():
    return runs.train(made, run.population, evaluation=SMALL, workdir=tmp_path, progress=False)

  assert not go_on().was_done
  about = tmp_path / 'checkpoints' / '4' / 'about' / 'metadata'
  about.write_text(about.read_text().replace('"score": -', '"score": -1'))
  assert not go_on().was_done
  assert go_on().was_done


def test_a_learner_without_a_name_is_not_exported(finished, tmp_path):
  run, _ = finished
  nameless = entry('')._replace(training=SHORT._replace(num_steps=0))
  runs.train(nameless, run.population, evaluation=SMALL, workdir=tmp_path, progress=False)
  assert not (tmp_path / exports.FOLDER).exists()


def test_the_shipped_model_is_that_of_its_config():
  config = pretrained.get_config()
  shipped = Personalizer.load_pretrained().export
  assert shipped.learner == config.learner.name
  kwargs = {n: list(x) if isinstance(x, tuple) else x for n, x in config.learner.kwargs.items()}
  assert {'num_features': 10, **kwargs} == dict(shipped.kwargs)
  concentrations = config.population.kwargs.concentration
  assert shipped.trained_on['concentration'] == '+'.join(f'{value:g}' for value in concentrations)


def test_known_users_are_counted_for_learners_that_need_them():
  spec = toy.two_types(num_features=5, num_users=7).spec
  assert plan.sizes(learners.factory('low_rank'), spec) == {'num_features': 5, 'num_users': 7}
  assert plan.sizes(learners.factory('cnp'), spec) == {'num_features': 5}


@pytest.mark.parametrize('objective', [objectives.group_dro(), objectives.group_invariant()])
def test_groups_of_users_who_have_none_are_refused_before_anything_is_trained(objective):
  made = bench.Entry(learners.factory('pooled'), training=bench.Training(objective=objective))
  with pytest.raises(ValueError, match='mine: an objective over groups of users'):
    runs.check_training(made, toy.two_types(), 'mine')
