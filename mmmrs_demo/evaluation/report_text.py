"""The part of a report that is on text to image: a page of Markdown, and sheets of pictures; measures nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from mmmrs_demo.evaluation.adherence import HEADS
from mmmrs_demo.evaluation.copies import NEAREST_PERCENT
from mmmrs_demo.evaluation.report import UNDEFINED, table
from mmmrs_demo.evaluation.text import HELD_OUT, TITLES, TRAIN

_SPACES = {"pixels": "pixels, 16 × 16, levels", "features": "features of the classifier"}
_NETWORKS = {
    "inception": ("FID", "KID", "Features of the Inception network: FID and KID."),
    "classifier": (
        "Fréchet",
        "kernel",
        (
            "Features of our classifier: the formulas of FID and KID, but another network, and another one for every "
            "data set: these figures compare within one report, and with no FID or KID."
        ),
    ),
}


class Published(NamedTuple):
    """A figure that somebody else published."""

    data: str
    system: str
    figures: str


PUBLISHED = (
    Published("MMM-RS, 500 images", "MMM-RS (SD1.5 with their LoRA)", "FID 92.33, IS 7.21"),
    Published("MMM-RS, 500 images", "SD1.5", "FID 172.78, IS 6.64"),
    Published("MMM-RS, 500 images", "SD2.0", "FID 175.68, IS 6.31"),
    Published("MMM-RS, 500 images", "SDXL", "FID 168.34, IS 6.89"),
    Published("MMM-RS, 500 images", "DALL-E 3", "FID 347.88, IS 2.63"),
    Published("RSICD", "GeoCore-9B", "FID 18.82, CLIP 27.15"),
    Published("RSICD", "Text2Earth", "FID 24.49, CLIP 25.62"),
    Published("RSICD", "CRS-Diff", "FID 50.72, CLIP 20.33"),
    Published("fMoW", "DiffusionSat", "FID 15.80"),
)
"""What was published for text to image; the first five come from one benchmark, that of the MMM-RS paper."""

_READING = f"""### How to read it

- Prompts are those of held-out tiles, of all kinds (GSD level, weather and satellite) in turn as long as there are
  tiles of that kind. The same prompts and seeds are used with the LoRA and without.
- The classifier is a small network that learnt the prompts' words from the training tiles, all classes alike. Its
  share on held-out tiles is the ceiling: what it cannot see there it cannot find in generated pictures. Where a class
  comes from few sources, it may have learnt the look of that source as well as what the word means. A class with too
  few tiles, and a caption that names several kinds of scene or none, are not judged.
- The classifier has to take every picture for something, even one that is unlike any tile. Where pictures of all
  prompts are taken for one class, the high share of that class says nothing: the mean over classes does, and what the
  pictures of the other classes are taken for. Guessing gives one divided by the number of classes.
- Fréchet distances grow as the number of pictures shrinks, so that they compare only between sets of one size; kernel
  distances do not, and lie around 0, below it too, where sets are of one kind. Training tiles of the same kinds of
  prompts, and one half of the held-out tiles against the other, are the yardsticks: no model can be expected to come
  nearer than real tiles of other places do.
- Copies: the distance from each picture to the nearest training tile, over the eight ways to turn and mirror it, beside
  that of the held-out tiles whose prompts were used. Of pictures that copy no more than those do, around
  {NEAREST_PERCENT} % lie nearer than the nearest {NEAREST_PERCENT} % of those tiles. Dark and smooth pictures lie near
  to much without being copies of it: the sheet of the closest pictures decides. Only tiles of this data set are
  searched; what a model was trained on besides is not.
"""

_ORIENTATION = """### Published figures, for orientation

These are other data sets, with other tiles, prompts and sizes, and other numbers of pictures: they must not be ranked
against the figures above, nor against each other from one data set to the next.
"""


def markdown(section: Mapping[str, Any]) -> str:
    """Return the part of the page that the figures of `text.measure` make; the sheets lie beside the page."""
    sets = list(section["scales"])
    tiles, settings = section["tiles"], section["made_with"]["settings"]
    columns = ", ".join(TITLES[name] for name in (HELD_OUT, *sets))
    shown = "".join(f"{number}. {prompt}\n" for number, prompt in enumerate(section["shown"], 1))
    return "\n".join(
        [
            f"""## Text to image

{section["images"]:,} prompts of {section["kinds"]} kinds from {tiles[HELD_OUT]:,} held-out tiles; seeds from
{section["seed"]}, steps {settings["steps"]}, guidance {settings["guidance"]}, scheduler {settings["scheduler"]},
{settings["width"]} × {settings["height"]} px. {_strengths(section["scales"])}

