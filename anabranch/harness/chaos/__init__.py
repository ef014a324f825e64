"""Kills processes and brokers at random under load, then checks the topics for lost, repeated or wrong messages."""
