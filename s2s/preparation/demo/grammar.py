"""The grammar of the demo corpus: templates that choose a meaning."""

import random
from dataclasses import replace

from s2s.preparation.demo.lexicon import (
    ADVERBS,
    ANIMAL,
    ANY,
    BELIEF,
    CITIES,
    DEFINITE,
    GIVING,
    INTRANSITIVE,
    INVOLUNTARY,
    MASS,
    MODALS,
    MOTION,
    NEGATED,
    NONE,
    NOUNS,
    PAST,
    RELATIONS,
    SCALES,
    STATE_TENSES,
    STATIVE,
    TENSES,
    THE,
    TIMES,
    TRANSITIVE,
    UNOWNED,
    Pair,
    entries,
    suiting,
)
from s2s.preparation.demo.phrases import (
    HER,
    HIM,
    ME,
    THEM,
    US,
    YOU,
    Clause,
    Person,
    gender_of,
    infinitive_of,
    join_pairs,
    noun_phrase,
    realise,
    realise_question,
    with_question_mark,
    with_tail,
)


class Grammar:
    """Random noun phrases, clauses of them, and sentences of clauses."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)  # noqa: S311

    def chance(self, probability: float) -> bool:
        """Return True with this probability."""
        return self.random.random() < probability

    def word(self, table: str) -> Pair:
        """Return a random word of a lexicon table."""
        return self.random.choice(entries(table))

    def noun(
        self, kinds: str, some: str = "", lead: Pair = NONE, of: Clause | None = None
    ) -> tuple[Pair, Person]:
        """Return a noun phrase of one of some kinds, and the person that its verb agrees with."""
        kind = self.random.choice(kinds.split())
        noun, mass = self.word(NOUNS[kind]), kind in ("staple", "drink")
        determiner = self.word("my=mon" if kind == "kin" else some or (MASS if mass else ANY))
        article = determiner[0]
        if article == "my" and kind in UNOWNED:
            determiner = ("the", "le")
        elif article == "#":  # not eleven: pyrealb would say "qu'onze"
            count = str(self.random.choice((*range(2, 11), *range(12, 21))))
            determiner = count, count
        elif of and (of.negative or of.adverb[0] == "never"):
            determiner = NEGATED.get(article, determiner)
        several = article in ("some", "#", "many", "how many") or self.chance(0.3)
        single = mass or kind == "kin" or article == "a" or some == THE
        number = "p" if several and not single else "s"
        adjectives = suiting(kind) if not some and self.chance(0.2) else ()
        adjective = self.random.choice(adjectives or (NONE,))
        owner = self.random.choice((ME, US, YOU, THEM))
        if of and not of.name[0] and self.chance(0.6):
            owner = of.who
        english, french = (
            noun_phrase(language, noun[i], determiner[i], number, adjective[i], owner, lead[i])
            for i, language in enumerate(("en", "fr"))
        )
        return (english, french), Person(3, number, gender_of(noun[1]))

    def subject(self, verb: str = "") -> tuple[Pair, Person]:
        """Return the subject of an English verb: its words, none for a pronoun, and its person."""
        if self.chance(0.6):
            return NONE, self.random.choice((ME, US, YOU, HIM, HER, THEM))
        return self.noun("person person kin animal animal" if verb in ANIMAL else "person kin")

    def place(self, at: str = "at") -> Pair:
        """Return a place to go to ("to") or to be at ("at", or "in" if it may be an animal's)."""
        if at == "in" or (at == "at" and self.chance(0.4)):
            return self.noun("area", THE, ("in", "dans"))[0]
        if self.chance(0.3):
            city = self.word(CITIES)
            return f"{'to' if at == 'to' else 'in'} {city[0]}", f"à {city[1]}"
        return self.noun("place", THE, (at, "à"))[0]

    def act(self, verb: Pair, negative: bool = False) -> Clause:
        """Return a clause of a verb, perhaps with a modal, that may still need an object."""
        name, who = self.subject(verb[0])
        if verb[0] in STATIVE:
            return Clause(who, verb, self.random.choice(STATE_TENSES), negative, name=name)
        if verb[0] not in INVOLUNTARY and self.chance(0.25):
            modal, link, tense, when = self.random.choice(MODALS)
            tail = infinitive_of("en", verb[0], link[0]), infinitive_of("fr", verb[1], link[1])
            return Clause(who, modal, tense, negative, name=name, tail=tail, when=when)
        tense, when = self.random.choice(TENSES)
        often = when == "present" and not negative and self.chance(0.3)
        adverb = self.word(ADVERBS) if often else NONE
        return Clause(who, verb, tense, negative, adverb, name=name, when=when)

    def transitive(self, negative: bool = False) -> Clause:
        """Return a clause with an object."""
        shares = [len(entries(verbs)) for verbs in TRANSITIVE.values()]
        kinds = self.random.choices([*TRANSITIVE], shares)[0]
        verb = self.word(TRANSITIVE[kinds])
        (english, _, about), (french, _, à) = verb[0].partition(" "), verb[1].partition(" ")
        clause = self.act((english, french), negative)
        if "person" in kinds and not (about or clause.tail[0]) and self.chance(0.4):
            speaker = clause.who.person
            others = [p for p in (ME, YOU, HIM, HER, THEM) if p.person == 3 or p.person != speaker]
            return replace(clause, them=self.random.choice(others))
        some = DEFINITE if à or english in ("like", "hate", "know") else ""
        return with_tail(clause, self.noun(kinds, some, (about, à), clause)[0])

    def intransitive(self, negative: bool = False) -> Clause:
        """Return a clause without an object, perhaps with a place."""
        verb = self.word(INTRANSITIVE)
        clause = self.act(verb, negative)
        place = self.place("in" if verb[0] in ANIMAL else "at")
        return with_tail(clause, place) if self.chance(0.4) else clause

    def motion(self, negative: bool = False) -> Clause:
        """Return a clause about going somewhere."""
        return with_tail(self.act(self.word(MOTION), negative), self.place("to"))

    def giving(self, negative: bool = False) -> Clause:
        """Return a clause about giving somebody something."""
        clause = self.act(self.word(GIVING), negative)
        gift, _ = self.noun("thing food text clothing", of=clause)
        friend, _ = self.noun("person kin", DEFINITE, ("to", "à"), clause)
        return with_tail(clause, gift, friend)

    def deed(self, negative: bool = False) -> Clause:
        """Return a clause about an action, perhaps with a time."""
        kinds = self.transitive, self.intransitive, self.motion, self.giving
        clause = self.random.choices(kinds, (9, 4, 2, 2))[0](negative)
        if not clause.when or clause.adverb[0] or self.chance(0.6):
            return clause
        return with_tail(clause, self.word(TIMES[clause.when]))

    def being(self, negative: bool = False) -> Clause:
        """Return a clause about what or where something is."""
        kind = self.random.choice([kind for kind in NOUNS if suiting(kind)])
        person = kind in ("person", "kin")
        name, who = self.subject() if person else self.noun(kind, DEFINITE)
        tense = self.random.choice(STATE_TENSES)
        clause = Clause(who, ("be", "être"), tense, negative, name=name)
        if person and self.chance(0.3):
            return replace(clause, verb=self.word("be=être live=habiter"), tail=self.place())
        if kind in ("animal", "food", "thing", "clothing", "text") and self.chance(0.5):
            near = self.random.choice([*RELATIONS])
            return with_tail(clause, self.noun(near, DEFINITE, self.word(RELATIONS[near]))[0])
        clause = replace(clause, adjective=self.random.choice(suiting(kind)))
        if clause.adjective[0] not in SCALES.split() or self.chance(0.3):
            return clause
        than, _ = self.noun(kind, DEFINITE, ("than", "que"))
        if than[0] == f"than {name[0]}" or self.chance(0.4):
            return replace(clause, adverb=("very", "très"))
        return replace(clause, adverb=("more", "plus"), tail=than)

    def clause(self, negative: bool = False) -> Clause:
        """Return a clause about a state or an action."""
        return self.being(negative) if self.chance(0.25) else self.deed(negative)

    def statement(self) -> Pair:
        """Return a statement."""
        return realise(self.clause(negative=self.chance(0.25)))

    def belief(self) -> Pair:
        """Return a statement about somebody's belief."""
        name, who = self.subject()
        that = realise(self.clause(), ("that", ""))
        return realise(Clause(who, self.word(BELIEF), name=name, tail=that))

    def presence(self) -> Pair:
        """Return a statement or question about the presence of something ("there is")."""
        negative, asked = self.random.choice(((False, False), (True, False), (False, True)))
        there = Clause(HIM, ("be", "y avoir"), self.random.choice(STATE_TENSES), negative)
        some = "a=un some=un" if negative else "a=un some=un #=# many=beaucoup_de"
        kind, at = self.random.choice((("person", "at"), ("animal", "in")))
        thing, who = self.noun(kind, some, of=there)
        there = with_tail(there, thing, self.place(at))
        realise_it = realise_question if asked else realise
        # The English verb agrees with what is there, the French one with an "il".
        return realise_it(replace(there, who=who, name=("there", "")))[0], realise_it(there)[1]

    def order(self) -> Pair:
        """Return a request ("please")."""
        clause = self.deed(negative=self.chance(0.3))
        while (
            clause.when != "present"
            or clause.verb[0] in INVOLUNTARY
            or clause.adverb[0]
            or clause.them  # French would put it after the verb
        ):
            clause = self.deed(negative=self.chance(0.3))
        return realise(replace(clause, who=YOU, name=("please", "s'il vous plaît,")))

    def whether(self) -> Pair:
        """Return a yes-no question."""
        return realise_question(self.clause())

    def circumstance(self) -> Pair:
        """Return a question with where, when or why."""
        clause = self.transitive() if self.chance(0.5) else self.act(self.word(INTRANSITIVE))
        if not clause.when or clause.adverb[0]:
            return realise_question(clause, ("why", "pourquoi est-ce"))
        return realise_question(
            clause, self.word("where=où_est-ce when=quand_est-ce why=pourquoi_est-ce")
        )

    def doer(self) -> Pair:
        """Return a question with who."""
        return with_question_mark(realise(replace(self.deed(), who=HIM, name=("who", "qui"))))

    def what(self) -> Pair:
        """Return a question for an object, with what, how many or which."""
        things = [k for k in TRANSITIVE if not {"person", "staple", "drink"} & {*k.split()}]
        kinds = self.random.choice(things)
        clause, opener = self.act(self.word(TRANSITIVE[kinds])), ("what", "qu'est-ce")
        # After "combien" and "quel" the participle would have to agree with what they ask for.
        if clause.tense != PAST and self.chance(0.6):
            asked, _ = self.noun(kinds, "how_many=combien_de which=quel")
            opener = join_pairs(asked, ("", "est-ce"))
        return realise_question(clause, opener)

    def sentence(self) -> Pair:
        """Return a random sentence, with its capital and final mark."""
        questions = self.whether, self.circumstance, self.doer, self.what
        others = self.statement, self.belief, self.presence, self.order
        weights = (13, 6, 5, 6, 52, 7, 6, 5)
        english, french = self.random.choices((*questions, *others), weights)[0]()
        if not english.endswith("?"):
            english, french = f"{english}.", f"{french}."
        return english[0].upper() + english[1:], french[0].upper() + french[1:]
