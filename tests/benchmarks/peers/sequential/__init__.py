"""Published sequential recommenders, trained and tested on the rows of our leave-one-out benchmarks."""
