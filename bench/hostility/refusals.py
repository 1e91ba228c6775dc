"""`python -m bench.hostility.refusals`: measures whether the time that a refusal takes reveals its reason.

The reasons are that a key is missing, unknown, expired or revoked. A key of each kind is looked up among 1,000 keys,
over and over, in a new order each round. For each kind this prints the median time of a lookup, and how often the
lookup took longer than that of the unknown key in the same round. A second unknown key shows how much two keys of the
same kind differ by chance: a few hundredths of a microsecond, if they are in different places of the dictionary.
"""

from __future__ import annotations

import os
import random
import secrets
import statistics
import time

import django

ROUNDS = 50_000
BATCH = 10  # lookups a sample: one alone is near the clock's resolution


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "chatproxy.settings")
    os.environ.setdefault("DJANGO_SECRET_KEY", secrets.token_urlsafe(50))
    django.setup()

    from proxyapi import sealing
    from proxyapi.keys.keyring import Keyring
    from proxyapi.keys.snapshots import FIELDS, Snapshot
    from proxyapi.models import AccessKey

    def record(name: str, text: str, expires_at: float | None = None) -> dict[str, object]:
        key = AccessKey(name=name, digest=sealing.digest(text))
        return {**{field: getattr(key, field) for field in FIELDS}, "expires_at": expires_at}

    def text() -> str:
        return f"cp-{secrets.token_urlsafe(32)}"

    expired, revoked = text(), text()  # a revoked key is not in the snapshot
    keyring = Keyring()
    keyring._replace_keys(
        Snapshot("", 0.0, [record("expired", expired, 1.0), *(record(str(n), text()) for n in range(1000))])
    )
    kinds = {"unknown": text(), "missing": "", "expired": expired, "revoked": revoked, "unknown too": text()}
    samples: dict[str, list[int]] = {kind: [] for kind in kinds}
    order = list(kinds.items())
    for _ in range(ROUNDS):
        random.shuffle(order)
        for kind, given in order:
            began = time.perf_counter_ns()
            for _ in range(BATCH):
                keyring.find(given)
            samples[kind].append(time.perf_counter_ns() - began)
    for kind, taken in samples.items():
        pairs = list(zip(taken, samples["unknown"], strict=True))
        longer = statistics.mean((one > other) + (one == other) / 2 for one, other in pairs)
        print(f"{kind:<14}{statistics.median(taken) / BATCH / 1000:6.3f} µs{longer:10.1%} longer")


if __name__ == "__main__":
    main()
