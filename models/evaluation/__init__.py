"""How good a ranker is: metrics, baselines, the prequential account, and a release driven offline."""
