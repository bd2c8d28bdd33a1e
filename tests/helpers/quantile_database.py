"""A quantile database, written after its description."""

import sqlite3
from contextlib import closing

import numpy as np

WORDS = ["the", "cat", "sat", "on", "a", "mat", "<b>", "日本", "\n"]


def made(feature, number, length=7):
    """Token ids and activations, exact in float16."""
    rng = np.random.default_rng((feature, number))
    activations = np.where(rng.random(length) < 0.5, rng.integers(1, 2000, length) / 64, 0)
    activations[rng.integers(length)] = 40 - number  # the peak, and so the order
    return rng.integers(0, len(WORDS), length).tolist(), activations.tolist()


def blob(values, kind):
    return np.array(values, dtype=kind).tobytes()


def quantile_db(folder):
    truth = {}
    with closing(sqlite3.connect(folder / "examples.db")) as db:
        db.execute("CREATE TABLE sequences (sequence_idx INTEGER PRIMARY KEY, token_ids BLOB)")
        db.execute(
            "CREATE TABLE quantile_examples (feature_idx INTEGER, quantile_idx INTEGER, activation REAL, "
            "sequence_idx INTEGER, PRIMARY KEY (feature_idx, sequence_idx))"
        )
        db.execute(
            "CREATE TABLE activation_details (feature_idx INTEGER, sequence_idx INTEGER, positions BLOB, "
            "activation_values BLOB, PRIMARY KEY (feature_idx, sequence_idx))"
        )
        for feature in (3, 7, 1000):
            truth[feature] = []
            for number in range(4):
                ids, activations = made(feature, number)
                sequence, quantile = feature * 10 + number, 4 - number
                places = [i for i, a in enumerate(activations) if a][::-1]  # in no order
                db.execute("INSERT INTO sequences VALUES (?, ?)", (sequence, blob(ids, "<i4")))
                db.execute(
                    "INSERT INTO quantile_examples VALUES (?, ?, ?, ?)", (feature, quantile, max(activations), sequence)
                )
                values = (feature, sequence, blob(places, "<i4"), blob([activations[i] for i in places], "<f4"))
                db.execute("INSERT INTO activation_details VALUES (?, ?, ?, ?)", values)
                truth[feature].append((ids, activations, quantile))
        db.commit()
    return folder / "examples.db", truth, {}
