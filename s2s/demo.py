"""The embedded demo corpus: simple English sentences with their French translations.

Templates of our own choose a meaning; pyrealb says it in both languages, with all inflection,
agreement, elision and contraction. One English word has one French word, and one tense one tense,
so that a small model can learn the whole of it in minutes.
"""

import gzip
import hashlib
import importlib.metadata
import json
import os
import random
import uuid
import warnings
import zlib
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import platformdirs

__all__ = ["generate", "load"]

Pair = tuple[str, str]  # English, French
NONE: Pair = ("", "")

# ---- Lexicon: "english=french", with an underscore for a space ---------------------------------

NOUNS = {
    "person": "man=homme woman=femme boy=garçon girl=fille child=enfant teacher=professeur "
    "doctor=médecin student=étudiant farmer=fermier baker=boulanger lady=dame king=roi "
    "singer=chanteur waiter=serveur soldier=soldat queen=reine tourist=touriste writer=écrivain",
    "kin": "father=père mother=mère brother=frère uncle=oncle aunt=tante cousin=cousin friend=ami "
    "grandmother=grand-mère grandfather=grand-père neighbor=voisin",
    "animal": "dog=chien cat=chat horse=cheval cow=vache bird=oiseau sheep=mouton pig=cochon "
    "rabbit=lapin mouse=souris duck=canard goat=chèvre donkey=âne",
    "food": "apple=pomme orange=orange banana=banane cake=gâteau sandwich=sandwich tomato=tomate "
    "carrot=carotte lemon=citron pear=poire cookie=biscuit pie=tarte strawberry=fraise",
    "staple": "bread=pain cheese=fromage meat=viande rice=riz butter=beurre fish=poisson "
    "ham=jambon chocolate=chocolat soup=soupe",
    "drink": "water=eau milk=lait coffee=café tea=thé wine=vin beer=bière juice=jus",
    "thing": "key=clé phone=téléphone umbrella=parapluie ball=ballon knife=couteau plate=assiette "
    "glass=verre bottle=bouteille cup=tasse lamp=lampe computer=ordinateur toy=jouet gift=cadeau "
    "flower=fleur pencil=crayon map=carte photo=photo ticket=billet basket=panier",
    "dish": "plate=assiette glass=verre bottle=bouteille cup=tasse lamp=lampe window=fenêtre",
    "clothing": "shirt=chemise dress=robe coat=manteau hat=chapeau shoe=chaussure skirt=jupe "
    "jacket=veste scarf=écharpe glove=gant",
    "text": "book=livre letter=lettre newspaper=journal",
    "writing": "book=livre letter=lettre story=histoire poem=poème song=chanson",
    "sound": "song=chanson radio=radio story=histoire",
    "opening": "door=porte window=fenêtre box=boîte bag=sac drawer=tiroir suitcase=valise",
    "vehicle": "car=voiture bike=vélo train=train boat=bateau truck=camion plane=avion",
    "motor": "car=voiture truck=camion train=train",
    "furniture": "table=table chair=chaise bed=lit sofa=canapé shelf=étagère bench=banc",
    "landmark": "tree=arbre wall=mur bridge=pont river=rivière fountain=fontaine",
    "area": "garden=jardin kitchen=cuisine park=parc forest=forêt street=rue village=village "
    "house=maison city=ville field=champ",
    "place": "school=école market=marché hospital=hôpital station=gare airport=aéroport "
    "bank=banque restaurant=restaurant beach=plage museum=musée library=bibliothèque office=bureau "
    "theater=théâtre church=église hotel=hôtel farm=ferme castle=château",
}
UNOWNED = ("person", "landmark", "area", "place")
ADJECTIVES = {  # by the kinds of noun they suit
    "person kin": "tired=fatigué happy=heureux sad=triste rich=riche poor=pauvre calm=calme "
    "famous=célèbre brave=courageux polite=poli proud=fier intelligent=intelligent",
    "person kin animal": "sick=malade strong=fort young=jeune old=vieux",
    "animal food thing clothing opening vehicle furniture area place": "big=grand small=petit",
    "animal clothing thing opening vehicle furniture": "white=blanc black=noir",
    "thing clothing opening vehicle furniture": "red=rouge blue=bleu green=vert yellow=jaune "
    "clean=propre dirty=sale",
    "thing clothing vehicle": "modern=moderne heavy=lourd expensive=cher",
    "thing clothing vehicle area place": "old=vieux beautiful=beau",
    "food staple": "good=bon bad=mauvais fresh=frais delicious=délicieux",
    "staple drink": "hot=chaud cold=froid",
    "text writing": "interesting=intéressant boring=ennuyeux funny=drôle beautiful=beau",
    "area place": "quiet=tranquille dangerous=dangereux",
}
SCALES = (
    "happy rich poor strong young old big small heavy expensive beautiful hot cold interesting "
    "boring funny quiet dangerous dirty intelligent"
)
TRANSITIVE = {  # by the kinds of object they take
    "food staple": "eat=manger prepare=préparer cut=couper",
    "drink": "drink=boire",
    "food staple drink thing clothing text vehicle": "buy=acheter sell=vendre choose=choisir",
    "food staple drink animal sound text place": "like=aimer hate=détester",
    "animal thing clothing text vehicle": "have=avoir want=vouloir",
    "person kin animal thing landmark vehicle": "see=voir look_for=chercher draw=dessiner",
    "thing clothing text": "find=trouver lose=perdre",
    "thing food drink text": "bring=apporter take=prendre",
    "person kin animal": "watch=regarder follow=suivre",
    "person kin vehicle": "wait_for=attendre",
    "sound person kin": "listen_to=écouter",
    "person kin": "help=aider call=appeler meet=rencontrer invite=inviter talk_to=parler_à",
    "person kin place": "know=connaître",
    "text writing": "read=lire",
    "writing": "write=écrire finish=finir understand=comprendre forget=oublier",
    "opening": "open=ouvrir close=fermer",
    "clothing": "wear=porter",
    "clothing vehicle": "wash=laver",
    "furniture": "clean=nettoyer",
    "dish": "break=casser",
    "vehicle furniture": "repair=réparer",
    "motor": "drive=conduire",
    "place": "visit=visiter",
}
INTRANSITIVE = (
    "sleep=dormir run=courir sing=chanter dance=danser work=travailler study=étudier laugh=rire "
    "cry=pleurer play=jouer walk=marcher smile=sourire eat=manger read=lire fall=tomber "
    "arrive=arriver"
)
MOTION = "go=aller come=venir return=retourner"
GIVING = "give=donner show=montrer send=envoyer"
BELIEF = "think=penser believe=croire say=dire hope=espérer"
STATIVE = ("have", "want", "know", "like", "hate")
INVOLUNTARY = ("see", "find", "lose", "meet", "break", "forget", "understand", "fall")
ANIMAL = ("eat", "drink", "see", "follow", "look", "sleep", "run", "play", "fall")  # do so too

