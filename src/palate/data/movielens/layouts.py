"""Layouts of the MovieLens releases: files, formats and rating scales.

They follow the READMEs at https://files.grouplens.org/datasets/movielens/, and RecBole's atomic files for
MovieLens-100K.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from palate.data.movielens.item_files import (
    read_100k_items,
    read_csv_items,
    read_dat_items,
    read_recbole_items,
)
from palate.data.movielens.rating_files import HALF_STARS, WHOLE_STARS, RatingLayout
from palate.data.movielens.sources import SourceFiles
from palate.data.tabular.text_files import text_lines
from palate.errors import DataError
from palate.schema import Item

LICENCE = (
    "MovieLens by GroupLens, University of Minnesota: research use, no redistribution without permission, "
    "see the README of the release at https://files.grouplens.org/datasets/movielens/"
)


@dataclass(frozen=True)
class Layout:
    """File names and formats of one family of releases."""

    name: str
    ratings_file: str
    items_file: str
    ratings: RatingLayout
    read_items: Callable[..., list[Item]]  # takes the items file, then the other files
    other_files: tuple[str, ...] = ()  # read together with the items file

    @property
    def files(self) -> tuple[str, ...]:
        """Names of all files that are read."""
        return (self.ratings_file, self.items_file, *self.other_files)


_SAMPLE = 10_000
_DAT = ("ratings.dat", "movies.dat")
_CSV_HEADER = ("userId", "movieId", "rating", "timestamp")
_RECBOLE_HEADER = ("user_id", "item_id", "rating", "timestamp")

ML_100K = Layout(
    "MovieLens 100K", "u.data", "u.item", RatingLayout("\t", WHOLE_STARS), read_100k_items, ("u.genre",)
)
RECBOLE_100K = Layout(
    "MovieLens 100K as RecBole's atomic files",
    "ml-100k.inter",
    "ml-100k.item",
    RatingLayout("\t", WHOLE_STARS, _RECBOLE_HEADER, typed_header=True),
    read_recbole_items,
)
ML_1M = Layout("MovieLens 1M", *_DAT, RatingLayout("::", WHOLE_STARS), read_dat_items)
ML_10M = Layout("MovieLens 10M", *_DAT, RatingLayout("::", HALF_STARS), read_dat_items)
CSV = Layout(
    "MovieLens 20M, 25M, 32M or latest",
    "ratings.csv",
    "movies.csv",
    RatingLayout(",", HALF_STARS, _CSV_HEADER),
    read_csv_items,
)


def find_layout(source: SourceFiles) -> Layout:
    """Identify the release by its files; raises :class:`DataError` if it is unknown or incomplete."""
    # 1M and 10M share their file names; only 10M has tags.
    dat = ML_10M if "tags.dat" in source.members or "10m" in source.name.lower() else ML_1M
    for layout in (ML_100K, RECBOLE_100K, dat, CSV):
        if layout.ratings_file in source.members or layout.items_file in source.members:
            missing = [name for name in layout.files if name not in source.members]
            if missing:
                raise DataError(
                    f"{missing[0]} is missing; {layout.name} needs {', '.join(layout.files)}", source.path
                )
            return layout
    if "dataset.json" in source.members:
        raise DataError("this folder is already prepared; give it to palate train as data.path", source.path)
    known = "; ".join(f"{layout.ratings_file} and {layout.items_file}" for layout in (ML_100K, ML_1M, CSV))
    raise DataError(
        f"no MovieLens files found; expected one of: {known}; give event files by name or glob",
        source.path,
    )


def find_other_ratings(folder: Path) -> tuple[Path, Path] | None:
    """Find files in the format of MovieLens 1M that are not a MovieLens release.

    Returns:
        ``ratings.dat`` and ``movies.dat`` of the folder if they are compressed, or if one of the first ratings is
        above MovieLens' five stars, as in MovieTweetings; otherwise None.
    """
    for ending in ("", ".gz", ".zst", ".bz2"):
        ratings, movies = (folder / f"{name}{ending}" for name in _DAT)
        if ratings.is_file() and movies.is_file():
            return (ratings, movies) if ending or _has_other_scale(ratings) else None
    return None


def _has_other_scale(ratings: Path) -> bool:
    fields = (line.split("::") for line in islice(text_lines(ratings), _SAMPLE))
    return any(len(one) == 4 and one[2].isdecimal() and int(one[2]) > WHOLE_STARS[-1] for one in fields)


def read_items(layout: Layout, source: SourceFiles, scratch: Path) -> list[Item]:
    """Read the catalogue, ordered by numeric id."""
    return layout.read_items(
        *(source.file(name, scratch) for name in (layout.items_file, *layout.other_files))
    )
