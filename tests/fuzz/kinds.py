"""Every kind of file that the program reads, and the commands that read it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from fuzz.scene import COMPARE, TRAIN

CPU = ("--device", "cpu")
KEEP = ("--max-failures", "1")
"""Small data sets with a row of each fault: what is right in them is wanted all the same."""
SIZE = ("--image-size", 48, "--map-size", 16, "--rows-per-shard", 4, "--workers", 0)


@dataclass(frozen=True)
class Target:
    """A file under attack, and the command that reads it.

    Attributes:
        kind: What the file is, for people.
        path: Where it lies in the scene.
        command: The words of the command.
        family: Which mutations know its format.
        twin: Another valid file of the kind, or "".
        own: True where the program wrote it, so that other bytes are damage. False for what people bring: there, other
            bytes may be another right input, with another right result.
        cost: Seconds of a call whose file is sound, roughly.
        forged: Whether its recorded digest is made right after the damage.
    """

    kind: str
    path: str
    command: tuple[object, ...]
    family: str
    twin: str = ""
    own: bool = True
    cost: float = 0.05
    forged: bool = False

    @property
    def title(self) -> str:
        """The kind, and whether its digest was made right."""
        return self.kind + (", right digest" if self.forged else "")

    @property
    def name(self) -> str:
        """The kind and the command, for the table."""
        words = [str(word) for word in self.command]
        flags = [
            word
            for word in words
            if word
            in (
                "--against",
                "--maps",
                "--weights",
                "--from",
                "--images-from",
                "--report-only",
                "--labels",
                "--codebook",
            )
        ]
        return " ".join([*words[: 2 if words[0] in ("manifest", "codebook") else 1], *flags])


def _targets() -> Iterator[Target]:
    yield from _manifests()
    yield from _works()
    yield from _stores()
    yield from _runs()
    yield from _forged()
    yield from _grids()
    yield from _results()
    yield from _given()


def _manifests() -> Iterator[Target]:
    for path, family, kind, twin, own in (
        ("m.csv", "csv", "manifest", "two.csv", False),
        ("m.meta.json", "json", "manifest's meta data", "two.meta.json", False),
        ("m.landmarks.npy", "npy", "manifest's points", "two.landmarks.npy", True),
    ):
        yield Target(kind, path, ("manifest", "check", "m.csv"), family, twin, own)
        yield Target(
            kind,
            path,
            ("landmarks", "m.csv", "--out", "new", "--detector", "dataset", "--workers", 0),
            family,
            twin,
            own,
            0.5,
        )
    yield Target("manifest", "two.csv", ("explain", "run", "two.csv", "--out", "new", *CPU), "csv", "m.csv", False, 0.9)
    yield Target(
        "manifest's points",
        "two.landmarks.npy",
        ("explain", "run", "two.csv", "--out", "new", *CPU),
        "npy",
        "m.landmarks.npy",
        True,
        0.9,
    )


def _works() -> Iterator[Target]:
    for path, family, kind, twin in (
        ("work/manifest.csv", "csv", "WORK's manifest", "two.csv"),
        ("work/manifest.meta.json", "json", "WORK's manifest's meta data", "m.meta.json"),
        ("work/manifest.landmarks.npy", "npy", "WORK's points", "two.landmarks.npy"),
        ("work/landmarks.json", "json", "landmarks.json", "part/landmarks.json"),
        ("work/landmarks/part-00000.h5", "bytes", "landmark part", "part/landmarks/part-00000.h5"),
    ):
        yield Target(kind, path, ("build-maps", "work", "--out", "new", *SIZE), family, twin, True, 0.3)
        yield Target(kind, path, ("landmarks-agreement", "work", "part", "--out", "new"), family, twin, True, 0.3)
    for path, family, kind in (
        ("work/landmarks.json", "json", "landmarks.json"),
        ("work/failures.csv", "csv", "WORK's failures.csv"),
        ("work/landmarks/part-00000.h5", "bytes", "landmark part"),
        ("work/manifest.csv", "csv", "WORK's manifest"),
    ):
        yield Target(
            kind,
            path,
            ("landmarks", "m.csv", "--out", "work", "--detector", "dataset", "--workers", 0),
            family,
            cost=0.4,
        )


def _stores() -> Iterator[Target]:
    for store, twin in (("store", "jpeg"), ("jpeg", "store")):
        for path, family, kind, other in (
            (f"{store}/index.json", "json", "index.json", f"{twin}/index.json"),
            (
                f"{store}/train-00000.h5",
                "bytes",
                f"shard ({'pixels' if store == 'store' else 'JPEG'})",
                f"{store}/train-00001.h5",
            ),
            (f"{store}/failures.csv", "csv", "store's failures.csv", "m.csv"),
        ):
            yield Target(kind, path, ("verify", store), family, other)
            yield Target(kind, path, ("inspect", store), family, other)
            yield Target(kind, path, ("inspect", store, "--png", "sheet.png"), family, other, cost=0.2)
            yield Target(kind, path, ("export", store, "--to", "folder", "--out", "new"), family, other, cost=0.1)
            yield Target(
                kind, path, ("train", store, "--out", "new", "--max-steps", 1, *TRAIN), family, other, cost=0.4
            )
            yield Target(kind, path, ("report", store, "--out", "new.html"), family, other, cost=0.3)
            yield Target(kind, path, ("repair", store, "--from", "work", "--workers", 0), family, other, cost=0.2)
            encoding = ("--encoding", "raw" if store == "store" else "jpeg")
            yield Target(kind, path, ("build-maps", "work", "--out", store, *SIZE, *encoding), family, other, cost=0.2)
            yield Target(
                kind,
                path,
                ("build-maps", "work", "--out", "new", "--images-from", store, *SIZE, *encoding),
                family,
                other,
                cost=0.3,
            )
    for path, family, kind in (
        ("store/index.json", "json", "index.json"),
        ("store/test-00000.h5", "bytes", "shard (pixels)"),
    ):
        yield Target(kind, path, ("evaluate", "run", *CPU), family, cost=0.4)
        yield Target(kind, path, ("faithfulness", "run", "--steps", 2, *CPU), family, cost=0.6)
        yield Target(kind, path, ("compare", "run", "other", "--out", "new", *COMPARE), family, cost=0.6)
        yield Target(
            kind, path, ("bench-loader", "store", "--split", "test", "--repeats", 1, "--threads", 1), family, cost=0.3
        )
        yield Target(kind, path, ("export", "file://{here}/store", "--to", "folder", "--out", "new"), family, cost=0.2)
    yield Target("shard alone", "store/val-00000.h5", ("inspect", "store/val-00000.h5"), "bytes", "", False)
    yield Target(
        "export.json", "tars/export.json", ("export", "store", "--to", "webdataset", "--out", "tars"), "json", cost=0.1
    )
    yield Target(
        "exported tar",
        "tars/train-000000.tar",
        ("export", "store", "--to", "webdataset", "--out", "tars"),
        "bytes",
        "tars/train-000001.tar",
        cost=0.1,
    )


RUN_FILES = (
    ("config.json", "json"),
    ("best.pt", "bytes"),
    ("last.pt", "bytes"),
    ("log.jsonl", "json"),
    ("metrics.json", "json"),
    ("predictions.csv", "csv"),
    ("occluded.csv", "csv"),
    ("average_maps.npz", "npz"),
    ("calibration.json", "json"),
    ("faithfulness.json", "json"),
    ("faithfulness.csv", "csv"),
    ("digests.json", "json"),
)
"""What a run's folder holds and commands read."""

