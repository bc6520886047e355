"""A stand-in for timm's train.py with its conventions: flags, summary.csv, args.yaml, last.pth.tar, --resume.

It trains nothing: scores are noise around a number that mixup raises. Unlike timm's, `--ema` does nothing.
"""

# ruff: noqa: T201
import argparse
import csv
import json
import os
import random
import signal
import sys
import time
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("--data-dir", default="")
parser.add_argument("--output", required=True)
parser.add_argument("--experiment", default="run")
parser.add_argument("--seed", type=int, default=42)
parser.add_argument("--epochs", type=int, default=3)
parser.add_argument("--mixup", type=float, default=0.0)
parser.add_argument("--smoothing", type=float, default=0.1)
parser.add_argument("--amp", action="store_true")
parser.add_argument("--ema", action="store_true")
parser.add_argument("--resume", default="")
parser.add_argument("--die-at", type=int, default=-1, help="epoch at which it is killed, once")
parser.add_argument("--fail", default="", help="what it prints before it ends with exit code 3")
parser.add_argument("--sleep", type=float, default=0.0)
args = parser.parse_args()

out = Path(args.output, args.experiment)
out.mkdir(parents=True, exist_ok=True)
print("argv", json.dumps(sys.argv[1:]), "cards", os.environ.get("CUDA_VISIBLE_DEVICES", "-"))
if args.fail:
    print(args.fail)
    sys.exit(3)
first = int(Path(args.resume).read_text()) + 1 if args.resume else 0
(out / "args.yaml").write_text("".join(f"{key}: {value}\n" for key, value in vars(args).items()))
with (out / "summary.csv").open("a", newline="") as file:
    table = csv.writer(file)
    table.writerow(["epoch", "train_loss", "eval_loss", "eval_top1"])  # again after a resume, as timm does
    for epoch in range(first, args.epochs):
        draw = random.Random(1000 * args.seed + epoch)
        score = 70 + epoch + draw.gauss(0, 0.5) + 10 * args.mixup + draw.gauss(0, 0.1) * bool(args.mixup)
        table.writerow([epoch, 2 - epoch / 10 + args.smoothing, 3 - score / 50, score])
        file.flush()
        (out / "last.pth.tar").write_text(str(epoch))
        time.sleep(args.sleep)
        if epoch == args.die_at and not args.resume:
            os.kill(os.getpid(), signal.SIGKILL)
        print(f"Test: [{epoch}] Acc@1 {score:.3f}\r", end="")
print(f"*** Best metric: {score:.4f}")
