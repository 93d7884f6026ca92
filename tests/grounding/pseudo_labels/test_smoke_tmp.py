from core.grounding.pseudo_labels.scenes import *
from core.grounding.pseudo_labels.template import *
from core.grounding.pseudo_labels.vocabulary import load_vocabulary
from core.grounding.pseudo_labels.head_noun import *


def test_x():
    for t in [
        "A man in a red hat is riding two horses.",
        "a group of people standing in front of a bus",
        "there is a red flying bird on the grass",
        "close-up of women eating pizzas",
        "the red star left of the house",
        "a dog and a cat",
    ]:
        print(t, noun_phrases(t), head_phrase(t), head_words(t), entities(t))
    s = Scene(
        "a.jpg",
        640,
        480,
        (
            Detection("man", (10, 10, 200, 400), 0.9, "tall", 0.5),
            Detection("man", (300, 10, 500, 470), 0.8),
            Detection("hat", (60, 12, 120, 60), 0.7, "red", 0.6),
            Detection("dog", (500, 300, 620, 450), 0.95),
        ),
    )
    for l in all_phrases(s, load_vocabulary(), 3):
        print(l)
    assert 0