REPORTED = tuple(name for name, _ in RUN_FILES if name not in ("last.pt", "faithfulness.csv", "occluded.csv"))
"""What a report reads of them."""


def _runs() -> Iterator[Target]:
    commands: tuple[tuple[tuple[object, ...], float, tuple[str, ...]], ...] = (
        (("evaluate", "run", *CPU), 0.4, ("config.json", "best.pt", "digests.json")),
        (
            ("evaluate", "other", "--against", "run", *CPU),
            0.5,
            ("metrics.json", "predictions.csv", "occluded.csv", "digests.json"),
        ),
        (("faithfulness", "run", "--steps", 2, *CPU), 0.7, ("config.json", "best.pt", "digests.json")),
        (
            ("faithfulness", "other", "--steps", 2, "--against", "run", *CPU),
            0.8,
            ("faithfulness.json", "faithfulness.csv"),
        ),
        (
            ("explain", "run", "two.csv", "--out", "new", *CPU),
            0.9,
            ("config.json", "best.pt", "calibration.json", "digests.json"),
        ),
        (("compare", "run", "other", "--out", "new", *COMPARE), 0.5, ("config.json", "best.pt", "digests.json")),
        (
            ("export-model", "run", "--to", "torchscript", "--out", "model.ts"),
            0.8,
            ("config.json", "best.pt", "calibration.json"),
        ),
        (("report", "run", "--out", "new.html", *CPU), 1.0, REPORTED),
        (
            ("train", "store", "--out", "run", "--max-steps", 2, *TRAIN),
            0.5,
            ("config.json", "best.pt", "last.pt", "log.jsonl", "digests.json"),
        ),
    )
    families = dict(RUN_FILES)
    for command, cost, names in commands:
        for name in names:
            family = families[name]
            yield Target(
                name, f"run/{name}", command, "pt" if name.endswith(".pt") else family, f"other/{name}", True, cost
            )


