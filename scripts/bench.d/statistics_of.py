"""Medians of rounds, and how sure they are."""

import random
import statistics


def median(values):
    return statistics.median(values) if values else None


def interval(values, draws=2000):
    """The 95 % bootstrap interval of the median; seeded, so that a record can be computed again."""
    if not values:
        return None
    source = random.Random(1)
    medians = sorted(statistics.median(source.choices(values, k=len(values))) for _ in range(draws))
    return [medians[int(draws * 0.025)], medians[int(draws * 0.975) - 1]]


def summary(values, digits=3):
    """Median, interval and extremes, rounded for a record."""
    if not values:
        return None
    low, high = interval(values)
    numbers = {"median": median(values), "low95": low, "high95": high, "min": min(values), "max": max(values)}
    return {name: round(value, digits) for name, value in numbers.items()} | {"rounds": len(values)}
