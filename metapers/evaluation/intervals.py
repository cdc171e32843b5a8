"""Intervals from resamples: variances of what differs, the skewness that is beyond chance, t.

    interval = value - √V T(±t),   T(z) = 3/(2g) log(1 + 2g/3 (z - g/6)),   T(z) = z where g = 0

`bootstrap` tells what V is made of, and t has Satterthwaite's degrees of freedom. g is the skewness
of the estimate. Where few observations decide it, such as those on which two learners differ, it is
skewed, and so is V with it: a symmetric interval around the few that were seen is too short.

References:
  Satterthwaite 1946 (Biometrics Bulletin 2: the degrees of freedom of a sum of variances); Zhou and
  Dinh 2005 (Biostatistics 6: the transformation of a skewed t, after Hall 1992, JRSS B 54). Unlike
  theirs, g is taken from resamples, less what chance makes of it, and is at most 1/t.
"""

from typing import NamedTuple

import numpy as np
from scipy import special

from metapers.core.types import Float
from metapers.evaluation import bootstrap

ROUNDING = 1e-5  # of weights in 32 bits: an interval that is narrower has no width
NORMAL = 1.96  # standard errors of half a 95 % interval, by the normal distribution
MANY = 10**6  # prompts, of which the number does not matter
SYMMETRIC = 1e-6  # a skewness of less is none


class Variances(NamedTuple):
  """Of an estimate by what differs, each [L]; `cells` is what `users` and `prompts` both hold."""

  users: Float[np.ndarray, 'L']
  prompts: Float[np.ndarray, 'L']
  cells: Float[np.ndarray, 'L']
  seeds: Float[np.ndarray, 'L']


def variances(
  samples: Float[np.ndarray, 'J L'], num_users: int, num_prompts: int = MANY, num_items: int = 1
) -> Variances:
  """Returns the variance of the rows of each kind, NaN passed over: what `bootstrap` adds up.

  Things drawn out of n with replacement vary by (n - 1)/n of what new ones do: n/(n - 1) mends it.

  Args:
    samples: row 0 the estimate, the others its resamples.
    num_users: T.
    num_prompts: P, or of items; nothing depends on it where they are not drawn.
    num_items: K where items were drawn, else 1.
  """
  users, prompts, both, seeds = (variance(samples[own]) for own in bootstrap.kinds(len(samples)))
  prompts = anew(num_prompts) * prompts - (1 - 1 / num_items) * both
  return Variances(anew(num_users) * users, prompts, both / num_items, seeds)


def variance(rows: Float[np.ndarray, 'R L']) -> Float[np.ndarray, 'L']:
  """Returns the unbiased variance over the rows that are not NaN; NaN where fewer than two are."""
  away, size = centred(rows)
  return np.square(away).sum(0) / bootstrap.nan_if_none(np.maximum(size - 1, 0))


def centred(rows: Float[np.ndarray, 'R L']) -> tuple[np.ndarray, np.ndarray]:
  """Returns rows less their mean, 0 where they are NaN, and how many are not: [R, L], [L]."""
  there = ~np.isnan(rows)
  size = there.sum(0)
  away = np.where(there, rows, 0).astype(np.float64)
  away -= there * (away.sum(0) / np.maximum(size, 1))
  return away, size


def anew(size: int) -> float:
  """Returns n/(n - 1): how much more new things vary than those drawn out of n again."""
  return size / max(size - 1, 1)


def interval(
  samples: Float[np.ndarray, 'J L'],
  num_users: int,
  *,
  num_prompts: int = MANY,
  num_seeds: int = 1,
  num_items: int = 1,
  level: float = 0.95,
) -> Float[np.ndarray, '3 L']:
  """Returns value, low and high: the value - √V T(±t).

  The degrees of freedom of t are Satterthwaite's, V² / Σ_k (V_k² / n_k), with n = T - 1 for users,
  P - 1 for prompts and S - 1 for seeds; what users and prompts both hold is taken from each by
  half. Few prompts, or two close seeds, do not make sure.

  Args:
    samples: row 0 the estimate, the others its resamples.
    num_users: T.
    num_prompts: P, or of items; nothing depends on it where users alone were drawn.
    num_seeds: S, the fewest that a learner with several was trained with.
    num_items: K where items were drawn, 1 where prompts or users alone.
    level: of the interval.
  """
  users, prompts, both, seeds = variances(samples, num_users, num_prompts, num_items)
  prompts = np.maximum(prompts, 0)
  both = np.minimum(both, np.minimum(users, prompts))  # at least the larger of them is left
  parts = np.stack([users - both / 2, prompts - both / 2, seeds])
  total = parts.sum(0)
  sizes = np.maximum([num_users - 1, num_prompts - 1, num_seeds - 1], 1)[:, None]
  shares = parts / np.where(total > 0, total, 1)
  freedom = 1 / np.where(total > 0, np.square(shares) / sizes, 1).sum(0)
  t, sd = special.stdtrit(freedom, (1 + level) / 2), np.sqrt(total)
  g = np.clip(third_cumulant(samples) / np.where(total > 0, sd * total, 1), -1 / t, 1 / t)
  ends = [samples[0] - sd * untransformed(z, g) for z in (t, -t)]
  return np.stack([samples[0], *ends])


