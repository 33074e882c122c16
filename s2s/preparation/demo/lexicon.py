"""The words of the demo corpus: `english=french`, with an underscore for a space."""

from functools import cache

Pair = tuple[str, str]  # English, French
NONE: Pair = ("", "")


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
def entries(table: str) -> tuple[Pair, ...]:
    """Return the entries of a lexicon table."""
    entries = (entry.replace("_", " ").partition("=") for entry in table.split())
    return tuple((english, french) for english, _, french in entries)


@cache
def suiting(kind: str) -> tuple[Pair, ...]:
    """Return the adjectives that suit a kind of noun."""
    return tuple(
        w for kinds, ws in ADJECTIVES.items() if kind in kinds.split() for w in entries(ws)
    )
