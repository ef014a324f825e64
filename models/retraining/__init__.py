"""The periodic retraining job: feedback in, a release candidate out, the decision announced. Only here do models use
Kafka."""
