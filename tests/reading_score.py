"""How many lines composed of MNIST's test digits a network reads, in more pictures than the tests.

``MNIST_ZOO_DATA=… python tests/reading_score.py digitnet_committee spaced=2000 rows=500`` prints a
line for each kind; the network is the committee or one with pretrained weights.
"""

import argparse
import math

import numpy as np
from reading_cases import lines_read, writers

from mnist_zoo import digitnet_committee, get_model


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("network")
    parser.add_argument("counts", nargs="+", metavar="kind=count", help="number of pictures")
    arguments = parser.parse_args()
    is_committee = arguments.network == "digitnet_committee"
    model = digitnet_committee() if is_committee else get_model(arguments.network, weights="mnist")
    for kind, count in (each.split("=") for each in arguments.counts):
        right = lines_read(model, kind, writers("test"), int(count), seed=0)
        share = np.mean(right)
        error = math.sqrt(share * (1 - share) / len(right))
        print(f"{kind}: {share:.2%} ± {error:.2%} of {len(right):,} lines", flush=True)


if __name__ == "__main__":
    main()
