"""The references of a table: what could be known of the users, and so what is left to learn."""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np

from metapers.bench.plan import Evaluation, MakePopulation
from metapers.bench.settings import Setting
from metapers.core.population import Population, UserModel
from metapers.evaluation import adaptation, streams
from metapers.evaluation.bayes import references
from metapers.evaluation.predictions import Predictions

Make = Callable[[Setting], Predictions]
