"""Templates that format item fields as texts for the item encoder, by default the paper's."""

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
    """Templates of the item texts; the defaults are the paper's, for movies with genres.

    ``{noun}`` and ``{field}`` are replaced by the nouns below, other names in braces by fields of the item.

    Raises:
        DataError: A template has an unknown name in braces.
    """

    noun: str = "movie"
    """Singular noun for an item."""
    field: str = "genres"
    """Plural noun for the categories."""
    listed: str = "The {noun} {title} is listed with {field} {categories}"
    unlisted: str = "The {noun} {title} is listed with no {field}"
    """Template for items without categories; the paper has none for them."""
    rated: str = "The {noun} is rated with {rating} stars"

    def __post_init__(self) -> None:
        _check("listed", self.listed, {"noun", "field", "title", "categories"})
        _check("unlisted", self.unlisted, {"noun", "field", "title"})
        _check("rated", self.rated, {"noun", "rating"})

    def title(self, item: Item) -> str:
        """Format the first field: title and categories, separated by commas."""
        words = {"noun": self.noun, "field": self.field, "title": item.title}
        if not item.categories:
            return self.unlisted.format(**words)
        return self.listed.format(**words, categories=", ".join(item.categories))

    def description(self, item: Item) -> str | None:
        """Return the second field, the description; None if it is missing or blank."""
        return item.description if item.description and not item.description.isspace() else None

    def rating(self, value: float) -> str:
        """Format a rating value; 4.0 as 4, and 3.5 as 3.5."""
        return self.rated.format(noun=self.noun, rating=f"{value:g}")


def texts_for(info: DatasetInfo, settings: ItemTextSettings | None = None) -> ItemTexts:
    """Create the templates of a dataset, overridden by ``settings``."""
    given = {} if settings is None else settings.model_dump(exclude_none=True)
    words = {"noun": info.item_noun, "field": plural(info.category_field), "rated": info.rating_text}
    return ItemTexts(**{**words, **given})


def dataset_items(dataset: Dataset) -> list[Item]:
    """List the dataset's items by index."""
    columns = (
        dataset.items[name].to_list() for name in ("item_id", "title", "categories", "description", "year")
    )
    return [
        Item(item_id, title, tuple(categories or ()), description, year)
        for item_id, title, categories, description, year in zip(*columns, strict=True)
    ]


def _check(name: str, template: str, known: Iterable[str]) -> None:
    """Reject unknown names and attribute access: a template may come from a file."""
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
            f"the item text {name!r} contains {found}; expected only "
            + ", ".join(f"{{{word}}}" for word in sorted(known))
        )
