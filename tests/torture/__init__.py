"""Trainings killed, starved and kept running: `make torture`, and a short form in tests."""
