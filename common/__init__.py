"""What both methods share; knows neither paper."""
