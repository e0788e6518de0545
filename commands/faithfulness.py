"""Testing what a run's decisions and maps rest on."""

from __future__ import annotations

from pathlib import Path

import click

from aupipe.commands.console import PATH, check_alone, device_option, output_options, progress, show, split_option
from aupipe.commands.store_argument import PLACE


@click.command()
@click.argument("run", type=PATH)
@click.option("--store", type=PLACE, default=None, help="Another store.  [default: the one it was trained on]")
@split_option()
@click.option(
    "--limit",
    type=click.IntRange(1),
    default=200,
    show_default=True,
    help="Only the first N rows (rows lie in hash order).",
)
@click.option(
    "--baseline",
    type=click.Choice(["blur", "mean"]),
    default="blur",
    show_default=True,
    help="What removed pixels become: the blurred picture, or the store's mean colour.",
)
@click.option("--steps", type=click.IntRange(2), default=20, show_default=True, help="Of deletion and insertion.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of controls and random weights.")
@click.option("--batch-size", type=click.IntRange(1), default=None, help="Images at once.  [default: as in training]")
@device_option
@click.option("--against", type=PATH, default=None, help="Compare with this measured run, face by face.")
@click.option("--maps", type=PATH, default=None, help="Folder of maps made elsewhere, SAMPLE_ID.npy or .png.")
@output_options
def faithfulness(
    run: Path,
    store: Path | str | None,
    split: str,
    limit: int,
    baseline: str,
    steps: int,
    seed: int,
    batch_size: int | None,
    device: str,
    against: Path | None,
    maps: Path | None,
    as_json: bool,
) -> None:
    """Test whether a run's maps are faithful and write RUN/faithfulness.json.

    With another --split than test, or another --limit, the files go to a folder of their own inside the run, such as
    RUN/faithfulness-val.

    Deletion and insertion in the order of attention and CAM; the fall of the probability without the AU regions,
    against as much removed elsewhere; whether maps change when the weights become random. Each beside its controls.
    RUN/faithfulness.csv has every face, faithfulness.png is to look at; docs/faithfulness.md says what each means.

    --against compares what removing the AU regions takes with another run, on the faces that both name rightly, and
    writes RUN/faithfulness-against-OTHER.json, .csv and .png.

    --maps measures another program's explanations in the place of the CAM: a map for every face, of the crop that the
    network sees. The files go to a folder of their own, such as RUN/faithfulness-maps-NAME-test.

    \b
    Example: aupipe faithfulness run
             aupipe faithfulness run-au --against run-plain
             aupipe faithfulness run --maps saliency
    """
    from aupipe.fer_analysis.faithfulness import check_pair, compare_faithfulness, measure_faithfulness, summary_line

    if against is not None:
        check_alone(maps)
        check_pair(run, against, split, limit, {"baseline": baseline, "seed": seed})
    result = measure_faithfulness(
        run, store, split, limit, baseline, steps, seed, device, batch_size, progress(), maps=maps
    )
    lines, content = [*result.lines(), "", summary_line(result.content)], result.as_json()
    if against is not None:
        comparison = compare_faithfulness(run, against, split, limit)
        lines, content = [*comparison.lines(), "", *lines], {**content, "against": comparison.as_json()}
    show(lines, content, as_json)
