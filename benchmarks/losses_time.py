"""Seconds of the preference losses, their gradients and a step's metrics, next to those of a step.

    python -m benchmarks.losses_time

Measures the losses again and updates them in results/train.json. The step they are compared with is the one in that
file.
"""

import json

from benchmarks.harness.environment import RESULTS, now
from benchmarks.harness.losses import loss_rows

RESULT = RESULTS / "train.json"


def main() -> None:
    result = json.loads(RESULT.read_text())
    result |= {"loss_date": now(), "loss": loss_rows(result)}
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    for row in result["loss"]:
        print(f"{row['loss']:12} {row['n']:3} {1e3 * row['seconds']:6.1f} ms {row['share']:.2%}")


if __name__ == "__main__":
    main()
