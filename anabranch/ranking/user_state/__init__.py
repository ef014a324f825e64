"""User states: the columns and block lists of every user, and how one event updates them."""