CITIES = "Paris=Paris London=Londres Rome=Rome Berlin=Berlin Madrid=Madrid"
RELATIONS = {  # by the kinds of what something is on, under or beside
    "furniture": "on=sur under=sous behind=derrière",
    "furniture landmark vehicle": "in_front_of=devant near=près_de next_to=à_côté_de",
}
ADVERBS = "often=souvent always=toujours sometimes=parfois never=jamais"
TIMES = {
    "present": "every_day=chaque_jour every_week=chaque_semaine in_the_morning=le_matin "
    "in_the_evening=le_soir at_night=la_nuit on_Sundays=le_dimanche in_summer=en_été "
    "in_winter=en_hiver",
    "now": "now=maintenant today=aujourd'hui",
    "past": "yesterday=hier last_week=la_semaine_dernière last_month=le_mois_dernier "
    "last_year=l'année_dernière two_days_ago=il_y_a_deux_jours on_Monday=lundi",
    "future": "tomorrow=demain next_week=la_semaine_prochaine next_month=le_mois_prochain "
    "next_year=l'année_prochaine in_two_days=dans_deux_jours on_Saturday=samedi tonight=ce_soir",
}
PRESENT, PAST, STATE_PAST = ("p", "p"), ("ps", "pc"), ("ps", "i")  # in pyrealb's letters
FUTURE, WOULD = ("f", "f"), ("c", "c")
TENSES = ((PRESENT, "present"), (PAST, "past"), (FUTURE, "future"))  # with the times of each
STATE_TENSES = (PRESENT, STATE_PAST, FUTURE)
MODALS = (  # finite verb, what links it to the infinitive, tense, and its times
    (("can", "pouvoir"), NONE, PRESENT, "now"),
    (("must", "devoir"), NONE, PRESENT, "future"),
    (("want", "vouloir"), ("to", ""), PRESENT, "now"),
    (("want", "vouloir"), ("to", ""), STATE_PAST, "past"),
    (("like", "vouloir"), ("to", ""), WOULD, "future"),
    (("be", "aller"), ("going to", ""), PRESENT, "future"),
    (("be", "être"), ("-ing", "en train de"), PRESENT, "now"),
    (("be", "être"), ("-ing", "en train de"), STATE_PAST, "past"),
    (("need", "avoir"), ("to", "besoin de"), PRESENT, "now"),
    (("try", "essayer"), ("to", "de"), PAST, "past"),
    (("start", "commencer"), ("to", "à"), PAST, "past"),
)
# Determiners, some of them as often as they stand here; # is a number.
ANY = "the=le the=le the=le my=mon my=mon this=ce a=un a=un some=un some=un #=# many=beaucoup_de"
MASS = "the=le the=le my=mon some=de_le some=de_le some=de_le this=ce"
DEFINITE, THE = "the=le the=le my=mon this=ce", "the=le"
NEGATED = {"a": ("a", "de"), "some": ("any", "de")}


