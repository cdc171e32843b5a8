import jax
import numpy as np

from experiments import export, runs
from experiments.configs import maml, pretrained
from metapers.data import personal_llm_constants
from metapers.evaluation import adaptation
from metapers.populations import toy
from metapers.serving.personalizer import Comparisons, Personalizer


def test_a_run_is_used_from_its_workdir(tmp_path):
  config = maml.get_config('quick,learner=cnp')
  config.evaluation.shots = (0,)
  config.training.update({'num_steps': 2, 'steps_per_call': 2, 'evaluate_every': 2})
  run = runs.train(config, tmp_path, progress=False)
  export.write(tmp_path, config, run.population, run.params)
  model = Personalizer.from_checkpoint(tmp_path)
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


def test_the_shipped_model_is_that_of_its_config():
  config = pretrained.get_config()
  shipped = Personalizer.load_pretrained().export
  assert shipped.learner == config.learner.name
  assert {'num_features': 10, **config.learner.kwargs.to_dict()} == dict(shipped.kwargs)
  concentrations = config.population.kwargs.concentration
  assert shipped.trained_on['concentration'] == '+'.join(map(str, concentrations))


def test_known_users_are_counted_for_who_needs_them():
  population = toy.two_types(num_features=5, num_users=7)
  assert export.sizes('low_rank', population) == {'num_features': 5, 'num_users': 7}
  assert export.sizes('cnp', population) == {'num_features': 5}
