"""A logistic regression per user, in NumPy: python numpy_example.py EPISODES predictions.parquet"""

import json
import pathlib
import sys

import numpy as np
import pandas as pd

episodes, tables = pathlib.Path(sys.argv[1]), []
for condition in json.loads((episodes / 'manifest.json').read_text())['conditions']:
  test = np.load(episodes / condition['name'] / 'test.npz')
  told, asked = (
    np.diff(test[f'{part}_features'], axis=2)[:, :, 0] for part in ('support', 'query')
  )
  count = np.cumsum(test['support_mask'], 1)  # 1 at the first real comparison of a user
  user, query, candidate = np.nonzero(test['query_shown'] & test['query_mask'][..., None])
  for shots in test['shots']:
    real = test['support_mask'] & (count <= shots)
    taste = np.zeros((len(told), told.shape[-1]))
    for _ in range(20):  # Newton's method, for all users at once
      p = 1 / (1 + np.exp(-np.einsum('tnd,td->tn', told, taste)))
      slope = np.einsum('tnd,tn->td', told, real * (test['support_choice'] - p)) - taste
      curvature = np.einsum('tnd,tn,tne->tde', told, real * p * (1 - p), told)
      curvature += np.eye(taste.shape[-1])  # of the ridge penalty |taste|² / 2
      taste += np.linalg.solve(curvature, slope[..., None])[..., 0]
    p = 1 / (1 + np.exp(-np.einsum('tnd,td->tn', asked, taste)))
    probability = np.stack([1 - p, p], -1)[user, query, candidate]
    table = pd.DataFrame({'user': user, 'query': query, 'candidate': candidate})
    tables.append(table.assign(condition=condition['name'], shots=shots, probability=probability))
pd.concat(tables).to_parquet(sys.argv[2], index=False)