@cache
def _words(table: str) -> tuple[Pair, ...]:
    """The entries of a lexicon table."""
    entries = (entry.replace("_", " ").partition("=") for entry in table.split())
    return tuple((english, french) for english, _, french in entries)


@cache
def _suiting(kind: str) -> tuple[Pair, ...]:
    """The adjectives that suit a kind of noun."""
    return tuple(w for kinds, ws in ADJECTIVES.items() if kind in kinds.split() for w in _words(ws))


# ---- Phrases: each is realised once by pyrealb, then remembered ---------------------------------


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
def _library() -> Any:
    """The pyrealb module, imported when first wanted: it reads its dictionaries on import."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # and leaves their files open
        import pyrealb
    return pyrealb


def _pyrealb(language: str) -> Any:
    """The library, set to a language, and to raise PyrealbException where it would warn."""
    rb = _library()
    rb.load(language)
    rb.Constituent.exceptionOnWarning = True
    return rb


def _text(expression: Any) -> str:
    """The words of an expression, without capital and full stop."""
    words: str = expression.cap(False).realize()
    return words.strip()


def _lead(rb: Any, words: str) -> list[Any]:
    """Words before a phrase. In French the last may elide, or contract with the next."""
    *before, last = words.split() or [""]
    french = {"": rb.Q, "que": rb.C}.get(last, rb.P)
    return [*map(rb.Q, before), (french if rb.getLanguage() == "fr" else rb.Q)(last)]


def _pronoun(rb: Any, lemma: str, who: Person) -> Any:
    return rb.Pro(lemma).pe(who.person).n(who.number).g(who.gender)


@cache
def _gender(noun: str) -> str:
    """A French noun's gender; one of both ("enfant") is taken as masculine."""
    return "f" if _pyrealb("fr").N(noun).getProp("g") == "f" else "m"


@cache
def _noun(
    language: str, noun: str, determiner: str, number: str, adjective: str, owner: Person, lead: str
) -> str:
    """A noun phrase, perhaps after a preposition."""
    rb = _pyrealb(language)
    described, start = rb.A(adjective) if adjective else None, _lead(rb, lead)
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
    return _text(rb.NP(start, described, rb.N(noun).n(number)))


@cache
def _infinitive(language: str, verb: str, link: str) -> str:
    """A second verb with what links it to the first: "to eat", "en train de manger"."""
    rb = _pyrealb(language)
    if link == "-ing":
        return _text(rb.V(verb).t("pr"))
    return _text(rb.VP(_lead(rb, link), rb.V(verb).t("b")))


@cache
def _english(clause: Clause, asked: bool) -> str:
    """The clause less its tail, as a statement or question."""
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
        return _text(sentence).replace("cannot", "can't")  # contracted only within its phrase
    lemma, infinitive = "do", rb.V(verb).t("b")
    if clause.tense in (FUTURE, WOULD):
        lemma, tense = "will", "p" if clause.tense == FUTURE else "ps"
    elif verb in ("be", "can", "must"):
        lemma, infinitive = verb, None
    finite = rb.V(lemma).t(tense).pe(who.person).n(who.number)
    return _text(rb.S(finite, subject, before, infinitive, after))