![A row for each prompt, from left to right: {columns}](text.png)

{shown}""",
            _adherence(section, sets),
            _distances(section),
            _copies(section, sets),
            _READING,
            _ORIENTATION,
            table(("data", "system", "figures"), PUBLISHED),
        ]
    )


def _strengths(scales: Mapping[str, float]) -> str:
    if "lora" not in scales:
        return "The bundle has no LoRA, so there is nothing to compare its words with."
    return f"The LoRA's strength is {scales['lora']:g}, and 0 where it says “{TITLES['plain']}”."


def _adherence(section: Mapping[str, Any], sets: Sequence[str]) -> str:
    found, shown = section["adherence"], (HELD_OUT, *sets)
    heads = [
        (
            HEADS[name].title,
            _share(1 / len(classes)),
            *(_share(found[one][name]["balanced"]) for one in shown),
        )
        for name, classes in section["classes"].items()
    ]
    words = [
        (
            HEADS[name].title,
            word,
            f"{supply['train']:,} of {supply['sources']}",
            *(_counted(found[one][name]["classes"].get(word)) for one in shown),
        )
        for name, classes in section["classes"].items()
        for word, supply in classes.items()
    ]
    titles = [TITLES[one] for one in shown]
    confusions = "\n".join(_confusion(section, name, shown) for name in section["classes"])
    return f"""### Does a picture show what the prompt says?

The share of pictures that the classifier takes for what their prompt says, as a mean over classes. On held-out tiles
that is the classifier's own balanced accuracy.

{table(("what", "by guessing", *titles), heads)}
The same for each class, with the number of pictures whose prompt says so.

{table(("what", "class", "training tiles, sources", *titles), words)}
What pictures are taken for, in percent of those whose prompt says the class on the left.

{confusions}"""


def _confusion(section: Mapping[str, Any], name: str, shown: Sequence[str]) -> str:
    words = list(section["classes"][name])
    rows = []
    for said in words:
        for one in shown:
            entry = section["adherence"][one][name]["classes"].get(said)
            if entry:
                seen = (f"{100 * entry['seen_as'][word] / entry['pictures']:.0f}" for word in words)
                rows.append((said, TITLES[one], *seen))
    return table((HEADS[name].title, "pictures", *words), rows)


def _distances(section: Mapping[str, Any]) -> str:
    parts = ["### How far are the pictures as a whole from real tiles?\n"]
    for network, (frechet, kernel, words) in _NETWORKS.items():
        if network not in section["distances"]:
            parts.append("FID, KID and IS were not measured: they need Inception's weights (`--inception FILE`).\n")
            continue
        rows = [
            (
                TITLES[row["set"]],
                f"{row['pictures']:,} to {row['tiles']:,}",
                f"{row['frechet']:.2f}",
                f"{row['kernel']:.4f} ± {row['kernel_deviation']:.4f}",
            )
            for row in section["distances"][network]
        ]
        parts.append(f"{words}\n\n{table(('from held-out tiles to', 'pictures', frechet, kernel), rows)}")
    if section["inception_score"]:
        scores = [
            (TITLES[name], f"{mean:.2f} ± {spread:.2f}") for name, (mean, spread) in section["inception_score"].items()
        ]
        parts.append(table(("set", "IS"), scores))
    return "\n".join(parts)


def _copies(section: Mapping[str, Any], sets: Sequence[str]) -> str:
    rows = [
        (
            _SPACES[space],
            TITLES[name],
            f"{of['made']:.2f}",
            f"{of['held_out']:.2f}",
            f"{of['ks']:.2f} ({of['p']:.2g})",
            _share(of["nearer"]),
        )
        for space in _SPACES
        for name in sets
        for of in [section["copies"][name][space]]
    ]
    head = (
        "distance in",
        "pictures",
        "median",
        "of held-out tiles",
        "KS statistic (p)",
        f"nearer than the nearest {NEAREST_PERCENT} %",
    )
    pairs = ", ".join(f"two columns by {title.split(',')[0]}" for title in _SPACES.values())
    return f"""### Are pictures copies of training tiles?

Distances to the nearest of {section["tiles"][TRAIN]:,} training tiles.

{table(head, rows)}
![Closest pictures and training tiles](text-copies.png)

The sheet shows the pictures {TITLES[sets[0]]} that lie closest to a training tile, each turned as it lies closest and
on the left of that tile: {pairs}.
"""


def _counted(entry: Mapping[str, Any] | None) -> str:
    return f"{_share(entry['share'])} of {entry['pictures']:,}" if entry else UNDEFINED


def _share(value: float | None) -> str:
    return UNDEFINED if value is None else f"{100 * value:.0f} %"