def third_cumulant(samples: Float[np.ndarray, 'J L']) -> Float[np.ndarray, 'L']:
  """Returns the third cumulant of an estimate, less what chance makes of it.

  Of R rows of one kind whose variance is V, (mean of their cubes) κ has itself, where nothing is
  skewed, a variance of 6 V³ / R, so that κ (1 - 6 V³ / (R κ²)) is left of it, or 0. Both users and
  prompts hold that of the cells, whose rows, each twice or never, show none: the larger counts.
  Rows of items show a comparison of K items K times: too much rather than too little.

  Args:
    samples: row 0 the estimate, the others its resamples.
  """
  rows = bootstrap.kinds(len(samples))
  users, prompts = (beyond_chance(samples[own]) for own in (rows.users, rows.prompts))
  return np.where(np.abs(users) > np.abs(prompts), users, prompts)


def beyond_chance(rows: Float[np.ndarray, 'R L']) -> Float[np.ndarray, 'L']:
  """Returns κ (1 - 6 V³ / (R κ²)) of the rows that are not NaN, or 0 where that is less."""
  away, size = centred(rows)
  size = np.maximum(size, 1)
  cube, chance = (away**3).sum(0) / size, 6 * (np.square(away).sum(0) / size) ** 3 / size
  is_clear = cube**2 > chance
  return np.where(is_clear, cube - chance / np.where(is_clear, cube, 1), 0)


def untransformed(z: Float[np.ndarray, 'L'], g: Float[np.ndarray, 'L']) -> Float[np.ndarray, 'L']:
  """Returns T(z), the t of a mean whose skewness is g where that of a normal one is z."""
  is_skewed = np.abs(g) > SYMMETRIC
  slope = np.where(is_skewed, 2 * g / 3, 0)
  return np.where(is_skewed, np.log1p(slope * (z - g / 6)) / np.where(is_skewed, slope, 1), z)


def share_interval(
  samples: Float[np.ndarray, 'J L'], num_users: int, *, level: float = 0.95, **sizes: int
) -> Float[np.ndarray, '3 L']:
  """Returns value, low and high of a share, for which no sample is certain.

  Where no resample differs, as of users of whom all are always predicted right, `interval` has no
  width, but new users may still be others. With certainty `level` less than q of them are (the rule
  of three: about 3/T), and those by no more than down to 0 or up to 1:

      low = (1 - q) value,   high = value + q (1 - value),   q = 1 - (1 - level)^(1/T)

  Args:
    samples: of a mean over users of what lies in [0, 1].
    num_users: T.
    level: of the interval.
    **sizes: the others of `interval`.
  """
  value, low, high = interval(samples, num_users, level=level, **sizes)
  unseen = 1 - (1 - level) ** (1 / max(num_users, 1))
  is_flat = high - low < ROUNDING
  low = np.where(is_flat, (1 - unseen) * value, low)
  return np.stack([value, low, np.where(is_flat, value + unseen * (1 - value), high)])


def student(size: int, level: float = 0.95) -> float:
  """Returns how many resampled standard deviations of a mean of `size` things reach to a bound.

  Student's t with size - 1 degrees of freedom times √(size / (size - 1)), as in `interval`.
  """
  freedom = max(size - 1, 1)
  return float(special.stdtrit(freedom, (1 + level) / 2) * np.sqrt(anew(size)))


def of_fewer(size: int, num_users: int) -> float:
  """Returns by how much more rows of some of the users must differ, since `interval` reads T.

  Args:
    size: of these users; fewer than two count as two.
    num_users: T.
  """
  return student(max(2, size)) / student(num_users)
