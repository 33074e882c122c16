"""The rules by which a preparation leaves rows out of a corpus: their names and meanings.

`Manifest.drops` counts the rows that break each rule. The checks themselves are in
`s2s.preparation.clean`, but for those of the readers (`columns`, `malformed`, `variant`,
`fuzzy`), of splitting into words (`no_words`), and those across rows (`duplicate`,
`target_leak`), which `s2s.preparation.stages` has.
"""

RULES: dict[str, str] = {
    "columns": "the row does not have the two columns",
    "malformed": "the line is not a JSON object, or the unit of a TMX file not XML",
    "variant": "another text in the same language of the unit is used",
    "fuzzy": "the catalogue marks the translation as fuzzy",
    "empty": "a side has no text",
    "encoding": "not valid UTF-8, UTF-8 encoded twice, or with a replacement character (U+FFFD)",
    "control": "control characters, byte order marks or direction overrides",
    "markup": "tags or character entities of HTML or XML",
    "script": "less than half of a side's letters are in its language's script",
    "identical": "source and target differ in case, punctuation and spaces at most",
    "too_long": "a side has more characters than the limit",
    "length_ratio": "one side is too many times longer than the other",
    "no_words": "normalising leaves no letter of a side",
    "duplicate": "the row is equal to an earlier one",
    "target_leak": "the target is held out, too",
}
"""What each rule leaves out. A row counts under the first rule that it breaks, in this order."""

REMEDIES: dict[str, str] = {
    "columns": "a row must be: source, tab, target; --columns names or numbers other columns",
    "malformed": "each line of JSON must be an object with a text for each language, and each unit "
    "of TMX must be XML",
    "variant": "another text of the same unit and language is used",
    "fuzzy": "translations must be confirmed: remove the mark fuzzy",
    "empty": "a row must be: source, tab, target; --columns names or numbers other columns",
    "encoding": "the file must be UTF-8; --corpus.clean.no-encoding keeps such rows",
    "control": "--corpus.clean.no-control keeps such rows",
    "markup": "--corpus.clean.no-markup keeps such rows",
    "script": "--languages or --columns is wrong, unless --corpus.clean.no-script keeps such rows",
    "identical": "--corpus.clean.no-identical keeps such rows",
    "too_long": "--corpus.clean.max-characters raises the limit, None sets none",
    "length_ratio": "--corpus.clean.max-ratio raises the limit, None sets none",
    "no_words": "--text.normaliser lossless keeps every character",
    "duplicate": "--corpus.clean.no-duplicate keeps such rows",
    "target_leak": "--corpus.split random keeps such rows, and leaks held-out sentences",
}
"""What to do where a rule leaves out most rows."""
