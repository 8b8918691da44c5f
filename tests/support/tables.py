"""Tables with categories."""

import numpy as np
import pandas as pd


def make_table(n_rows=200, seed=0):
    """A frame with numbers, text, booleans and a categorical column, all related."""
    rng = np.random.default_rng(seed)
    of = rng.standard_normal((n_rows, 2))
    noise = 0.1 * rng.standard_normal((n_rows, 3))
    city = np.array(["Rome", "Oslo", "Bonn", "Nice"], dtype=object)
    size = pd.Categorical(np.array(["S", "M", "L"])[np.digitize(of[:, 1], [-0.7, 0.7])])
    return pd.DataFrame(
        {
            "height": 170 + 10 * of[:, 0] + noise[:, 0],
            "city": city[np.digitize(of[:, 0] + noise[:, 1], [-0.8, 0, 0.8])],
            "n": np.rint(20 + 5 * of[:, 1]).astype(np.int64),
            "large": of.sum(axis=1) > 0,
            "size": size.set_categories(["S", "M", "L", "XL"], ordered=True),
        }
    )


def lacking(frame, share=0.15, seed=0):
    """The frame with gaps in all columns; its first row has nothing."""
    is_missing = np.random.default_rng(seed).random(frame.shape) < share
    is_missing[0] = True
    return frame.mask(is_missing).astype({"size": frame["size"].dtype})
