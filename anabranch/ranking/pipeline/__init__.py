"""The ranking pipeline: one batch of events in, one ranking and one feedback an event out."""