@cache
def _french(clause: Clause, led: bool) -> str:
    """The clause less its tail; a subject that is a pronoun may be led by "que"."""
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
    subject = [rb.C("que") if led else None, _pronoun(rb, "je", who)]
    sentence = rb.S(rb.Q(NAME) if clause.name[1] else subject, rb.VP(words))
    return _text(sentence.typ({"neg": "jamais" if adverb == "jamais" else clause.negative}))


@cache
def _after_que(words: str) -> str:
    rb = _pyrealb("fr")
    return _text(rb.NP(_lead(rb, "que"), rb.Q(words)))


def _join(*parts: Pair) -> Pair:
    """The parts one after the other, in each language."""
    english, french = zip(*parts, strict=True)
    return " ".join(filter(None, english)), " ".join(filter(None, french))


def _more(clause: Clause, *words: Pair) -> Clause:
    """The clause with more words at its end."""
    return replace(clause, tail=_join(clause.tail, *words))


def _say(clause: Clause, opener: Pair = NONE, asked: bool = False) -> Pair:
    """A statement or question. After an opener ("that", "est-ce") French goes on with "que"."""
    (english, french), led = clause.name, opener != NONE
    core = replace(clause, name=(english and NAME, french and NAME), tail=NONE, when="")
    said = (
        _english(core, asked).replace(NAME, english),
        _french(core, led).replace(NAME, _after_que(french) if led else french),
    )
    return _join(opener, said, clause.tail)


def _marked(question: Pair) -> Pair:
    """A question with its mark, before which French print has a thin space."""
    return f"{question[0]}?", f"{question[1]}\u202f?"


def _ask(clause: Clause, opener: Pair = ("", "est-ce")) -> Pair:
    """A marked question, in which "you" stands for what would be "I" or "we"."""
    if clause.who.person == 1:
        clause = replace(clause, who=YOU, them=ME if clause.them == YOU else clause.them)
    return _marked(_say(clause, opener, asked=True))


# ---- Templates: what is said --------------------------------------------------------------------


