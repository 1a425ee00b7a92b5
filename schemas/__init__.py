"""The vocabulary of Sluice: what statuses, decisions, requests and errors are.

Pure: imports nothing else of the project, no driver, no clock, no environment.
"""
