"""A logistic regression per user, in NumPy: python numpy_example.py EPISODES predictions.parquet"""

import json
import pathlib
import sys

import numpy as np
import pandas as pd

episodes, tables = pathlib.Path(sys.argv[1]), []
for condition in json.loads((episodes / 'manifest.json').read_text())['conditions']:
  test = np.load(episodes / condition['name'] / 'test.npz')
  support, query = (
    np.diff(test[f'{part}_features'], axis=2)[:, :, 0] for part in ('support', 'query')
  )
  count = np.cumsum(test['support_mask'], 1)  # 1 at the first real comparison of a user
  user, number, candidate = np.nonzero(test['query_shown'] & test['query_mask'][..., None])
  for shots in test['shots']:
    given = test['support_weight'] * (count <= shots)  # 0 where nothing is real
    weights = np.zeros((len(support), support.shape[-1]))
    for _ in range(20):  # Newton's method, for all users at once
      p = 1 / (1 + np.exp(-np.einsum('tnd,td->tn', support, weights)))
      slope = np.einsum('tnd,tn->td', support, given * (test['support_choice'] - p)) - weights
      curvature = np.einsum('tnd,tn,tne->tde', support, given * p * (1 - p), support)
      curvature += np.eye(weights.shape[-1])  # of the ridge penalty |weights|² / 2
      weights += np.linalg.solve(curvature, slope[..., None])[..., 0]
    p = 1 / (1 + np.exp(-np.einsum('tnd,td->tn', query, weights)))
    probability = np.stack([1 - p, p], -1)[user, number, candidate]
    table = pd.DataFrame({'user': user, 'query': number, 'candidate': candidate})
    tables.append(table.assign(condition=condition['name'], shots=shots, probability=probability))
pd.concat(tables).to_parquet(sys.argv[2], index=False)
