"""Are label sets right as often as promised, and are pictures of none of the labels recognised?

OMP_NUM_THREADS=1 python -m benchmarks.uncertainty model.onnx [exposed.onnx] --data cifar10-jpeg.tar.xz \
    --mnist mnist-10k-png.tar.xz [--photos DIR]

Prints three tables in Markdown. Label sets: 100 times, a random half of the test pictures chooses temperature and set,
the other half measures. Scores: those that could decide what is known, compared by training pictures, MNIST digits and
generated textures, which are none of the labels. Photographs: how many of those that show none of CIFAR's labels are
accepted where a share of the test pictures is; half of these set the threshold, the other half measure coverage and
accuracy. No choice is made by photographs. Answers are kept in --cache, so that each network runs once.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from benchmarks.outliers import textures
from taijitu_export.comparison.bounds import share_interval
from taijitu_export.decision.conformal import is_covered, set_probability
from taijitu_export.decision.temperature import best_temperature
from taijitu_runtime.answers import scores_from_logits
from taijitu_runtime.bench.conditions import machine
from taijitu_runtime.card import InputSpec, ModelCard
from taijitu_runtime.datasets import PictureSet, read_dataset
from taijitu_runtime.decision.rule import energies
from taijitu_runtime.explain.head import head_of

HALVES, GUARANTEE, TOLERANCE = 100, 95.0, 1.0
COVERAGES = (80, 90, 95)
TRAINING_PICTURES, TEXTURES, BATCH = 20_000, 6000, 64
SHOW_A_LABEL = frozenset(
    (
        # birds
        *("brambling", "ptarmigan", "sulphur-crested_cockatoo", "lorikeet", "red-breasted_merganser"),
        *("little_blue_heron", "ruddy_turnstone", "oystercatcher"),
        # dogs
        *("Chihuahua", "Afghan_hound", "bloodhound", "Weimaraner", "Staffordshire_bullterrier", "Australian_terrier"),
        *("Dandie_Dinmont", "miniature_schnauzer", "soft-coated_wheaten_terrier", "West_Highland_white_terrier"),
        *("curly-coated_retriever", "Gordon_setter", "Brittany_spaniel", "Welsh_springer_spaniel", "kuvasz"),
        *("Shetland_sheepdog", "EntleBucher", "Saint_Bernard", "keeshond", "Cardigan"),
        # a ship, an automobile, a truck
        *("container_ship", "jeep", "tow_truck"),
    )
)
"""Photographs that show one of CIFAR's labels, by their names without the synset."""

Values = NDArray[np.float64]
Score = Callable[["Answers"], Values]


@dataclasses.dataclass(frozen=True)
class Answers:
    """Logits (N, K), averaged last features (N, C), float32, and targets, int64 (N,), -1 without labels."""

    logits: NDArray[np.float32]
    features: NDArray[np.float32]
    targets: NDArray[np.int64]

    @property
    def right(self) -> NDArray[np.bool_]:
        """Whether each first answer is right."""
        return np.asarray(self.logits.argmax(axis=1) == self.targets)

    def at(self, index: NDArray[np.int64]) -> Answers:
        """Return the answers at `index`."""
        return Answers(self.logits[index], self.features[index], self.targets[index])


def main() -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("models", type=Path, nargs="+", help="ONNX files of networks with CIFAR-10's labels")
    parser.add_argument("--data", type=Path, required=True, help="CIFAR-10: folder or tar of train/ and test/")
    parser.add_argument("--mnist", type=Path, required=True, help="folder or tar of MNIST's digits")
    parser.add_argument("--photos", type=Path, help="folder of ImageNet photographs called SYNSET_name.JPEG")
    parser.add_argument("--cache", type=Path, default=Path("build/uncertainty"), help="default: %(default)s")
    args = parser.parse_args()
    print(f"{datetime.now(timezone.utc):%Y-%m-%d}, {machine()}\n")
    runs = [Run(model, args.data, args.mnist, args.cache) for model in args.models]
    print(label_sets(runs[0]))
    print(compared_scores(runs))
    if args.photos:
        print(photographs(runs, args.photos))
    return 0


