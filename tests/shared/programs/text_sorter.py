"""A text classifier: of which of Python's own packages is a docstring? Two tricks of EDA (Wei & Zou 2019) are flags."""

import argparse
import ast
import json
import sysconfig
from pathlib import Path

import numpy as np
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.linear_model import SGDClassifier

PACKAGES = ("asyncio", "email", "json", "logging", "unittest", "xml")


def docstrings(package):
    """Those of a package of the standard library, of eight words or more, each once and in a fixed order."""
    found = {}
    for path in sorted(Path(sysconfig.get_path("stdlib"), package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                words = (ast.get_docstring(node) or "").split()
                if len(words) >= 8:
                    found[" ".join(words[:40])] = None
    return list(found)


def augmented(words, deletion, swaps, draw):
    """Words without a random share, at least one left, of which some pairs changed places."""
    kept = [w for w in words if draw.random() >= deletion] or [words[draw.integers(len(words))]]
    for _ in range(swaps):
        i, j = draw.integers(len(kept), size=2)
        kept[i], kept[j] = kept[j], kept[i]
    return " ".join(kept)


parser = argparse.ArgumentParser()
parser.add_argument("--seed", type=int, required=True)
parser.add_argument("--out", type=Path, required=True)
parser.add_argument("--epochs", type=int, default=5)
parser.add_argument("--deletion", type=float, default=0.0, help="share of words that are left out")
parser.add_argument("--swap", type=int, default=0, help="pairs of words that change places")
args = parser.parse_args()

draw = np.random.default_rng(args.seed)
pairs = [(text, label) for label, package in enumerate(PACKAGES) for text in docstrings(package)]
order = draw.permutation(len(pairs))
test, train = order[: len(pairs) // 3], order[len(pairs) // 3 :]
label = np.array([pairs[i][1] for i in order])
vectors = HashingVectorizer(n_features=2**14, ngram_range=(1, 2))
model = SGDClassifier(loss="log_loss", random_state=args.seed)
texts = [pairs[i][0].split() for i in train]
for _ in range(args.epochs):
    x = vectors.transform(augmented(words, args.deletion, args.swap, draw) for words in texts)
    model.partial_fit(x, label[len(test) :], classes=range(len(PACKAGES)))
right = model.predict(vectors.transform(pairs[i][0] for i in test)) == label[: len(test)]
args.out.mkdir(parents=True, exist_ok=True)
(args.out / "scores.json").write_text(json.dumps({"test": {"accuracy": right.mean(), "texts": len(test)}}))
