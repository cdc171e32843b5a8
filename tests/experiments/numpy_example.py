"""A logistic regression per user, in NumPy: python numpy_example.py EPISODES predictions.parquet"""

import json
import pathlib
import sys

import numpy as np
import pandas as pd

episodes, tables = pathlib.Path(sys.argv[1]), []
for condition in json.loads((episodes / 'manifest.json').read_text())['conditions']:
  test = np.load(episodes / condition['name'] / 'test.npz')
  given, wanted = (
    np.diff(test[f'{part}_features'], axis=2)[:, :, 0] for part in ('support', 'query')
  )
  count = np.cumsum(test['support_mask'], 1)  # 1 at the first real comparison of a user
  user, query, candidate = np.nonzero(test['query_shown'] & test['query_mask'][..., None])
  for shots in test['shots']:
    counted = test['support_weight'] * (count <= shots)  # 0 where nothing is real
    preference = np.zeros((len(given), given.shape[-1]))
    for _ in range(20):  # Newton's method, for all users at once
      p = 1 / (1 + np.exp(-np.einsum('tnd,td->tn', given, preference)))
      slope = np.einsum('tnd,tn->td', given, counted * (test['support_choice'] - p)) - preference
      curvature = np.einsum('tnd,tn,tne->tde', given, counted * p * (1 - p), given)
      curvature += np.eye(preference.shape[-1])  # of the ridge penalty |preference|² / 2
      preference += np.linalg.solve(curvature, slope[..., None])[..., 0]
    p = 1 / (1 + np.exp(-np.einsum('tnd,td->tn', wanted, preference)))
    probability = np.stack([1 - p, p], -1)[user, query, candidate]
    table = pd.DataFrame({'user': user, 'query': query, 'candidate': candidate})
    tables.append(table.assign(condition=condition['name'], shots=shots, probability=probability))
pd.concat(tables).to_parquet(sys.argv[2], index=False)
