"""Linear preferences under a prior of a given form that is estimated from the known users."""

import functools
from collections.abc import Sequence

import jax

from metapers.core import choice_model, meta_learner
from metapers.core.meta_learner import MetaLearner
from metapers.learners import expectation_propagation, options, particle_bank, simplex_prior
from metapers.learners import gaussian_prior as gaussian
from metapers.learners.dirichlet_mixture import refuse_outcomes

INFERENCES = {
  'gaussian': ('laplace', 'ep'),
  'logistic_normal': ('laplace', 'importance'),
  'dirichlet': ('importance',),
}
# Why not the others.
REASONS = {
  ('gaussian', 'importance'): 'with many features too few of its draws agree with a user',
  ('logistic_normal', 'ep'): 'its utilities are not linear in the Gaussian vector, so that a '
  'comparison is no integral in one dimension',
  ('dirichlet', 'ep'): 'it has no Gaussian vector whose contrasts comparisons could be sites of',
  ('dirichlet', 'laplace'): 'with concentrations below 1 its mode is not inside the simplex',
}  # fmt: skip


def empirical_bayes(
  num_features: int,
  outcomes: Sequence[str] = (),
  *,
  prior: str = 'dirichlet',
  inference: str = 'importance',
  signed: bool = True,
  num_particles: int = 2048,
  fit_steps: int = 200,
  fit_learning_rate: float = 0.1,
  inner_steps: int = 8,
  ep_steps: int = 40,
  num_samples: int = 64,
) -> MetaLearner:
  """Returns u(x) = w_u · x with w_u from a prior whose parameters are those of the known users.

  - 'gaussian': w ~ N(m, Σ), by `gaussian_prior`, whose posterior is Laplace's; with
    inference='ep' that of expectation propagation, on pairs.
  - 'dirichlet': w = s p, p ~ Dirichlet(α) on the simplex, α a vector.
  - 'logistic_normal': w = s p, p = softmax(m + R z), z ~ N(0, I).

  The scale s, in which choices are the surer the larger it is, is fitted with the prior, by the
  Monte Carlo marginal likelihood of the known users' histories (`simplex_prior.fit`). By
  'importance' a new user's posterior is the prior's draws, reweighted (`particle_bank`): the very
  draws that the prior was fitted with. By 'laplace' it is a Gaussian of z (`simplex_prior.laplace`)
  and predictions are averages over its draws. No steps of meta-training are needed: `prepare` is
  all.

  Args:
    num_features: D.
    outcomes: kinds of answers beside the plain choice, refused where no weight can be below 0.
    prior: 'dirichlet', 'logistic_normal' or 'gaussian'.
    inference: 'importance' of the first two, 'laplace' of the last two, 'ep' of the last.
    signed: whether the simplex is of 2 D weights, that like and that dislike each feature; else of
      D, for features that nobody dislikes, such as scores.
    num_particles: draws from the prior on the simplex.
    fit_steps: of Adam, by which that prior is fitted.
    fit_learning_rate: of Adam, for logarithms of concentrations and of the scale.
    inner_steps: Newton steps with line search of Laplace's method.
    ep_steps: damped updates of all sites.
    num_samples: draws of `sample`.

  Raises:
    ValueError: for an option out of range or an unknown prior; for an inference that a prior does
      not have, with the reason; for outcomes unless `signed`, of a prior on the simplex; by
      `prepare` for histories without users.

  Reference:
    Robbins 1956; Carlin and Louis 2000, empirical Bayes; Aitchison and Shen 1980 (Biometrika
    67(2)), the logistic-normal; Minka 2000, Dirichlets by maximum likelihood. Unlike there, weights
    are never observed, but choices.
  """
  check(prior, inference)
  options.at_least_one(num_particles=num_particles, fit_steps=fit_steps, num_samples=num_samples)
  options.at_least_one(inner_steps=inner_steps, ep_steps=ep_steps)
  options.positive(fit_learning_rate=fit_learning_rate)
  if prior == 'gaussian':
    made = gaussian.gaussian_prior(num_features, inner_steps=inner_steps, num_samples=num_samples)
    return (
      made if inference == 'laplace' else by_expectation_propagation(made, ep_steps, num_samples)
    )
  if not signed:
    refuse_outcomes('empirical_bayes with signed=False', outcomes)
  family = simplex_prior.FAMILIES[prior]
  width = 2 * num_features if signed else num_features
  draw = functools.partial(simplex_prior.draw_bank, family, num_draws=num_particles, signed=signed)

  def params_of(fitted, key):
    bank = {'bank': draw(fitted, key)} if inference == 'importance' else {}
    return {'prior': fitted} | bank

  def init(key):
    return params_of(family.init(width), key)

  @jax.jit
  def prepare(params, histories, key):
    del params
    gaussian.some_users(histories)
    key_draws, key_users = jax.random.split(key)
    fitted = simplex_prior.fit(
      family,
      family.init(width),
      histories,
      (key_draws, key_users),
      num_draws=num_particles,
      num_steps=fit_steps,
      learning_rate=fit_learning_rate,
      signed=signed,
    )
    return params_of(fitted, key_draws)

  if inference == 'laplace':
    return by_laplace(
      init, prepare, signed=signed, inner_steps=inner_steps, num_samples=num_samples
    )
  return particle_bank.learner(
    init, lambda params, candidates: candidates.features, num_samples=num_samples, prepare=prepare
  )


def check(prior: str, inference: str) -> None:
  """Refuses an unknown prior, and an inference that it does not have.

  Raises:
    ValueError: naming those there are, and why not that one.
  """
  if prior not in INFERENCES:
    raise ValueError(f'unknown prior {prior!r}; known: {", ".join(INFERENCES)}')
  if inference not in INFERENCES[prior]:
    reason = REASONS.get((prior, inference), 'there is none of that name')
    raise ValueError(
      f'prior={prior!r} has no inference={inference!r}: {reason}; choose '
      f'{" or ".join(map(repr, INFERENCES[prior]))}'
    )


def by_expectation_propagation(
  learner: MetaLearner, num_steps: int, num_samples: int
) -> MetaLearner:
  """Returns `gaussian_prior` with the posterior of expectation propagation, of the same form."""

  def adapt(params, support, context, key):
    del context
    return expectation_propagation.approximate(
      *gaussian.parts(params, support.candidates),
      support,
      key,
      num_steps=num_steps,
      num_samples=num_samples,
    )

  return meta_learner.from_adapt_score(
    learner.init,
    adapt,
    learner.score,
    predict=learner.predict,
    sample=learner.sample,
    prepare=learner.prepare,
  )


def by_laplace(init, prepare, *, signed: bool, inner_steps: int, num_samples: int) -> MetaLearner:
  """Returns the learner of a logistic-normal prior whose posterior is `simplex_prior.laplace`."""

  def adapt(params, support, context, key):
    del context
    return simplex_prior.laplace(
      params['prior'],
      support.candidates.features,
      support,
      key,
      signed=signed,
      num_steps=inner_steps,
      num_samples=num_samples,
    )

  def sample(params, user_state, candidates):
    heads = simplex_prior.drawn_heads(params['prior'], user_state, signed=signed)
    return particle_bank.utilities(heads, candidates.features)

  def score(params, user_state, candidates):
    return sample(params, user_state, candidates).mean(0)

  def predict(params, user_state, candidates):
    return choice_model.mean_probability(sample(params, user_state, candidates), candidates.mask)

  return meta_learner.from_adapt_score(
    init, adapt, score, predict=predict, sample=sample, prepare=prepare
  )
