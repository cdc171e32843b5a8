import jax
import jax.numpy as jnp
import numpy as np

from metapers import learners
from metapers.core import choice_model, task
from metapers.core.task import Candidates
from metapers.learners import neural_process
from metapers.populations import toy


def test_a_token_is_chosen_minus_mean_of_the_others():
  embedding = jnp.array([[[1.0], [2.0], [6.0]], [[5.0], [7.0], [9.0]]])
  mask = jnp.array([[True, True, True], [True, True, False]])
  comparisons = task.choices(
    Candidates(embedding, mask), jnp.array([2, 0]), jnp.array([True, True])
  )
  np.testing.assert_allclose(neural_process.tokens(embedding, comparisons), [[4.5], [-2.0]])


def test_latent_loss_is_the_marginal_likelihood_of_the_whole_query():
  learner = learners.make('latent_np', num_features=3, hidden=8, width=4, num_samples=5)
  params = learner.init(jax.random.key(0))
  episode, _ = toy.two_types(num_features=3).episode_of((), jnp.asarray(0), 'train')
  key = jax.random.key(1)
  loss, _ = learner.loss(params, episode, key)
  samples = learner.adapt(params, episode.support, episode.context, key)
  decode = neural_process.decoder(3, 8, 4)
  joint = []
  for z in samples:
    scores = decode.apply(params['decoder'], z, episode.query.candidates)
    log_p = choice_model.log_probs(scores, episode.query.candidates.mask)
    joint.append(float(choice_model.chosen_log_probs(log_p, episode.query).sum()))
  expected = -np.log(np.mean(np.exp(joint))) / 16
  assert np.isclose(loss, expected, rtol=1e-4)


def test_latent_state_is_samples_whose_probabilities_are_averaged():
  learner = learners.make('latent_np', num_features=3, hidden=8, width=4, num_samples=5)
  params = learner.init(jax.random.key(0))
  episode, _ = toy.two_types(num_features=3).episode_of((), jnp.asarray(0), 'train')
  state = learner.adapt(params, episode.support, episode.context, jax.random.key(1))
  assert state.shape == (5, 4)
  alone = [jnp.exp(learner.predict(params, z[None], episode.query.candidates)) for z in state]
  together = jnp.exp(learner.predict(params, state, episode.query.candidates))
  np.testing.assert_allclose(together, np.mean(alone, 0), rtol=1e-4)


def test_more_of_the_same_evidence_is_not_the_same():
  learner = learners.make('cnp', num_features=3, hidden=8, width=4)
  params = learner.init(jax.random.key(0))
  episode, _ = toy.two_types(num_features=3).episode_of((), jnp.asarray(0), 'train')
  once = task.with_shots(episode.support, 1)
  twice = task.concat(once, once)
  states = [learner.adapt(params, s, episode.context, jax.random.key(1)) for s in (once, twice)]
  assert not np.allclose(states[0], states[1])