class Run:
    """One network's answers, and the scores that are computed of them."""

    def __init__(self, model: Path, data: Path, mnist: Path, cache: Path) -> None:
        self.name, self.network, self._cache = model.stem, Network(model), cache
        labels = self.network.card.labels
        found = read_dataset(data)
        assert found.labels == labels
        splits = {role: PictureSet(data, "", s.contents, s.targets, labels) for role, s in found.splits.items()}
        digits = next(iter(read_dataset(mnist).splits.values()))
        self.test = self.answers("test", splits["test"])
        training = self.answers("train", splits["train"].spread(TRAINING_PICTURES))
        mixed = np.random.default_rng(0).permutation(len(training.targets))
        fitting, self.known = training.at(mixed[::2]), training.at(mixed[1::2])
        self.others = {
            "MNIST": self.answers("mnist", PictureSet(mnist, "", digits.contents, None, labels)),
            "textures": self.answers("textures", PictureSet(data, "", textures(TEXTURES), None, labels)),
        }
        self.scores = scores_of(fitting, self.known)

    def answers(self, name: str, pictures: PictureSet) -> Answers:
        """Return the answers to a set of pictures, computed once."""
        path = self._cache / f"{self.network.sha256[:12]}-{name}.npz"
        if not path.exists():
            self._cache.mkdir(parents=True, exist_ok=True)
            logits, features = self.network(pictures)
            targets = np.full(len(logits), -1) if pictures.targets is None else pictures.targets
            np.savez(path, logits=logits, features=features, targets=targets)
        with np.load(path) as kept:
            return Answers(kept["logits"], kept["features"], kept["targets"])


