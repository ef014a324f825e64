"""A client of `anabranch collect` and `anabranch serve`, for programs in Python.

from anabranch.client.collector import CollectorClient
from anabranch.client.recommender import RecommenderClient

with CollectorClient("http://127.0.0.1:8000", key=KEY) as collector:
    collector.send([Event(event_id="e1", user_id="u1", type="view", ts=1700000000000, item_id="i42")])
with RecommenderClient("http://127.0.0.1:8001", key=KEY) as recommender:
    items = recommender.recommendations("u1", limit=5).items
"""
