"""Raw data of a source: cleaned tables and metadata, from which the dataset is created."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field

import numpy as np

from palate.data.assemble import UNDESCRIBED, Dropped, Rules
from palate.data.dataset import Dataset, DatasetInfo
from palate.data.event_types import EventTypes
from palate.data.label_rules import with_label_statistics
from palate.data.storage import Tables, fingerprint
from palate.schema import SPLITS, Feedback, Item, LabelRule
from palate.words import counted, plural

Report = Callable[[str], None]


@dataclass(frozen=True)
class Words:
    """Nouns for items, categories and ratings, and the template that puts a rating in words."""

    item: str = "movie"
    category: str = "genre"
    rating: str = "The {noun} is rated with {rating} stars"
    one_rating: str = "rating"


@dataclass(frozen=True)
class Raw:
    """Tables with the contents of ``dataset.json``."""

    name: str
    source: str
    licence: str
    tables: Tables
    items: list[Item]
    rating_values: tuple[float, ...]
    checksums: dict[str, str]
    dropped: Dropped
    descriptions_left_over: int = 0
    words: Words = Words()
    feedback: Feedback = "ratings"
    event_types: EventTypes | None = None
    has_times: bool = True
    repeats: bool = False
    thresholds: tuple[float, float] = (3.5, 3.0)  # like above, dislike below
    report: dict[str, int] = field(default_factory=dict)  # further numbers of dropped or repaired rows

    def as_dataset(self, rules: Rules, rule: LabelRule = "thresholds") -> Dataset:
        """Create the dataset in memory; ``rule`` is the default label rule for recipes."""
        tables, words = self.tables, self.words
        categories = sorted({category for item in self.items for category in item.categories})
        info = DatasetInfo(
            name=self.name,
            source=self.source,
            checksums=self.checksums,
            licence=self.licence,
            users=len(tables.user_ids),
            items=len(self.items),
            interactions=len(tables.interactions),
            rating_values=self.rating_values,
            feedback=self.feedback,
            event_types=self.event_types,
            has_times=self.has_times,
            repeats=self.repeats,
            rating_text=words.rating,
            like_above=self.thresholds[0],
            dislike_below=self.thresholds[1],
            rule=rule,
            item_noun=words.item,
            category_field=words.category,
            categories=tuple(categories),
            min_ratings=rules.least(self.items),
            split_seed=rules.seed,
            split_sizes={split: int((tables.split_of_user == i).sum()) for i, split in enumerate(SPLITS)},
            described_items=sum(item.description is not None for item in self.items),
            reviewed_interactions=0
            if tables.reviews is None
            else len(tables.reviews) - tables.reviews.null_count(),
            report={
                **asdict(self.dropped),
                "items_without_category": sum(not item.categories for item in self.items),
                "descriptions_left_over": self.descriptions_left_over,
                **self.report,
            },
            fingerprint=fingerprint(tables, self.rating_values, words.category),
        )
        columns = (tables.interactions, tables.user_ids, tables.items, tables.split_of_user)
        dataset = Dataset(info, *columns, reviews=tables.reviews)
        return with_label_statistics(dataset)

    def tell(self, say: Report) -> None:
        """Report what is in the dataset and what was dropped."""
        tables, dropped, words = self.tables, self.dropped, self.words
        ratings, users = plural(words.one_rating), counted(len(tables.user_ids), "user")
        sizes = np.bincount(tables.split_of_user, minlength=len(SPLITS))
        splits = ", ".join(f"{size:,} {split}" for split, size in zip(SPLITS, sizes, strict=True))
        say(f"{counted(len(tables.interactions), words.one_rating)} of {users} ({splits})")
        uncategorised = sum(not item.categories for item in self.items)
        without = f", {uncategorised:,} without a {words.category}" if uncategorised < len(self.items) else ""
        say(f"{counted(len(self.items), 'item')}{without}")
        undescribed = self.report.get(UNDESCRIBED, 0)
        if undescribed:
            say(f"left out {counted(undescribed, 'item')} without a description")
        if dropped.ratings_of_unknown_items:
            say(
                f"dropped {counted(dropped.ratings_of_unknown_items, words.one_rating)} of {plural(words.item)} "
                f"that are not in the catalogue{' or have no description' if undescribed else ''}"
            )
        if dropped.duplicate_ratings:
            say(
                f"dropped {counted(dropped.duplicate_ratings, words.one_rating)} that the same user gave again later"
            )
        if dropped.users_with_too_few_ratings:
            say(
                f"left out {counted(dropped.users_with_too_few_ratings, 'user')} with too few {ratings} "
                f"({counted(dropped.ratings_of_left_out_users, words.one_rating)})"
            )
        self._tell_descriptions(say)
        if tables.reviews is not None:
            texts = len(tables.reviews) - tables.reviews.null_count()
            say(f"review texts: of {texts / max(len(tables.reviews), 1):.1%} of the {ratings}")

    def _tell_descriptions(self, say: Report) -> None:
        described = np.asarray([item.description is not None for item in self.items])
        if not described.any() and not self.descriptions_left_over:
            return
        covered = (
            described[self.tables.interactions.item_index].mean() if len(self.tables.interactions) else 0.0
        )
        say(
            f"descriptions: {described.sum():,} of {len(described):,} items ({described.mean():.1%}), which "
            f"{covered:.1%} of the {plural(self.words.one_rating)} are about; "
            f"{counted(self.descriptions_left_over, 'description')} without an item"
        )
