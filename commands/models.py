"""Training and measuring classifiers."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aupipe.commands.console import (
    DEVICE,
    METHOD,
    PATH,
    F,
    check_alone,
    device_option,
    out_option,
    output_options,
    progress,
    show,
    split_option,
    was_given,
)
from aupipe.commands.grouped_help import GroupedHelp
from aupipe.commands.store_argument import PLACE

if TYPE_CHECKING:
    from aupipe.fer_models.training.config import TrainConfig


def train_options(command: F, without: Collection[str] = ()) -> F:
    """Add one option per field of the training configuration; ``without``: fields that the command sets itself."""
    from dataclasses import fields

    from aupipe.fer_models.training.config import CHOICES, TYPES, TrainConfig

    for setting in reversed(fields(TrainConfig)):
        if setting.name in without:
            continue
        name, text = setting.name.replace("_", "-"), setting.metadata["help"]
        if isinstance(setting.default, bool):
            option = click.option(f"--{name}/--no-{name}", default=setting.default, show_default=True, help=text)
        else:
            kinds = {"method": METHOD, "device": DEVICE, **{one: click.Choice(names) for one, names in CHOICES.items()}}
            kind: Any = kinds.get(setting.name) or TYPES.get(setting.name, type(setting.default))
            shown = setting.default != ""
            option = click.option(f"--{name}", type=kind, default=setting.default, show_default=shown, help=text)
        command = option(command)
    return command


def training_config(options: Mapping[str, Any]) -> TrainConfig:
    """Read the options of the running command; where they name a preset, those not given are the preset's."""
    from aupipe.fer_models.training.config import TrainConfig
    from aupipe.fer_models.training.presets import preset_config

    if not options["preset"]:
        return TrainConfig(**options)
    return preset_config(options["preset"], {name: value for name, value in options.items() if was_given(name)})


@click.command(cls=GroupedHelp)
@click.argument("store", type=PLACE)
@out_option("Folder of the run.")
@train_options
@output_options
def train(store: Path | str, out: Path, as_json: bool, **options: Any) -> None:
    """Train a classifier on a store, guided by the AU maps. Run it again to continue where it stopped.

    \b
    Example: aupipe train store --out run --align-weight 4
    """
    import os

    from aupipe.fer_models.training.ranks import ranks_from_environment
    from aupipe.fer_models.training.run import train as run_training

    report = run_training(store, out, training_config(options), progress())
    if ranks_from_environment(os.environ).first:
        show(report.lines(), report.as_json(), as_json)


@click.command()
@click.argument("run", type=PATH)
@click.option("--store", type=PLACE, default=None, help="Another store.  [default: the one it was trained on]")
@split_option()
@click.option("--limit", type=click.IntRange(1), default=None, help="Only the first N rows (rows lie in hash order).")
@click.option("--batch-size", type=click.IntRange(1), default=None, help="Images at once.  [default: as in training]")
@device_option
@click.option("--against", type=PATH, default=None, help="Compare with this run, face by face.")
@click.option("--aus", type=PATH, default=None, metavar="FILE|annotated", help="Compare the attention with the "
              "action units that were coded on the faces: a manifest with the column aus, a table that names faces, or "
              "annotated: those that the store carries.")  # fmt: skip
@click.option("--estimate", type=PATH, default=None, metavar="FILE", help="With --aus: what another program says of "
              "them, such as landmarks --export csv, OpenFace or py-feat.")  # fmt: skip
@click.option("--maps", type=PATH, default=None, help="Folder of maps made elsewhere, SAMPLE_ID.npy or .png.")
@click.option(
    "--occlude", is_flag=True, help="Also measure accuracy with the eyes and brows, and with the mouth, hidden."
)
@output_options
def evaluate(
    run: Path,
    store: Path | str | None,
    split: str,
    limit: int | None,
    batch_size: int | None,
    device: str,
    against: Path | None,
    aus: Path | None,
    estimate: Path | None,
    maps: Path | None,
    occlude: bool,
    as_json: bool,
) -> None:
    """Measure a run's best checkpoint and write RUN/metrics.json.

    With another --split than test, or with --limit, the files go to a folder of their own inside the run, such as
    RUN/evaluation-val, and the run's own figures stay.

    Accuracy, calibration, and where attention and CAM look: cosines, specificity, pointing game, energy, pixel AP, each
    beside its controls. RUN/predictions.csv has every face; confusion.png, cosines.png and average_maps.png are to look
    at; docs/evaluation.md says what each figure means.

    --against tests the difference to another run on the same faces: a paired test, paired bootstrap. Of either run only
    what is missing or out of date is measured again.

    --aus asks whether attention shows which action units this very face shows, beside controls; RUN/coded.csv and
    coded.png.

    --occlude hides the eyes with the brows, then the mouth, under a box of the mean colour, beside a box of the same
    size elsewhere in the picture; RUN/occluded.csv. Figures by --aus or --occlude of an earlier call go where they are
    not asked for again.

    --maps measures another program's explanations in the place of the CAM: a map for every face, of the crop that the
    network sees. The files go to a folder of their own, such as RUN/evaluation-maps-NAME-test.

    \b
    Example: aupipe evaluate run
             aupipe evaluate run-au --against run-plain
             aupipe evaluate run --aus faces.csv --estimate work/landmarks.csv
             aupipe evaluate run --maps saliency --limit 200
    """
    from aupipe.fer_analysis.evaluation import evaluate as run_evaluation
    from aupipe.fer_analysis.evaluation import evaluate_against

    asked: dict[str, Any] = {"split": split, "limit": limit, "device": device, "batch_size": batch_size}
    asked |= {"progress": progress(), "aus": aus, "estimate": estimate, "occlude": occlude}
    if against is None:
        evaluation = run_evaluation(run, store, **asked, maps=maps)
        show(evaluation.lines(), evaluation.as_json(), as_json)
        return
    check_alone(maps)
    evaluation, comparison = evaluate_against(run, against, store, **asked)
    lines = [*comparison.lines(), "", *evaluation.lines()]
    show(lines, {**evaluation.as_json(), "against": comparison.as_json()}, as_json)
