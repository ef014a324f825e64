"""Retrieval: the item index, the co-visit table, and the candidates they propose."""
