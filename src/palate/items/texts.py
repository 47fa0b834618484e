"""Item fields → item texts: the three sentences of the paper that the item encoder reads."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from string import Formatter

from palate.config.recipe import ItemTextSettings
from palate.data.dataset import Dataset, DatasetInfo
from palate.errors import DataError
from palate.schema import Item
from palate.words import plural


@dataclass(frozen=True)
class ItemTexts:
    """The templates of the item texts; the defaults are the paper's, for movies with genres.

    ``{noun}`` and ``{field}`` stand for the two words below, the other names in braces for an item's fields.
    Raises :class:`DataError` when a template names anything else.
    """

    noun: str = "movie"
    """What an item is called."""
    field: str = "genres"
    """What the categories are called, in the plural."""
    listed: str = "The {noun} {title} is listed with {field} {categories}"
    unlisted: str = "The {noun} {title} is listed with no {field}"
    """For an item without categories; the paper does not say."""
    rated: str = "The {noun} is rated with {rating} stars"

    def __post_init__(self) -> None:
        _check("listed", self.listed, {"noun", "field", "title", "categories"})
        _check("unlisted", self.unlisted, {"noun", "field", "title"})
        _check("rated", self.rated, {"noun", "rating"})

    def title(self, item: Item) -> str:
        """The first field: title and categories, joined by commas."""
        words = {"noun": self.noun, "field": self.field, "title": item.title}
        if not item.categories:
            return self.unlisted.format(**words)
        return self.listed.format(**words, categories=", ".join(item.categories))

    def description(self, item: Item) -> str | None:
        """The second field: the description as it is, or nothing for a missing or blank one."""
        return item.description if item.description and not item.description.isspace() else None

    def rating(self, value: float) -> str:
        """One value of the scale; 4.0 is written as 4 and 3.5 as 3.5."""
        return self.rated.format(noun=self.noun, rating=f"{value:g}")


def texts_for(info: DatasetInfo, settings: ItemTextSettings | None = None) -> ItemTexts:
    """The templates in a dataset's own words, except for what ``settings`` give."""
    given = {} if settings is None else settings.model_dump(exclude_none=True)
    words = {"noun": info.item_noun, "field": plural(info.category_field), "rated": info.rating_text}
    return ItemTexts(**{**words, **given})


def dataset_items(dataset: Dataset) -> list[Item]:
    """The dataset's items, in the order of their indices."""
    columns = (
        dataset.items[name].to_list() for name in ("item_id", "title", "categories", "description", "year")
    )
    return [
        Item(item_id, title, tuple(categories or ()), description, year)
        for item_id, title, categories, description, year in zip(*columns, strict=True)
    ]


def _check(name: str, template: str, known: Iterable[str]) -> None:
    """Refuse other names: a template may come from a file, and must not reach into objects."""
    try:
        parts = list(Formatter().parse(template))
    except ValueError as error:
        raise DataError(
            f"the item text {name!r} is {template!r}: {error}; write a literal brace twice"
        ) from error
    wrong = sorted({field for _, field, _, _ in parts if field is not None} - set(known))
    nested = any("{" in (spec or "") or conversion for _, _, spec, conversion in parts)
    if wrong or nested:
        found = f"{{{wrong[0]}}}" if wrong else "a conversion or nested braces"
        raise DataError(
            f"the item text {name!r} holds {found}; it may hold "
            + ", ".join(f"{{{word}}}" for word in sorted(known))
        )
