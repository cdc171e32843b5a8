"""Strict settings for every test: no silent broadcasting of ranks, warnings are errors."""

import jax

jax.config.update('jax_numpy_rank_promotion', 'raise')
