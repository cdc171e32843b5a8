"""Language models as rows of tables: in-context learning, P-DPO, steering, judges of replies."""