class _Grammar:
    """Chooses what to say: noun phrases, then clauses, then sentences that lack their capital."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)  # noqa: S311

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability

    def word(self, table: str) -> Pair:
        return self.random.choice(_words(table))

    def noun(
        self, kinds: str, some: str = "", lead: Pair = NONE, of: Clause | None = None
    ) -> tuple[Pair, Person]:
        """A noun phrase of some kind in a clause, and what a verb that it governs agrees with."""
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
        adjectives = _suiting(kind) if not some and self.chance(0.2) else ()
        adjective = self.random.choice(adjectives or (NONE,))
        owner = self.random.choice((ME, US, YOU, THEM))
        if of and not of.name[0] and self.chance(0.6):
            owner = of.who
        english, french = (
            _noun(language, noun[i], determiner[i], number, adjective[i], owner, lead[i])
            for i, language in enumerate(("en", "fr"))
        )
        return (english, french), Person(3, number, _gender(noun[1]))

    def subject(self, verb: str = "") -> tuple[Pair, Person]:
        """Who does what the English verb says: the words, none for a pronoun, and the person."""
        if self.chance(0.6):
            return NONE, self.random.choice((ME, US, YOU, HIM, HER, THEM))
        return self.noun("person person kin animal animal" if verb in ANIMAL else "person kin")

    def place(self, at: str = "at") -> Pair:
        """Where someone goes ("to"), is ("at"), or is if it may be an animal ("in")."""
        if at == "in" or (at == "at" and self.chance(0.4)):
            return self.noun("area", THE, ("in", "dans"))[0]
        if self.chance(0.3):
            city = self.word(CITIES)
            return f"{'to' if at == 'to' else 'in'} {city[0]}", f"à {city[1]}"
        return self.noun("place", THE, (at, "à"))[0]

    def act(self, verb: Pair, negative: bool = False) -> Clause:
        """A clause of this verb, perhaps after a modal, that may yet need an object."""
        name, who = self.subject(verb[0])
        if verb[0] in STATIVE:
            return Clause(who, verb, self.random.choice(STATE_TENSES), negative, name=name)
        if verb[0] not in INVOLUNTARY and self.chance(0.25):
            modal, link, tense, when = self.random.choice(MODALS)
            tail = _infinitive("en", verb[0], link[0]), _infinitive("fr", verb[1], link[1])
            return Clause(who, modal, tense, negative, name=name, tail=tail, when=when)
        tense, when = self.random.choice(TENSES)
        often = when == "present" and not negative and self.chance(0.3)
        adverb = self.word(ADVERBS) if often else NONE
        return Clause(who, verb, tense, negative, adverb, name=name, when=when)

    def transitive(self, negative: bool = False) -> Clause:
        shares = [len(_words(verbs)) for verbs in TRANSITIVE.values()]
        kinds = self.random.choices([*TRANSITIVE], shares)[0]
        verb = self.word(TRANSITIVE[kinds])
        (english, _, about), (french, _, à) = verb[0].partition(" "), verb[1].partition(" ")
        clause = self.act((english, french), negative)
        if "person" in kinds and not (about or clause.tail[0]) and self.chance(0.4):
            speaker = clause.who.person
            others = [p for p in (ME, YOU, HIM, HER, THEM) if p.person == 3 or p.person != speaker]
            return replace(clause, them=self.random.choice(others))
        some = DEFINITE if à or english in ("like", "hate", "know") else ""
        return _more(clause, self.noun(kinds, some, (about, à), clause)[0])

    def intransitive(self, negative: bool = False) -> Clause:
        verb = self.word(INTRANSITIVE)
        clause = self.act(verb, negative)
        place = self.place("in" if verb[0] in ANIMAL else "at")
        return _more(clause, place) if self.chance(0.4) else clause

    def motion(self, negative: bool = False) -> Clause:
        return _more(self.act(self.word(MOTION), negative), self.place("to"))

    def giving(self, negative: bool = False) -> Clause:
        clause = self.act(self.word(GIVING), negative)
        gift, _ = self.noun("thing food text clothing", of=clause)
        friend, _ = self.noun("person kin", DEFINITE, ("to", "à"), clause)
        return _more(clause, gift, friend)

    def deed(self, negative: bool = False) -> Clause:
        """What someone does, perhaps when."""
        kinds = self.transitive, self.intransitive, self.motion, self.giving
        clause = self.random.choices(kinds, (9, 4, 2, 2))[0](negative)
        if not clause.when or clause.adverb[0] or self.chance(0.6):
            return clause
        return _more(clause, self.word(TIMES[clause.when]))

    def being(self, negative: bool = False) -> Clause:
        """What or where something is."""
        kind = self.random.choice([kind for kind in NOUNS if _suiting(kind)])
        person = kind in ("person", "kin")
        name, who = self.subject() if person else self.noun(kind, DEFINITE)
        tense = self.random.choice(STATE_TENSES)
        clause = Clause(who, ("be", "être"), tense, negative, name=name)
        if person and self.chance(0.3):
            return replace(clause, verb=self.word("be=être live=habiter"), tail=self.place())
        if kind in ("animal", "food", "thing", "clothing", "text") and self.chance(0.5):
            near = self.random.choice([*RELATIONS])
            return _more(clause, self.noun(near, DEFINITE, self.word(RELATIONS[near]))[0])
        clause = replace(clause, adjective=self.random.choice(_suiting(kind)))
        if clause.adjective[0] not in SCALES.split() or self.chance(0.3):
            return clause
        than, _ = self.noun(kind, DEFINITE, ("than", "que"))
        if than[0] == f"than {name[0]}" or self.chance(0.4):
            return replace(clause, adverb=("very", "très"))
        return replace(clause, adverb=("more", "plus"), tail=than)

    def clause(self, negative: bool = False) -> Clause:
        return self.being(negative) if self.chance(0.25) else self.deed(negative)

    def statement(self) -> Pair:
        return _say(self.clause(negative=self.chance(0.25)))

    def belief(self) -> Pair:
        name, who = self.subject()
        that = _say(self.clause(), ("that", ""))
        return _say(Clause(who, self.word(BELIEF), name=name, tail=that))

    def presence(self) -> Pair:
        """That something is somewhere, or not, or whether it is."""
        negative, asked = self.random.choice(((False, False), (True, False), (False, True)))
        there = Clause(HIM, ("be", "y avoir"), self.random.choice(STATE_TENSES), negative)
        some = "a=un some=un" if negative else "a=un some=un #=# many=beaucoup_de"
        kind, at = self.random.choice((("person", "at"), ("animal", "in")))
        thing, who = self.noun(kind, some, of=there)
        there = _more(there, thing, self.place(at))
        say = _ask if asked else _say
        # The English verb agrees with what is there, the French one with an "il".
        return say(replace(there, who=who, name=("there", "")))[0], say(there)[1]

    def order(self) -> Pair:
        clause = self.deed(negative=self.chance(0.3))
        while (
            clause.when != "present"
            or clause.verb[0] in INVOLUNTARY
            or clause.adverb[0]
            or clause.them  # French would put it after the verb
        ):
            clause = self.deed(negative=self.chance(0.3))
        return _say(replace(clause, who=YOU, name=("please", "s'il vous plaît,")))

    def whether(self) -> Pair:
        return _ask(self.clause())

    def circumstance(self) -> Pair:
        """A question for where, when or why."""
        clause = self.transitive() if self.chance(0.5) else self.act(self.word(INTRANSITIVE))
        if not clause.when or clause.adverb[0]:
            return _ask(clause, ("why", "pourquoi est-ce"))
        return _ask(clause, self.word("where=où_est-ce when=quand_est-ce why=pourquoi_est-ce"))

    def doer(self) -> Pair:
        return _marked(_say(replace(self.deed(), who=HIM, name=("who", "qui"))))

    def what(self) -> Pair:
        """A question for an object: what, how many of them, or which."""
        things = [k for k in TRANSITIVE if not {"person", "staple", "drink"} & {*k.split()}]
        kinds = self.random.choice(things)
        clause, opener = self.act(self.word(TRANSITIVE[kinds])), ("what", "qu'est-ce")
        # After "combien" and "quel" the participle would have to agree with what they ask for.
        if clause.tense != PAST and self.chance(0.6):
            asked, _ = self.noun(kinds, "how_many=combien_de which=quel")
            opener = _join(asked, ("", "est-ce"))
        return _ask(clause, opener)

    def sentence(self) -> Pair:
        """Any sentence, as it is written."""
        questions = self.whether, self.circumstance, self.doer, self.what
        others = self.statement, self.belief, self.presence, self.order
        weights = (13, 6, 5, 6, 52, 7, 6, 5)
        english, french = self.random.choices((*questions, *others), weights)[0]()
        if not english.endswith("?"):
            english, french = f"{english}.", f"{french}."
        return english[0].upper() + english[1:], french[0].upper() + french[1:]


# ---- The corpus ---------------------------------------------------------------------------------


def generate(count: int = 20_000, seed: int = 0) -> list[Pair]:
    """Pairs of an English sentence and its French, none of them twice in either language.

    The same count, seed and pyrealb give the same pairs in the same order.

    Raises:
        ValueError: the grammar has not so many sentences.
    """
    rb = _library()
    before = rb.getLanguage(), rb.Constituent.exceptionOnWarning
    grammar, misses = _Grammar(seed), 0
    pairs, known = list[Pair](), set[str]()
    try:
        while len(pairs) < count:
            pair = grammar.sentence()
            if known.isdisjoint(pair) and all(3 <= len(s.split()) <= 12 for s in pair):
                pairs.append(pair)
                known.update(pair)
                misses = 0
            elif (misses := misses + 1) == 1000:
                raise ValueError(f"the demo grammar has no more than {len(pairs)} sentences")
    finally:
        rb.load(before[0])
        rb.Constituent.exceptionOnWarning = before[1]
    return pairs


def load(count: int = 20_000, seed: int = 0) -> list[Pair]:
    """What `generate` returns, kept on disk under S2S_CACHE or the user's cache directory.

    Raises:
        ValueError: the grammar has not so many sentences.
        OSError: the cache directory cannot be written.
    """
    grammar = Path(__file__).read_bytes() + importlib.metadata.version("pyrealb").encode()
    digest = hashlib.sha256(grammar).hexdigest()[:16]
    directory = Path(os.environ.get("S2S_CACHE") or platformdirs.user_cache_path("s2s"))
    path = directory / f"demo-{count}-{seed}-{digest}.json.gz"
    try:  # gzip ends in a checksum, so a file that reads is whole
        cached = json.loads(gzip.decompress(path.read_bytes()))
        return [(english, french) for english, french in cached]
    except (OSError, EOFError, zlib.error, ValueError):
        pairs = generate(count, seed)
    directory.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
    unfinished.write_bytes(gzip.compress(json.dumps(pairs).encode(), mtime=0))
    unfinished.replace(path)
    return pairs
