"""Writes a small catalogue with ratings in the layout of every MovieLens release."""

import csv
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

GENRES = ("Action", "Children's", "Comedy", "Drama", "Sci-Fi")


@dataclass(frozen=True)
class Movie:
    movie_id: int
    title: str
    year: int
    genres: tuple[str, ...]

    @property
    def full_title(self):
        return f"{self.title} ({self.year})"


@dataclass(frozen=True)
class Content:
    movies: list[Movie]
    ratings: list[tuple[int, int, float, int]]  # user, movie, rating, time


def content(users=12, movies=40, least=22, seed=0):
    """Return accents, articles, colons, a movie without a genre, tied times, and ids that sort differently as text."""
    rng = np.random.default_rng(seed)
    titles = ["Cité des enfants perdus, La", "Star Trek: First Contact", "Matrix, The", "Seven (Se7en)"]
    catalogue = []
    for number in range(movies):
        title = titles[number] if number < len(titles) else f"Film {number}"
        genres = () if number == 5 else tuple(rng.choice(GENRES, rng.integers(1, 4), replace=False))
        catalogue.append(Movie(number * 7 + 1, title, 1980 + number % 20, tuple(sorted(genres))))
    ratings = []
    for user in range(users):
        for movie in rng.permutation(movies)[: least + user % 5]:
            time = 880_000_000 + int(rng.integers(0, 15))
            ratings.append((user * 3 + 2, catalogue[movie].movie_id, float(rng.integers(1, 6)), time))
    order = rng.permutation(len(ratings))
    return Content(catalogue, [ratings[position] for position in order])


def write_100k(folder, data):
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / "u.data", ("\t".join(map(str, (u, m, int(r), t))) for u, m, r, t in data.ratings))
    flags = ("unknown", *GENRES)
    _write(folder / "u.genre", [*(f"{name}|{number}" for number, name in enumerate(flags)), ""])
    rows = []
    for movie in data.movies:
        genres = movie.genres or ("unknown",)
        chosen = "|".join("1" if name in genres else "0" for name in flags)
        rows.append(
            f"{movie.movie_id}|{movie.full_title}|01-Jan-{movie.year}||http://example.org/?q=1|{chosen}"
        )
    _write(folder / "u.item", rows, "latin-1")


def write_recbole(folder, data):
    folder.mkdir(parents=True, exist_ok=True)
    ratings = ("\t".join(map(str, (u, m, int(r), float(t)))) for u, m, r, t in data.ratings)
    _write(
        folder / "ml-100k.inter", ["user_id:token\titem_id:token\trating:float\ttimestamp:float", *ratings]
    )
    movies = (f"{m.movie_id}\t{m.title}\t{m.year}\t{' '.join(m.genres) or 'unknown'}" for m in data.movies)
    header = "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq"
    _write(folder / "ml-100k.item", [header, *movies])


def write_1m(folder, data, encoding="latin-1"):
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / "ratings.dat", (f"{u}::{m}::{r:g}::{t}" for u, m, r, t in data.ratings))
    movies = (f"{m.movie_id}::{m.full_title}::{'|'.join(m.genres) or 'unknown'}" for m in data.movies)
    _write(folder / "movies.dat", movies, encoding)


def write_10m(folder, data):
    write_1m(folder, data, "utf-8")
    _write(folder / "tags.dat", ["15::4973::excellent!::1215184630"])


def write_csv(folder, data):
    folder.mkdir(parents=True, exist_ok=True)
    ratings = (f"{u},{m},{r},{t}" for u, m, r, t in data.ratings)
    _write(folder / "ratings.csv", ["userId,movieId,rating,timestamp", *ratings])
    with (folder / "movies.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["movieId", "title", "genres"])
        for movie in data.movies:
            writer.writerow(
                [movie.movie_id, movie.full_title, "|".join(movie.genres) or "(no genres listed)"]
            )


WHOLE_STAR_WRITERS = {"100k": write_100k, "recbole": write_recbole, "1m": write_1m}
HALF_STAR_WRITERS = {"10m": write_10m, "csv": write_csv}
WRITERS = {**WHOLE_STAR_WRITERS, **HALF_STAR_WRITERS}
RATING_FILES = {
    "100k": "u.data",
    "recbole": "ml-100k.inter",
    "1m": "ratings.dat",
    "10m": "ratings.dat",
    "csv": "ratings.csv",
}


def zipped(folder: Path, archive: Path, inner=""):
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as target:
        for file in folder.iterdir():
            target.write(file, f"{inner}{file.name}")
    return archive


def _write(path, lines, encoding="utf-8"):
    path.write_bytes(("\n".join(lines) + "\n").encode(encoding))