class Network:
    """A network of ONNX Runtime that gives its averaged last features in addition to the logits."""

    def __init__(self, path: Path) -> None:
        content = path.read_bytes()
        self.sha256 = hashlib.sha256(content).hexdigest()
        model = onnx.load_from_string(content)
        self.card = ModelCard.read_onnx_metadata({entry.key: entry.value for entry in model.metadata_props})
        head = head_of(content)
        self._axes = (2, 3) if head.layout == "NCHW" else (1, 2)
        self._outputs = ["logits", head.features]
        model.graph.output.append(onnx.ValueInfoProto(name=head.features))
        self._session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])

    def __call__(self, pictures: PictureSet) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return logits (N, K) and features (N, C)."""
        spec: InputSpec = self.card.input
        batches = [self._session.run(self._outputs, {"images": batch}) for batch in pictures.batches(spec, BATCH)]
        logits, features = ([batch[i] for batch in batches] for i in (0, 1))
        return np.concatenate(logits), np.concatenate([each.mean(axis=self._axes) for each in features])


def scores_of(fitting: Answers, known: Answers) -> dict[str, Score]:
    """Return the scores, larger for known pictures: the distances are those from `fitting`'s pictures.

    The sum is of an energy and a distance with the mean and deviation that `known` pictures have.
    """
    temperature = best_temperature(known.logits, known.targets)
    distance = nearness(fitting)

    def energy(answers: Answers) -> Values:
        return energies(answers.logits, temperature)

    parts = [(score, score(known).mean(), score(known).std()) for score in (energy, distance)]
    return {
        "probability": lambda a: scores_from_logits(a.logits, temperature).probabilities.max(axis=1).astype(np.float64),
        "energy": energy,
        "distance": distance,
        "energy and distance": lambda a: np.sum([(score(a) - mean) / std for score, mean, std in parts], axis=0),
    }


def nearness(fitting: Answers) -> Score:
    """Return minus the Mahalanobis distance to the nearest label, one covariance for all (Lee et al. 2018)."""
    features, targets = fitting.features.astype(np.float64), fitting.targets
    means = np.stack([features[targets == label].mean(axis=0) for label in np.unique(targets)])
    covariance = np.cov((features - means[targets]).T)
    inverse = np.linalg.pinv(covariance, hermitian=True)

    def score(answers: Answers) -> Values:
        gaps = answers.features.astype(np.float64)[:, None] - means
        return np.asarray(-np.einsum("nkc,cd,nkd->nk", gaps, inverse, gaps).min(axis=1))

    return score


def label_sets(run: Run) -> str:
    """Return the table of label sets over random halves."""
    generator, labels = np.random.default_rng(0), range(run.test.logits.shape[1])
    coverages, by_label, sizes = [], [], []
    for _ in range(HALVES):
        mixed = generator.permutation(len(run.test.targets))
        choosing, measuring = (run.test.at(half) for half in np.array_split(mixed, 2))
        temperature = best_temperature(choosing.logits, choosing.targets)
        of_labels = probabilities(choosing, temperature)[np.arange(len(choosing.targets)), choosing.targets]
        found = probabilities(measuring, temperature)
        members = (found >= set_probability(of_labels, GUARANTEE)) | (found == found.max(axis=1, keepdims=True))
        inside = is_covered(members, measuring.targets)
        coverages.append(100 * inside.mean())
        by_label.append([100 * inside[measuring.targets == label].mean() for label in labels])
        sizes.append(members.sum(axis=1).mean())
    near = sum(abs(each - GUARANTEE) <= TOLERANCE for each in coverages)
    rows = ["| label | in its set, mean over the halves | |", "|---|---|---|"]
    for name, share in zip(run.network.card.labels, np.mean(by_label, axis=0)):
        rows.append(f"| {name} | {share:.1f} % | {'' if share >= GUARANTEE - TOLERANCE else 'less than guaranteed'} |")
    text = (
        f"Guaranteed {GUARANTEE:g} %, measured {np.mean(coverages):.2f} % on average over {HALVES} halves, "
        f"{min(coverages):.2f} to {max(coverages):.2f} %, {near} of them within {TOLERANCE:g} point; "
        f"{np.mean(sizes):.2f} labels in a set."
    )
    return "\n".join([f"## Label sets\n\n{text}\n", *rows, ""])


def probabilities(answers: Answers, temperature: float) -> Values:
    """Return probabilities, float64 (N, K)."""
    return scores_from_logits(answers.logits, temperature).probabilities.astype(np.float64)


def compared_scores(runs: list[Run]) -> str:
    """Return the table of scores on training pictures, digits and textures."""
    head = [f"{name}, {coverage} %" for coverage in COVERAGES for name in ("MNIST", "textures")]
    rows = [f"| network | score | {' | '.join(head)} |", "|---|---|" + "---|" * len(head)]
    for run in runs:
        for name, score in run.scores.items():
            thresholds = [np.quantile(score(run.known), 1 - coverage / 100) for coverage in COVERAGES]
            shares = [100 * (score(other) >= each).mean() for each in thresholds for other in run.others.values()]
            rows.append(f"| {run.name} | {name} | {' | '.join(f'{share:.1f} %' for share in shares)} |")
    text = "Accepted pictures of none of the labels, where 80, 90 and 95 % of training pictures are:"
    return "\n".join([f"## Scores\n\n{text}\n", *rows, ""])


def photographs(runs: list[Run], folder: Path) -> str:
    """Return the table of photographs, and the names of those that show one of the labels."""
    files = sorted(folder.glob("*.JPEG"))
    shows = np.array([file.stem.partition("_")[2] in SHOW_A_LABEL for file in files])
    assert shows.sum() == len(SHOW_A_LABEL)
    contents = [str(file) for file in files]
    rows = [
        "| network | score | coverage | accuracy of these | none of the labels | one of the labels |",
        "|---|" + "---|" * 5,
    ]
    for run in runs:
        pictures = PictureSet(folder, "", contents, None, run.network.card.labels)
        found = run.answers("photos", pictures)
        choosing, measuring = (run.test.at(np.arange(start, len(run.test.targets), 2)) for start in (0, 1))
        for name, score in run.scores.items():
            for coverage in COVERAGES:
                threshold = np.quantile(score(choosing), 1 - coverage / 100)
                known, accepted = score(measuring) >= threshold, score(found) >= threshold
                cells = [f"{100 * known.mean():.1f} %", f"{100 * measuring.right[known].mean():.2f} %"]
                cells += [_of(accepted[side]) for side in (~shows, shows)]
                rows.append(f"| {run.name} | {name} | {' | '.join(cells)} |")
    listed = ", ".join(file.stem.partition("_")[2] for file in files if file.stem.partition("_")[2] in SHOW_A_LABEL)
    text = f"Accepted photographs, with bounds of 95 %. {shows.sum()} show one of the labels: {listed}."
    return "\n".join([f"## Photographs\n\n{text}\n", *rows, ""])


def _of(accepted: NDArray[np.bool_]) -> str:
    count, total = int(accepted.sum()), len(accepted)
    low, high = share_interval(count, total).points
    return f"{count} of {total}, {100 * count / total:.0f} % ({low:.0f} to {high:.0f})"


if __name__ == "__main__":
    raise SystemExit(main())
