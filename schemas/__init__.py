"""The vocabulary of Sluice: statuses, decisions, requests, errors and other shared types.

Pure: imports nothing else of the project, no driver, no clock, no environment.
"""