def _forged() -> Iterator[Target]:
    """Files that are right by every checksum: `verify` finds them all, others may use what is right in them."""
    for target in _works():
        if target.kind == "landmark part":
            yield replace(target, kind="forged landmark part", family="part", twin="", own=False)
    for target in _stores():
        if target.kind.startswith("shard ("):
            strict = target.command[0] == "verify"  # others need not read what is wrong
            yield replace(target, kind=f"forged {target.kind}", family="shard", twin="", own=strict)
        if target.kind == "index.json":
            yield replace(target, own=False, forged=True)
    for target in _runs():
        if not target.path.endswith("digests.json"):
            yield replace(target, own=False, forged=True)


def _grids() -> Iterator[Target]:
    command = (
        "benchmark",
        "store",
        "--methods",
        "cam",
        "--align-weight",
        "0,4",
        "--seeds",
        1,
        "--out",
        "grid",
        "--max-steps",
        1,
        *TRAIN,
        "--report-only",
    )
    first, second = (f"grid/runs/cam-test_resnet-w{weight}-s0" for weight in (0, 4))
    for name, family in RUN_FILES:
        if name not in ("calibration.json", "faithfulness.json", "faithfulness.csv", "occluded.csv", "last.pt"):
            yield Target(
                f"benchmark's {name}",
                f"{first}/{name}",
                command,
                "pt" if name.endswith(".pt") else family,
                f"{second}/{name}",
                True,
                1.5,
            )


def _results() -> Iterator[Target]:
    compare = ("compare", "run", "other", "--out", "compared", *COMPARE)
    yield Target(
        "comparison map", "compared/maps/run_anger.npz", compare, "npz", "compared/maps/other_anger.npz", True, 0.6
    )
    yield Target("comparison.json", "compared/comparison.json", compare, "json", "", True, 0.6)
    yield Target(
        "explain.json",
        "explained-run/explain.json",
        ("explain", "run", "two.csv", "--out", "explained-run", *CPU),
        "json",
        "explained-other/explain.json",
        True,
        0.9,
    )
    yield Target(
        "calibration.json",
        "run/calibration.json",
        ("explain", "run", "inputs/clip.avi", "--out", "new", "--max-failures", 1, *CPU),
        "json",
        "other/calibration.json",
        True,
        0.9,
    )


