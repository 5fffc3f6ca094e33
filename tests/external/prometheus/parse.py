"""Reads /metrics in both forms with the parsers of prometheus_client, and checks what no parser checks."""

import sys
import urllib.request

from prometheus_client import openmetrics, parser
from prometheus_client.openmetrics import parser as _  # The submodule is not loaded by its package.

# What differs from one scrape to the next.
RESTLESS = ("age_seconds", "lag_seconds", "memory_bytes", "scrape_duration", "queue_", "active_")


def fetch(accept):
    request = urllib.request.Request(sys.argv[1], headers={"Accept": accept})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return answer.headers["Content-Type"], answer.read().decode()


def samples(families):
    found = {}
    for family in families:
        for sample in family.samples:
            key = (sample.name, tuple(sorted(sample.labels.items())))
            assert key not in found, f"twice: {key}"
            found[key] = sample.value
    return found


def check_histograms(found):
    """Buckets grow, and the last one is the count."""
    buckets = {}
    for (name, labels), value in found.items():
        if name.endswith("_bucket"):
            rest = tuple(pair for pair in labels if pair[0] != "le")
            end = float(dict(labels)["le"])
            buckets.setdefault((name.removesuffix("_bucket"), rest), []).append((end, value))
    for (name, labels), counts in buckets.items():
        counts.sort()
        values = [value for _, value in counts]
        assert values == sorted(values), f"{name} {labels}: {counts}"
        assert counts[-1] == (float("inf"), found[(f"{name}_count", labels)]), f"{name} {labels}"
        assert found[(f"{name}_sum", labels)] >= 0
    return len(buckets)


def main():
    kind, text = fetch("application/openmetrics-text; version=1.0.0")
    assert kind.startswith("application/openmetrics-text"), kind
    new = samples(openmetrics.parser.text_string_to_metric_families(text))
    kind, text = fetch("text/plain")
    assert kind.startswith("text/plain"), kind
    old = samples(parser.text_string_to_metric_families(text))
    histograms = check_histograms(new)
    assert check_histograms(old) == histograms > 2
    steady = [key for key in new if not any(part in key[0] for part in RESTLESS)]
    differ = [key for key in steady if new[key] != old.get(key)]
    print(f"{len(new)} and {len(old)} samples, {histograms} distributions, {len(differ)} differ")
    for key in differ:
        print(key, new[key], old.get(key))
    assert new.keys() == old.keys(), new.keys() ^ old.keys()


main()
