"""Requests and answers of both servers, as the servers and `anabranch.client` have them."""
