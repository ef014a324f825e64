"""Published sequential recommenders, trained and tested on the rows of our leave-one-out benchmarks.

Written here from the papers: no maintained library has all three. RecTools has SASRec and HSTU, for an older NumPy.
"""
