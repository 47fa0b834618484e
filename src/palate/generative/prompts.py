"""Prompts of each family of tasks. The last prompt of each form is held out from training, for evaluation.

Fields in braces are filled by :mod:`palate.generative.wording`: ``{who}`` names the user by an id, or says what an
unknown user chose.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from palate.config.generative import Family

Form: TypeAlias = Literal[
    "next", "open", "pick", "yes-no", "stars", "like", "text", "text of stars", "labels"
]
"""Form of question and answer: an item after a history, any item, one of several; yes or no about an item; stars, a
like; a text, from the user and the item alone or for given stars; liked and disliked categories."""
YES, NO = "yes", "no"


@dataclass(frozen=True)
class PromptForm:
    """Wordings of one form of question."""

    form: Form
    texts: tuple[str, ...]

    @property
    def trained(self) -> tuple[str, ...]:
        """Prompts that are used in training."""
        return self.texts[:-1]

    @property
    def held_out(self) -> str:
        """The prompt that is not used in training."""
        return self.texts[-1]


PROMPTS: dict[Family, tuple[PromptForm, ...]] = {
    "sequential": (
        PromptForm(
            "next",
            (
                "so far {who} chose {history} . which {noun} comes next ?",
                "{who} went from one {noun} to another : {history} . name the following one",
                "oldest first , {who} took {history} . what now ?",
                "the list of {who} reads {history} . continue it",
                "after {history} , which {noun} does {who} turn to ?",
            ),
        ),
    ),
    "direct": (
        PromptForm(
            "open",
            (
                "name a {noun} that {who} would choose",
                "what can be recommended to {who} ?",
                "{who} looks for a {noun} . which one ?",
                "which {noun} suits {who} ?",
            ),
        ),
        PromptForm(
            "pick",
            (
                "only one of these is for {who} : {candidates} . which ?",
                "from {candidates} , find the {noun} for {who}",
                "{who} is offered {candidates} . say which one is taken",
                "pick for {who} among {candidates}",
            ),
        ),
        PromptForm(
            "yes-no",
            (
                "would {who} choose {item} ?",
                "is {item} something for {who} ?",
                "should {item} be shown to {who} ?",
            ),
        ),
    ),
    "rating": (
        PromptForm(
            "stars",
            (
                "how many stars does {who} give to {item} ?",
                "{who} rates {item} with",
                "guess the stars that {item} gets from {who}",
                "{item} is judged by {who} . the stars are",
                "what rating does {who} give to {item} ?",
                "the rating that {who} would leave for {item} is",
                "would {who} leave many stars for {item} ? what rating ?",
                "what rating would {who} leave for {item} ?",
            ),
        ),
        PromptForm(
            "like",
            (
                "does {who} like {item} ?",
                "is {who} pleased with {item} ?",
                "did {item} please {who} ?",
            ),
        ),
    ),
    "explanation": (
        PromptForm(
            "text",
            (
                "what does {who} say of {item} ?",
                "{who} on {item} :",
                "write to {who} about {item}",
                "how does {who} explain {item} ?",
                "explain to {who} what {item} is",
                "explain {item} in the words of {who}",
                "say to {who} how {item} is",
                "explain {item} to {who}",
            ),
        ),
        PromptForm(
            "text of stars",
            (
                "why did {who} give {stars} stars to {item} ?",
                "{who} explains {stars} stars for {item} :",
                "tell in the words of {who} why {item} deserves {stars} stars",
                "with {stars} stars , what does {who} write about {item} ?",
                "{stars} stars for {item} : what does {who} say ?",
                "with {stars} stars for {item} , {who} explains it :",
                "{item} has {stars} stars from {who} , who does say why :",
                "with {stars} stars for {item} , what does {who} say ?",
            ),
        ),
    ),
    "review": (
        PromptForm(
            "stars",
            (
                "somebody wrote : {text} . how many stars go with that ?",
                "read this review and guess its stars : {text}",
                "{text} . how many stars does that review give ?",
                "that is a review : {text} . of how many stars ?",
                "{text} . that is a review of how many stars ?",
            ),
        ),
    ),
    "categories": (
        PromptForm(
            "labels",
            (
                "which {fields} does {who} like and dislike ?",
                "name the {fields} that {who} likes , and those that are not liked",
                "what are the best and the worst {fields} for {who} ?",
                "{who} likes some {fields} and avoids others . which ?",
                "describe the taste of {who} : favourite {fields} , and {fields} to avoid",
            ),
        ),
    ),
}


def form_of(family: Family, form: Form) -> PromptForm:
    """Return a family's prompts of a form."""
    return next(one for one in PROMPTS[family] if one.form == form)
