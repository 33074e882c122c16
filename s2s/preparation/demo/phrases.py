"""Phrases and clauses of the demo corpus, realised by pyrealb and cached."""

import warnings
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, NamedTuple

from s2s.preparation.demo.lexicon import FUTURE, NONE, PRESENT, WOULD, Pair


class Person(NamedTuple):
    """What a verb agrees with, in pyrealb's letters; the gender is the French one."""

    person: int = 3
    number: str = "s"
    gender: str = "m"


ME, US, HIM, HER, THEM = Person(1), Person(1, "p"), Person(3), Person(3, "s", "f"), Person(3, "p")
YOU = Person(2, "p")  # always "vous", and several
NAME = "@"  # stands for the subject's words where a verb is realised


@dataclass(frozen=True)
class Clause:
    """A subject with a finite verb, what goes with the verb, and how the clause ends."""

    who: Person
    verb: Pair
    tense: Pair = PRESENT
    negative: bool = False
    adverb: Pair = NONE
    adjective: Pair = NONE
    them: Person | None = None  # an object that is a pronoun
    name: Pair = NONE  # the subject's words, none for a pronoun
    tail: Pair = NONE
    when: str = ""  # the table of the times that suit it


@cache
def library() -> Any:
    """Return pyrealb, imported at the first call: it reads its dictionaries on import."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # and leaves their files open
        import pyrealb
    return pyrealb


def _pyrealb(language: str) -> Any:
    """Return pyrealb, set to a language, and to raise PyrealbException instead of warning."""
    rb = library()
    rb.load(language)
    rb.Constituent.exceptionOnWarning = True
    return rb


def _realise_text(expression: Any) -> str:
    """Return the words of an expression, without a capital and a full stop."""
    words: str = expression.cap(False).realize()
    return words.strip()


def _words_before(rb: Any, words: str) -> list[Any]:
    """Return the words before a phrase. In French the last may elide or contract with the next."""
    *before, last = words.split() or [""]
    french = {"": rb.Q, "que": rb.C}.get(last, rb.P)
    return [*map(rb.Q, before), (french if rb.getLanguage() == "fr" else rb.Q)(last)]


def _pronoun(rb: Any, lemma: str, who: Person) -> Any:
    return rb.Pro(lemma).pe(who.person).n(who.number).g(who.gender)


@cache
def gender_of(noun: str) -> str:
    """Return the gender of a French noun; one of both genders ("enfant") counts as masculine."""
    return "f" if _pyrealb("fr").N(noun).getProp("g") == "f" else "m"


@cache
def noun_phrase(
    language: str, noun: str, determiner: str, number: str, adjective: str, owner: Person, lead: str
) -> str:
    """Return a noun phrase, perhaps after a preposition."""
    rb = _pyrealb(language)
    described, start = rb.A(adjective) if adjective else None, _words_before(rb, lead)
    if determiner == "un" and number == "p" and described and described.getProp("pos") == "pre":
        determiner = "de"  # "des arbres verts", but "de grands arbres"
    for word in determiner.split():
        if word.isdigit():
            start.append(rb.NO(int(word)).dOpt({"nat": True}))
        elif word == "my":
            start.append(rb.D("my").pe(owner.person).ow(owner.number).g(owner.gender))
        elif word == "mon":
            start.append(rb.D("mon" if owner.number == "s" else "notre").pe(owner.person))
        elif word == "de":
            start.append(rb.P("de"))
        else:
            start.append(rb.Q(word) if word in ("how", "combien", "beaucoup") else rb.D(word))
    return _realise_text(rb.NP(start, described, rb.N(noun).n(number)))


@cache
def infinitive_of(language: str, verb: str, link: str) -> str:
    """Return an infinitive with its link to the finite verb: "to eat", "en train de manger"."""
    rb = _pyrealb(language)
    if link == "-ing":
        return _realise_text(rb.V(verb).t("pr"))
    return _realise_text(rb.VP(_words_before(rb, link), rb.V(verb).t("b")))


@cache
def _english(clause: Clause, asked: bool) -> str:
    """Return an English clause without its tail, as a statement or question."""
    rb = _pyrealb("en")
    who, verb, tense = clause.who, clause.verb[0], clause.tense[0]
    subject = rb.Q(NAME) if clause.name[0] else _pronoun(rb, "I", who)
    adverb = rb.Adv(clause.adverb[0]) if clause.adverb[0] not in ("", "more") else None
    adjective: Any = rb.A(clause.adjective[0]) if clause.adjective[0] else None
    if clause.adverb[0] == "more":
        adjective.f("co")  # "bigger", "more expensive"
    # What follows the verb is outside its phrase, lest "won't be very old" be reordered.
    before, after = (None, [adverb]) if verb == "be" else (adverb, [])
    after += [adjective, clause.them and _pronoun(rb, "me", clause.them).c("acc")]
    if not asked:
        finite = rb.V(verb).t(tense).pe(who.person).n(who.number)
        sentence = rb.S(subject, rb.VP(before, finite), after)
        if clause.negative:
            sentence.typ({"neg": True, "contr": True})
        return _realise_text(sentence).replace(
            "cannot", "can't"
        )  # contracted only within its phrase
    lemma, infinitive = "do", rb.V(verb).t("b")
    if clause.tense in (FUTURE, WOULD):
        lemma, tense = "will", "p" if clause.tense == FUTURE else "ps"
    elif verb in ("be", "can", "must"):
        lemma, infinitive = verb, None
    finite = rb.V(lemma).t(tense).pe(who.person).n(who.number)
    return _realise_text(rb.S(finite, subject, before, infinitive, after))


@cache
def _french(clause: Clause, after_que: bool) -> str:
    """Return a French clause without its tail; "que" may precede a subject that is a pronoun."""
    rb = _pyrealb("fr")
    who, adverb = clause.who, clause.adverb[1]
    *clitics, verb = clause.verb[1].split()  # "y avoir"
    finite = rb.V(verb).t(clause.tense[1]).pe(who.person).n(who.number).g(who.gender)
    words = [finite, *(rb.Pro(clitic).c("dat") for clitic in clitics)]
    if clause.them:
        words.append(_pronoun(rb, "moi", clause.them).c("acc"))
        finite.cod = words[-1]  # so that the participle agrees with it
    if adverb not in ("", "jamais"):
        words.append(rb.Adv(adverb))
    if clause.adjective[1]:
        words.append(rb.A(clause.adjective[1]).n(who.number).g(who.gender))
    subject = [rb.C("que") if after_que else None, _pronoun(rb, "je", who)]
    sentence = rb.S(rb.Q(NAME) if clause.name[1] else subject, rb.VP(words))
    return _realise_text(sentence.typ({"neg": "jamais" if adverb == "jamais" else clause.negative}))


@cache
def _after_que(words: str) -> str:
    rb = _pyrealb("fr")
    return _realise_text(rb.NP(_words_before(rb, "que"), rb.Q(words)))


def join_pairs(*parts: Pair) -> Pair:
    """Return the pairs joined by spaces, in each language."""
    english, french = zip(*parts, strict=True)
    return " ".join(filter(None, english)), " ".join(filter(None, french))


def with_tail(clause: Clause, *words: Pair) -> Clause:
    """Return a clause with more words at its end."""
    return replace(clause, tail=join_pairs(clause.tail, *words))


def realise(clause: Clause, opener: Pair = NONE, asked: bool = False) -> Pair:
    """Return a statement or question; in French, "que" follows an opener ("that", "est-ce")."""
    (english, french), after_que = clause.name, opener != NONE
    core = replace(clause, name=(english and NAME, french and NAME), tail=NONE, when="")
    core_pair = (
        _english(core, asked).replace(NAME, english),
        _french(core, after_que).replace(NAME, _after_que(french) if after_que else french),
    )
    return join_pairs(opener, core_pair, clause.tail)


def with_question_mark(question: Pair) -> Pair:
    """Return a question with its mark; in French, a narrow no-break space precedes it."""
    return f"{question[0]}?", f"{question[1]}\u202f?"


def realise_question(clause: Clause, opener: Pair = ("", "est-ce")) -> Pair:
    """Return a question with its mark, with "you" instead of "I" and "we"."""
    if clause.who.person == 1:
        clause = replace(clause, who=YOU, them=ME if clause.them == YOU else clause.them)
    return with_question_mark(realise(clause, opener, asked=True))