def _given() -> Iterator[Target]:
    """What people bring: nobody recorded its bytes."""
    book = "inputs/mine.toml"
    for command in (("codebook", "check", book), ("codebook", "show", book), ("codebook", "diff", book, "default")):
        yield Target("codebook", book, command, "toml", own=False)
    yield Target(
        "codebook", book, ("build-maps", "work", "--out", "new", "--codebook", book, *SIZE), "toml", own=False, cost=0.3
    )
    for name in ("00.png", "01.jpg", "02.bmp", "03.webp", "04.gif"):
        twin = f"faces/{int(name[:2]) + 5:02d}{name[2:]}"
        kind = f"photo ({name[3:]})"
        yield Target(kind, f"faces/{name}", ("manifest", "check", "m.csv"), "bytes", twin, False)
        yield Target(
            kind,
            f"faces/{name}",
            ("landmarks", "m.csv", "--out", "new", "--detector", "dataset", "--workers", 0),
            "bytes",
            twin,
            False,
            0.4,
        )
        yield Target(kind, f"faces/{name}", ("build-maps", "work", "--out", "new", *SIZE), "bytes", twin, False, 0.3)
        yield Target(
            kind,
            f"faces/{name}",
            ("explain", "run", f"faces/{name}", "--out", "new", "--max-failures", 1, *CPU),
            "bytes",
            twin,
            False,
            1.0,
        )
    yield Target(
        "video",
        "inputs/clip.avi",
        ("explain", "run", "inputs/clip.avi", "--out", "new", "--max-failures", 1, *CPU),
        "bytes",
        "",
        False,
        1.0,
    )
    for name in ("maps/One_Anger.png", "masks/anger.png"):
        yield Target(
            "map or mask",
            f"inputs/{name}",
            ("compare", "--maps", "inputs/maps", "--out", "new"),
            "bytes",
            "inputs/maps/Two_Anger.png",
            False,
            0.4,
        )
    for name in ("s06.npy", "s07.png"):
        for command in ("evaluate", "faithfulness"):
            yield Target(
                "map of a face",
                f"inputs/given/{name}",
                (command, "run", "--maps", "inputs/given", *CPU),
                "bytes",
                "inputs/given/s08.npy" if name.endswith("npy") else "inputs/given/s15.png",
                False,
                0.5,
            )
    for end in ("pt", "safetensors"):
        path = f"inputs/backbone.{end}"
        yield Target(
            f"weights (.{end})",
            path,
            ("train", "store", "--out", "new", "--max-steps", 1, *TRAIN, "--weights", path),
            "pt" if end == "pt" else "bytes",
            f"inputs/mouth.{end}",
            False,
            0.5,
        )
        path = f"inputs/mouth.{end}"
        yield Target(
            f"weights (.{end})",
            path,
            (
                "compare",
                "--store",
                "store",
                "--model",
                "planted_models:mouth_reader",
                "--weights",
                path,
                "--out",
                "new",
                "--explainer",
                "occlusion",
                *COMPARE[2:],
            ),
            "pt" if end == "pt" else "bytes",
            f"inputs/backbone.{end}",
            False,
            0.5,
        )
    yield Target("face model", "inputs/face.task", ("fuzz.calls:find_face_model", "inputs/face.task"), "bytes")
    yield Target(
        "dataset descriptor",
        "inputs/kdef.toml",
        ("fuzz.calls:read_descriptor", "inputs/kdef.toml"),
        "toml",
        "inputs/ckplus.toml",
        False,
    )
    yield Target(
        "label map",
        "inputs/labels.txt",
        ("manifest", "build", "csv", "inputs/csv", "-o", "new/n.csv", "--labels", "inputs/labels.txt", *KEEP),
        "text",
        own=False,
    )
    yield Target(
        "table of action units",
        "inputs/codes.csv",
        ("manifest", "build", "csv", "inputs/csv", "-o", "new/n.csv", "--aus-from", "inputs/codes.csv", *KEEP),
        "csv",
        own=False,
    )
    for layout, path, family in LAYOUT_FILES:
        tree, _, _ = path.partition("/")
        yield Target(
            f"dataset ({tree})",
            f"inputs/{path}",
            ("manifest", "build", layout, f"inputs/{tree}", "-o", "new/n.csv", *KEEP),
            family,
            own=False,
        )


LAYOUT_FILES = (
    ("rafdb", "rafdb/basic/EmoLabel/list_patition_label.txt", "text"),
    ("affectnet", "affectnet-npy/train_set/annotations/0_exp.npy", "npy"),
    ("affectnet", "affectnet-npy/train_set/annotations/1_lnd.npy", "npy"),
    ("affectnet", "affectnet-csv/training.csv", "csv"),
    ("fer2013", "fer2013/fer2013.csv", "csv"),
    ("ferplus", "ferplus/fer2013new.csv", "csv"),
    ("ckplus", "ckplus/Emotion/S005/001/S005_001_00000005_emotion.txt", "text"),
    ("ckplus", "ckplus/FACS/S005/001/S005_001_00000005_facs.txt", "text"),
    ("ckplus", "ckplus/Landmarks/S005/001/S005_001_00000005_landmarks.txt", "text"),
    ("expw", "expw/label/label.lst", "text"),
    ("csv", "csv/faces.csv", "csv"),
    ("csv", "yolo/data.yaml", "text"),
    ("csv", "yolo/train/labels/a.txt", "text"),
)
"""A file of each layout that keeps its labels in files."""

TARGETS = tuple(_targets())
